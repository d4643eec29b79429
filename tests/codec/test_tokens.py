"""Tokens: their format, the file that holds their hashes, and the patterns of models."""

import json
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from eudai_server.core.access import ModelPatterns, Scope
from eudai_server.core.call_limits import UNLIMITED, CallLimits
from eudai_server.core.credentials_file import CredentialsFileError
from eudai_server.rpc.access import rate_limiter
from eudai_server.rpc.access.rate_limiter import RateLimiter
from eudai_server.rpc.access.tokens import (
    Entry,
    Tokens,
    data_from,
    entries_from,
    entry_for,
    new_token,
)
from eudai_server.token_command import run

NOW = datetime(2026, 11, 26, tzinfo=UTC)
ENTRY = {
    "id": "0123456789ab",
    "name": "ci",
    "sha256": "0" * 64,
    "scopes": ["generate"],
    "created": "2026-11-26T00:00:00Z",
}


def issued(name: str = "ci", expires: datetime | None = None) -> tuple[Entry, str]:
    """A new token, and its entry."""
    token_id, token = new_token()
    scopes = [Scope.GENERATE]
    return (
        entry_for(token_id, token, name=name, scopes=scopes, models=["*"], expires=expires),
        token,
    )


def test_a_token_finds_its_principal() -> None:
    entry, token = issued()
    other, _ = issued("other")
    principal = Tokens([other, entry]).find(token, NOW.timestamp())

    assert principal
    assert (principal.name, principal.scopes) == ("ci", frozenset({Scope.GENERATE}))


def test_a_token_has_256_random_bits_and_is_not_stored() -> None:
    entry, token = issued()

    assert re.fullmatch(r"eudai_[0-9a-f]{12}_[0-9a-f]{64}_[0-9a-f]{8}", token)
    assert token.split("_")[2] not in data_from([entry]).decode()
    assert len({issued()[1] for _ in range(100)}) == 100


@pytest.mark.parametrize("change", ["", "x", " ", "\n", "\0"])
def test_a_changed_token_is_unknown(change: str) -> None:
    entry, token = issued()
    tokens = Tokens([entry])
    wrong = [token + change, token[:-1], token.upper(), token.replace("eudai", "other")]
    secret = token.split("_")[2]
    wrong.append(token.replace(secret, "0" * 64))

    assert tokens.find(token, NOW.timestamp())
    for text in wrong:
        assert text == token or tokens.find(text, NOW.timestamp()) is None


def test_a_token_expires() -> None:
    entry, token = issued(expires=NOW)
    tokens = Tokens([entry])
    principal = tokens.find(token, NOW.timestamp() - 1)

    assert principal
    assert tokens.has(principal, NOW.timestamp() - 1)
    assert not tokens.has(principal, NOW.timestamp())
    assert tokens.find(token, NOW.timestamp()) is None


def test_the_file_is_read_as_it_was_written() -> None:
    entries = tuple(issued(f"name-{number}", NOW)[0] for number in range(3))

    assert entries_from(data_from(entries)) == entries


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"id": "short"}, "id is not 12 hexadecimal digits"),
        ({"sha256": "secret"}, "sha256 is not 64"),
        ({"scopes": []}, "must be scopes"),
        ({"scopes": ["root"]}, "must be scopes"),
        ({"name": "two\nlines"}, "name is not 1 to 64"),
        ({"expires": "2026-11-26T00:00:00"}, "expiry has no time zone"),
        ({"expires": "soon"}, "not a valid tokens file"),
        ({"secret": "x"}, "not a valid tokens file"),
        ({"scopes": "generate"}, "not a valid tokens file"),
    ],
)
def test_an_invalid_entry_is_refused(changes: dict[str, object], complaint: str) -> None:
    data = json.dumps({"tokens": [ENTRY | changes]}).encode()

    assert entries_from(json.dumps({"tokens": [ENTRY]}).encode())
    with pytest.raises(CredentialsFileError, match=complaint):
        entries_from(data)


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"null", b'{"tokens": null}'])
def test_an_invalid_file_is_refused(data: bytes) -> None:
    with pytest.raises(CredentialsFileError):
        entries_from(data)


def test_equal_ids_and_names_are_refused() -> None:
    for other in ({"name": "other"}, {"id": "ba9876543210"}):
        with pytest.raises(CredentialsFileError, match="equal"):
            entries_from(json.dumps({"tokens": [ENTRY, ENTRY | other]}).encode())


