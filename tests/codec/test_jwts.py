"""JSON Web Tokens: which are accepted, what they allow, and which key sets are refused."""

import base64
import json
import time
from dataclasses import replace
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from eudai_server.core.access import Scope
from eudai_server.core.call_limits import CallLimits
from eudai_server.core.credentials_file import CredentialsFileError
from eudai_server.rpc.access.jwts import ALGORITHMS, LEEWAY_S, JwtRules, Jwts
from jwt_signer import AUDIENCE, ISSUER, Signer, key_set

RULES = JwtRules(
    issuer=ISSUER,
    audience=AUDIENCE,
    scopes_claim="scope",
    models_claim="eudai_models",
    limits_claim="eudai_limits",
)
SIGNER = Signer("k1")


def jwts(*signers: Signer) -> Jwts:
    """What these keys verify."""
    return Jwts(key_set(*signers).encode(), RULES)


def encoded(part: dict[str, Any]) -> str:
    """A part of a token."""
    return base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode()


@pytest.mark.parametrize("algorithm", sorted(ALGORITHMS))
def test_each_algorithm_is_verified_with_its_key(algorithm: str) -> None:
    signer, other = Signer("a", algorithm), Signer("a", algorithm)
    principal = jwts(signer).find(signer.sign(), time.time())

    assert principal
    assert principal.name == "ada"
    assert principal.scopes == frozenset({Scope.GENERATE, Scope.EMBED})
    assert jwts(other).find(signer.sign(), time.time()) is None


@pytest.mark.parametrize(
    "changes",
    [
        {"exp": int(time.time()) - LEEWAY_S - 60},
        {"exp": None},
        {"exp": "soon"},
        {"exp": 10**400},
        {"nbf": int(time.time()) + 3600},
        {"iss": "https://evil.example"},
        {"iss": None},
        {"aud": "another"},
        {"aud": None},
        {"sub": None},
        {"sub": ""},
        {"sub": "two\nlines"},
        {"sub": "x" * 1000},
        {"headers": {"kid": "k2"}},
        {"headers": {"crit": ["x"], "x": 1}},
    ],
)
def test_a_wrong_claim_is_refused(changes: dict[str, Any]) -> None:
    assert jwts(SIGNER).find(SIGNER.sign(), time.time())
    assert jwts(SIGNER).find(SIGNER.sign(**changes), time.time()) is None


def test_a_token_cannot_choose_its_algorithm() -> None:
    header, claims, signature = SIGNER.sign().split(".")
    public = SIGNER.key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    unsigned = SIGNER.forge("none")
    wrong = [
        unsigned,
        f"{unsigned}{signature}",
        SIGNER.forge("HS256"),
        f"{encoded({'alg': 'ES384', 'kid': 'k1'})}.{claims}.{signature}",
        f"{header}.{encoded({'sub': 'root'})}.{signature}",
        f"{header}.{claims}.",
        jwt.utils.base64url_encode(public).decode(),
    ]

    for token in [*wrong, "", ".", "..", "a.b.c", "[" * 10_000, "é"]:
        assert jwts(SIGNER).find(token, time.time()) is None, token[:80]


def test_claims_limit_scopes_and_models() -> None:
    token = SIGNER.sign(scope=["models.read", "root", 3], eudai_models=["gemma3:*"])
    principal = jwts(SIGNER).find(token, time.time())
    nothing = jwts(SIGNER).find(SIGNER.sign(scope=None, eudai_models={}), time.time())

    assert principal
    assert principal.scopes == frozenset({Scope.MODELS_READ})
    assert principal.models.allow("gemma3:270m")
    assert not principal.models.allow("llama3.2:1b")
    assert nothing
    assert nothing.scopes == frozenset()
    assert not nothing.models.allow("gemma3:270m")


def test_a_claim_sets_limits_and_an_invalid_one_refuses_the_token() -> None:
    limited = jwts(SIGNER).find(SIGNER.sign(eudai_limits={"calls_at_once": 2}), time.time())

    assert limited
    assert limited.limits == CallLimits(calls_at_once=2)
    invalid: list[Any] = [{"calls_at_once": True}, {"calls_at_once": "2"}, {"x": 1}, [], "2", 2]
    for claim in invalid:
        assert jwts(SIGNER).find(SIGNER.sign(eudai_limits=claim), time.time()) is None, claim


def test_the_operator_names_the_claims() -> None:
    rules = replace(RULES, scopes_claim="https://x.example/rights", models_claim="m")
    claims: dict[str, Any] = {"https://x.example/rights": "embed", "m": "gemma3"}
    token = SIGNER.sign(**claims)
    principal = Jwts(key_set(SIGNER).encode(), rules).find(token, time.time())

    assert principal
    assert principal.scopes == frozenset({Scope.EMBED})
    assert principal.models.patterns == ("gemma3",)


def test_a_remembered_token_expires_and_ends_with_its_key() -> None:
    old, new = Signer("old"), Signer("new")
    both, rotated = jwts(old, new), jwts(new)
    token = old.sign()
    principal = both.find(token, time.time())

    assert principal
    assert both.find(token, time.time()) == principal
    assert both.find(token, time.time() + 600 + LEEWAY_S) is None
    assert both.has(principal, time.time())
    assert not both.has(principal, time.time() + 600 + LEEWAY_S)
    assert not rotated.has(principal, time.time())
    assert rotated.find(token, time.time()) is None


SECRET = {"kty": "oct", "k": "c2VjcmV0", "kid": "s"}
PRIVATE = json.loads(jwt.algorithms.ECAlgorithm.to_jwk(SIGNER.key))


def test_the_id_of_a_key_may_be_anything_but_only_a_text_is_found() -> None:
    strange = json.dumps({"keys": [SIGNER.public | {"kid": ["k1"]}]}).encode()

    assert Jwts(strange, RULES).find(SIGNER.sign(), time.time()) is None


@pytest.mark.parametrize(
    "data",
    [
        "",
        "[]",
        "null",
        "{}",
        '{"keys": []}',
        '{"keys": [1]}',
        '{"keys": {"a": 1}}',
        '{"keys": [{"kty": "RSA"}]}',
        json.dumps({"keys": [SECRET]}),
        json.dumps({"keys": [PRIVATE]}),
        json.dumps({"keys": [SIGNER.public, SIGNER.public]}),
        json.dumps({"keys": [SIGNER.public, {**SIGNER.public, "kid": ""}]}),
        "[" * 100_000,
    ],
)
def test_an_invalid_key_set_is_refused(data: str) -> None:
    with pytest.raises(CredentialsFileError):
        Jwts(data.encode(), RULES)
