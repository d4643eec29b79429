"""Finds the principal of a call by its metadata."""

import re
import time
from collections.abc import Iterable, Sequence
from dataclasses import replace

from eudai_server.core.access import ALL_SCOPES, Principal, Scope
from eudai_server.core.errors import Reason, ServiceError
from eudai_server.rpc.access.credentials_file import CredentialsFile
from eudai_server.rpc.access.failure_throttle import FailureThrottle

AUTHORIZATION_METADATA = "authorization"
_BEARER = re.compile(r"bearer +([\x21-\x7e]+) *", re.IGNORECASE)

Metadata = Iterable[tuple[str, str | bytes]]


class Authenticator:
    """Judges credentials by the configuration of one server."""

    def __init__(
        self,
        files: Sequence[CredentialsFile] = (),
        anonymous: frozenset[Scope] | None = None,
        *,
        names_workloads: bool = False,
    ) -> None:
        """`names_workloads` is whether clients present certificates.

        `anonymous` is what a caller without a token may do. None means everything if there are no
        `files` of credentials, and nothing otherwise.
        """
        self.names_workloads = names_workloads
        self._files = files
        if anonymous is None:
            anonymous = frozenset() if files else ALL_SCOPES
        self._stranger = Principal(scopes=anonymous)
        self._throttle = FailureThrottle()

    def authenticate(self, metadata: Metadata, peer: str, workload: str = "") -> Principal:
        """The principal of a call. `peer` is the address that it came from.

        `workload` is the name in the client's certificate, if it presented one: the principal of a
        call without a token. Raises UNAUTHENTICATED for a token that is not valid, and
        QUOTA_EXCEEDED if the peer presented too many of them.
        """
        values = [value for name, value in metadata if name == AUTHORIZATION_METADATA]
        if not values or not self._files:
            return replace(self._stranger, name=workload) if workload else self._stranger
        wait_s = self._throttle.wait_s(peer)
        if wait_s:
            raise ServiceError(
                Reason.QUOTA_EXCEEDED,
                "too many calls from this address had a credential that is not valid; "
                "correct it, and retry later",
                retry_after_s=wait_s,
            )
        match = _BEARER.fullmatch(str(values[0])) if len(values) == 1 else None
        principal = self._find(match[1]) if match else None
        if not principal:
            self._throttle.record(peer)
            raise _unauthenticated("the credential is not valid: it is unknown or has expired")
        return principal

    def authorize(self, principal: Principal, scope: Scope) -> None:
        """Raise UNAUTHENTICATED or SCOPE_MISSING if the principal lacks the scope."""
        if not (principal.credential_id or principal.scopes):
            raise _unauthenticated("the call has no credential")
        principal.require_scope(scope)

    def is_current(self, principal: Principal) -> bool:
        """Whether the credential of a running call is still valid."""
        if not principal.credential_id:
            return True
        return any(file.credentials.has(principal, time.time()) for file in self._files)

    def _find(self, text: str) -> Principal | None:
        now_s = time.time()
        found = (file.credentials.find(text, now_s) for file in self._files)
        return next(filter(None, found), None)


def _unauthenticated(what: str) -> ServiceError:
    return ServiceError(
        Reason.UNAUTHENTICATED, f"{what}; send the metadata authorization: Bearer <token>"
    )