@pytest.mark.parametrize(
    ("pattern", "key", "allowed"),
    [
        ("*", "hf.co/org/repo:q4", True),
        ("gemma3:*", "gemma3:270m", True),
        ("Gemma3:*", "gemma3:270m", True),
        ("gemma3", "gemma3:latest", True),
        ("gemma3", "gemma3:270m", False),
        ("gemma3:*", "gemma3n:e2b", False),
        ("gemma3:*", "evil.example/gemma3:270m", False),
        ("gemma3:*", "evil/gemma3:270m", False),
        ("gemma3:270m", "xgemma3:270m", False),
        ("gemma3:270m", "gemma3:270m\n", False),
        ("hf.co/org/*", "hf.co/org/repo:q4", True),
        ("hf.co/org/*", "hf.co/organisation/repo:q4", False),
        ("[ab]:*", "a:latest", True),
    ],
)
def test_a_pattern_matches_whole_names(pattern: str, key: str, *, allowed: bool) -> None:
    assert ModelPatterns([pattern]).allow(key) is allowed
    assert not ModelPatterns([]).allow(key)


def test_a_key_that_comes_too_often_must_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    now_s = 1000.0
    monkeypatch.setattr("time.monotonic", lambda: now_s)
    limiter = RateLimiter()
    for _ in range(20):
        assert limiter.wait_s("a", 20, 1.0) == 0
        limiter.add("a", 1.0)

    assert limiter.wait_s("a", 20, 1.0) == 1
    assert limiter.wait_s("b", 20, 1.0) == 0
    now_s += 1
    assert limiter.wait_s("a", 20, 1.0) == 0


def test_a_rate_limiter_forgets_old_keys() -> None:
    limiter = RateLimiter()
    limiter.add("first", 60.0)
    assert limiter.wait_s("first", 1, 60.0) > 0
    for number in range(rate_limiter.KEYS_MAX):
        limiter.add(str(number), 60.0)

    assert limiter.wait_s("first", 1, 60.0) == 0


def test_limits_that_a_credential_lacks_are_those_of_the_server() -> None:
    own = CallLimits(calls_at_once=1, output_tokens=10)
    default = CallLimits(calls_at_once=5, call_seconds=60)

    merged = CallLimits(calls_at_once=1, output_tokens=10, call_seconds=60)
    assert own.over(default) == merged
    assert own.over(UNLIMITED) is own
    assert UNLIMITED.over(default) is default


@pytest.mark.parametrize(
    "limits", [{"calls": 1}, {"calls_at_once": 0}, {"calls_at_once": 10**7}, {"output_tokens": -1}]
)
def test_a_token_with_invalid_limits_is_refused(limits: dict[str, int]) -> None:
    token_id, token = new_token()
    entry = entry_for(
        token_id, token, name="ci", scopes=[Scope.EMBED], models=["*"], expires=None, limits=limits
    )
    with pytest.raises(CredentialsFileError, match="limits must"):
        entries_from(data_from([entry]))


def test_the_command_creates_lists_and_revokes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "tokens.json"
    env = {"EUDAI_TOKENS_FILE": str(path)}
    options = ["--scopes", "generate,models.read", "--models", "gemma3:*", "--expires", "90d"]
    options += ["--calls-at-once", "4", "--output-tokens", "1000"]

    assert run(["new", "--name", "ci", *options], env) == 0
    token = capsys.readouterr().out.strip()
    [entry] = entries_from(path.read_bytes())
    assert path.stat().st_mode & 0o777 == 0o600
    assert entry.models == ("gemma3:*",)
    assert entry.limits == {"calls_at_once": 4, "output_tokens": 1000}
    assert entry.expires
    assert timedelta(days=89) < entry.expires - datetime.now(UTC) < timedelta(days=91)
    assert Tokens([entry]).find(token, NOW.timestamp())

    assert run(["new", "--name", "ci", *options], env) == 1
    assert "equal names" in capsys.readouterr().err
    assert run(["list"], env) == 0
    listed = capsys.readouterr().out
    assert f"{entry.id}\tci\tgenerate,models.read\tgemma3:*\tcalls_at_once=4," in listed
    assert token not in listed
    assert run(["revoke", "ci"], env) == 0
    assert entries_from(path.read_bytes()) == ()
    assert run(["revoke", "ci"], env) == 1
    assert "has no token 'ci'" in capsys.readouterr().err


def test_the_command_needs_a_file(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["list"], {}) == 1
    assert "EUDAI_TOKENS_FILE" in capsys.readouterr().err


@pytest.mark.parametrize(
    "options",
    [
        ["--scopes", "root"],
        ["--scopes", ""],
        ["--scopes", "generate", "--expires", "0d"],
        ["--scopes", "generate", "--expires", "1y"],
        ["--scopes", "generate", "--call-seconds", "0"],
        ["--scopes", "generate", "--call-seconds", "1m"],
    ],
)
def test_the_command_refuses_invalid_options(
    options: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        run(["new", "--name", "ci", *options], {"EUDAI_TOKENS_FILE": str(tmp_path / "t")})

    assert "must be" in capsys.readouterr().err
