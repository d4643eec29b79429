"""Bearer tokens for small teams, in a file that holds only their hashes.

A token is `eudai_<id>_<secret>_<checksum>`. The id finds its entry. The secret has 256 random bits,
so a plain SHA-256 is enough to store it. The checksum lets scanners of source code recognize
a token without asking a server.
"""

import hashlib
import hmac
import math
import re
import secrets
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from types import MappingProxyType

import msgspec

from eudai_server.core.access import ModelPatterns, Principal, Scope, scopes_from
from eudai_server.core.call_limits import limits_from
from eudai_server.core.credentials_file import CredentialsFileError

ID_CHARS = 12
SECRET_BYTES = 32
TOKENS_MAX = 10_000

_TOKEN = re.compile(r"eudai_(?P<id>[0-9a-f]{12})_[0-9a-f]{64}_[0-9a-f]{8}")
# Compared with if a token's id is unknown, so that unknown ids take as long as known ones.
_NO_HASH = "0" * 64


class Entry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One token in the file."""

    id: str
    name: str
    # In hexadecimal digits, of the whole token.
    sha256: str
    scopes: tuple[str, ...]
    models: tuple[str, ...] = ("*",)
    # By the names of CallLimits.
    limits: Mapping[str, int] = {}
    created: datetime
    # None: it never expires.
    expires: datetime | None = None


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    tokens: tuple[Entry, ...] = ()


@dataclass(frozen=True, slots=True)
class _Token:
    sha256: str
    principal: Principal


class Tokens:
    """The valid tokens of one version of the file."""

    def __init__(self, entries: Iterable[Entry] = ()) -> None:
        """`entries` are checked already, by `entries_from`."""
        self._tokens: Mapping[str, _Token] = {entry.id: _token_from(entry) for entry in entries}

    def find(self, text: str, now_s: float) -> Principal | None:
        """See `Credentials.find`."""
        match = _TOKEN.fullmatch(text)
        token = self._tokens.get(match["id"]) if match else None
        known = token.sha256 if token else _NO_HASH
        is_same = hmac.compare_digest(hashlib.sha256(text.encode()).hexdigest(), known)
        return token.principal if token and is_same and now_s < token.principal.expires_s else None

    def has(self, principal: Principal, now_s: float) -> bool:
        """See `Credentials.has`."""
        token = self._tokens.get(principal.credential_id)
        return token is not None and token.principal == principal and now_s < principal.expires_s


def new_token() -> tuple[str, str]:
    """A token's id and the token."""
    token_id = secrets.token_hex(ID_CHARS // 2)
    text = f"eudai_{token_id}_{secrets.token_hex(SECRET_BYTES)}"
    return token_id, f"{text}_{zlib.crc32(text.encode()):08x}"


def entry_for(
    token_id: str,
    token: str,
    *,
    name: str,
    scopes: Iterable[Scope],
    models: Iterable[str],
    expires: datetime | None,
    limits: Mapping[str, int] = MappingProxyType({}),
) -> Entry:
    """The entry of a new token."""
    return Entry(
        id=token_id,
        name=name,
        sha256=hashlib.sha256(token.encode()).hexdigest(),
        scopes=tuple(sorted(scopes)),
        models=tuple(models),
        limits=dict(limits),
        created=datetime.now(UTC).replace(microsecond=0),
        expires=expires,
    )


def entries_from(data: bytes) -> tuple[Entry, ...]:
    """The entries of a file. Raises CredentialsFileError."""
    try:
        entries = msgspec.json.decode(data, type=_File).tokens
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise CredentialsFileError(f"is not a valid tokens file: {error}") from None
    if len(entries) > TOKENS_MAX:
        raise CredentialsFileError(f"has more than {TOKENS_MAX} tokens")
    _check_unique("ids", [entry.id for entry in entries])
    _check_unique("names", [entry.name for entry in entries])
    for entry in entries:
        _check(entry)
    return entries


def data_from(entries: Iterable[Entry]) -> bytes:
    """The content of a file."""
    return msgspec.json.format(msgspec.json.encode(_File(tuple(entries))), indent=2) + b"\n"


def _check(entry: Entry) -> None:
    where = f"has the token {entry.id!r}, whose"
    if not re.fullmatch(r"[0-9a-f]{12}", entry.id):
        raise CredentialsFileError(f"{where} id is not {ID_CHARS} hexadecimal digits")
    if not re.fullmatch(r"[\w.@-]{1,64}", entry.name, re.ASCII):
        raise CredentialsFileError(
            f"{where} name is not 1 to 64 letters, digits and the characters . _ @ -"
        )
    if not re.fullmatch(r"[0-9a-f]{64}", entry.sha256):
        raise CredentialsFileError(f"{where} sha256 is not 64 hexadecimal digits")
    if entry.expires and entry.expires.tzinfo is None:
        raise CredentialsFileError(f"{where} expiry has no time zone")
    try:
        scopes_from(entry.scopes)
    except ValueError as error:
        raise CredentialsFileError(f"{where} scopes {error}") from None
    try:
        limits_from(entry.limits)
    except ValueError as error:
        raise CredentialsFileError(f"{where} limits {error}") from None


def _check_unique(what: str, values: list[str]) -> None:
    if len(set(values)) < len(values):
        raise CredentialsFileError(f"has tokens with equal {what}")


def _token_from(entry: Entry) -> _Token:
    principal = Principal(
        name=entry.name,
        credential_id=entry.id,
        scopes=scopes_from(entry.scopes),
        models=ModelPatterns(entry.models),
        limits=limits_from(entry.limits),
        expires_s=entry.expires.timestamp() if entry.expires else math.inf,
    )
    return _Token(entry.sha256, principal)
