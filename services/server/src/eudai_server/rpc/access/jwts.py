"""JSON Web Tokens of an identity provider, verified with the keys in a JWKS file.

PyJWT verifies them. What this module decides is which algorithms and claims count: the algorithm
comes from the key and never from the token, and only asymmetric ones are accepted, so that nobody
can sign with the public key or leave the signature out.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jwt

from eudai_server.core.access import ALL_MODELS, ModelPatterns, Principal, Scope
from eudai_server.core.call_limits import UNLIMITED, limits_from
from eudai_server.core.credentials_file import CredentialsFileError

ALGORITHMS = frozenset(
    {"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"}
)
KEYS_MAX = 100
# Distinguishes the id of a key from that of a token in the tokens file.
KEY_PREFIX = "key "
# How far the clocks of the provider and of this server may differ.
LEEWAY_S = 30
# Verified tokens are remembered until they expire, because a signature costs more than the rest of
# the check.
VERIFIED_MAX = 4096
NAME_CHARS_MAX = 256
PATTERNS_MAX = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class JwtRules:
    """What a token must say, and which of its claims give rights."""

    issuer: str
    audience: str
    # A list of names, or one text with names separated by spaces. Other names are ignored.
    scopes_claim: str
    # A list of patterns of models; without this claim, all models are allowed.
    models_claim: str
    # An object with the names of CallLimits.
    limits_claim: str


class Jwts:
    """Credentials that one version of a key set verifies."""

    def __init__(self, data: bytes, rules: JwtRules) -> None:
        """`data` is the JWKS file. Raises CredentialsFileError."""
        self._keys = _keys_in(data)
        self._rules = rules
        # By the SHA-256 of the token, because a token may be long.
        self._verified: dict[bytes, Principal] = {}

    def find(self, text: str, now_s: float) -> Principal | None:
        """See `Credentials.find`."""
        digest = hashlib.sha256(text.encode()).digest()
        principal = self._verified.get(digest)
        if principal is None:
            principal = self._verify(text)
            if principal is None:
                return None
            if len(self._verified) >= VERIFIED_MAX:
                del self._verified[next(iter(self._verified))]
            self._verified[digest] = principal
        return principal if now_s < principal.expires_s else None

    def has(self, principal: Principal, now_s: float) -> bool:
        """See `Credentials.has`. A token ends with its key."""
        key_id = principal.credential_id.removeprefix(KEY_PREFIX)
        is_ours = principal.credential_id.startswith(KEY_PREFIX)
        return is_ours and key_id in self._keys and now_s < principal.expires_s

    def _verify(self, text: str) -> Principal | None:
        try:
            key_id = jwt.get_unverified_header(text).get("kid", "")
            key = self._keys.get(key_id) if isinstance(key_id, str) else None
            if key is None:
                return None
            claims = jwt.decode(
                text,
                key.key,
                algorithms=[key.algorithm_name],
                issuer=self._rules.issuer,
                audience=self._rules.audience,
                leeway=LEEWAY_S,
                options={"require": ["exp", "iss", "aud", "sub"]},
            )
            return self._principal_from(claims, key_id)
        except (jwt.PyJWTError, ValueError, TypeError, OverflowError, RecursionError):
            return None

    def _principal_from(self, claims: Mapping[str, Any], key_id: str) -> Principal | None:
        name = claims["sub"]
        if not (isinstance(name, str) and 0 < len(name) <= NAME_CHARS_MAX and name.isprintable()):
            return None
        scopes = _names_in(claims.get(self._rules.scopes_claim, ()))
        models = ALL_MODELS
        if self._rules.models_claim in claims:
            models = ModelPatterns(_names_in(claims[self._rules.models_claim])[:PATTERNS_MAX])
        limits = UNLIMITED
        if self._rules.limits_claim in claims:
            limits = limits_from(claims[self._rules.limits_claim])
        return Principal(
            name=name,
            credential_id=f"{KEY_PREFIX}{key_id}",
            expires_s=float(claims["exp"]) + LEEWAY_S,
            scopes=frozenset(scope for scope in Scope if scope in scopes),
            models=models,
            limits=limits,
        )


def _names_in(claim: object) -> list[str]:
    """The names in a claim, which is a list or a text with spaces."""
    names = claim.split() if isinstance(claim, str) else claim
    if not isinstance(names, list | tuple):
        return []
    return [name for name in names if isinstance(name, str)]


def _keys_in(data: bytes) -> Mapping[str, jwt.PyJWK]:
    """The keys by their ids. Raises CredentialsFileError."""
    try:
        described = json.loads(data)["keys"]
        keys = [
            (str(description.get("kid", "")), jwt.PyJWK(description)) for description in described
        ]
    except (jwt.PyJWTError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise CredentialsFileError("is not a valid JWKS file") from None
    if any("d" in description for description in described):
        raise CredentialsFileError("has a private key; it needs public keys only")
    if not 1 <= len(keys) <= KEYS_MAX:
        raise CredentialsFileError(f"must have 1 to {KEYS_MAX} keys")
    for key_id, key in keys:
        if key.algorithm_name not in ALGORITHMS:
            raise CredentialsFileError(
                f"has the key {key_id!r}, whose algorithm is not one of "
                f"{', '.join(sorted(ALGORITHMS))}"
            )
    by_id = dict(keys)
    if len(by_id) < len(keys) or (len(keys) > 1 and "" in by_id):
        raise CredentialsFileError("has keys that share an id (kid), or have none")
    return by_id
