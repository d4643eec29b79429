"""Finds the principal of a call by its metadata."""

import re
import time
from collections.abc import Iterable, Sequence
from dataclasses import replace

from eudai_server.core.access import ALL_SCOPES, NOBODY, Principal, Scope
from eudai_server.core.call_limits import UNLIMITED, CallLimits
from eudai_server.core.credentials_file import CredentialsFile
from eudai_server.core.errors import Reason, ServiceError
from eudai_server.rpc.access.client_certificate import WorkloadNames
from eudai_server.rpc.access.credentials import Credentials
from eudai_server.rpc.access.rate_limiter import RateLimiter

AUTHORIZATION_METADATA = "authorization"
# A peer may present this many wrong credentials at once, and one more after each further second.
# Guessing a token is hopeless anyway; this bounds the log and the work.
FAILURES_MAX = 20
RECOVERY_S = 1.0
_BEARER = re.compile(r"bearer +([\x21-\x7e]+) *", re.IGNORECASE)

Metadata = Iterable[tuple[str, str | bytes]]


class Authenticator:
    """Judges credentials by the configuration of one server."""

    def __init__(
        self,
        files: Sequence[CredentialsFile[Credentials]] = (),
        anonymous: frozenset[Scope] | None = None,
        *,
        needs_certificates: bool = False,
        workload_names: WorkloadNames | None = None,
        limits: CallLimits = UNLIMITED,
    ) -> None:
        """`anonymous` is what a caller without a token may do.

        None means everything if there are no `files` of credentials, and nothing otherwise. If
        clients need certificates, it means nothing for a caller without one, who can reach only the
        health address. `workload_names` are the names of which a certificate must have one; None:
        any. `limits` are those of callers whose credential has none.
        """
        self.needs_certificates = needs_certificates
        self._workload_names = workload_names
        self._files = files
        self._limits = limits
        if anonymous is None:
            self._workload = Principal(scopes=frozenset() if files else ALL_SCOPES)
            self._stranger = NOBODY if needs_certificates else self._workload
        else:
            self._workload = self._stranger = Principal(scopes=anonymous)
        self._failures = RateLimiter()

    def authenticate(self, metadata: Metadata, peer: str, workload: str = "") -> Principal:
        """The principal of a call. `peer` is the address that it came from.

        `workload` is the name in the client's certificate, if it presented one: the principal of a
        call without a token. Raises UNAUTHENTICATED for a token that is not valid or a workload
        that may not call, and QUOTA_EXCEEDED if the peer presented too many such tokens.
        """
        if workload and self._workload_names and not self._workload_names.allow(workload):
            raise ServiceError(
                Reason.UNAUTHENTICATED,
                "this server does not accept the workload that the client certificate names",
            )
        values = [value for name, value in metadata if name == AUTHORIZATION_METADATA]
        if not values or not self._files:
            return replace(self._workload, name=workload) if workload else self._stranger
        wait_s = self._failures.wait_s(peer, FAILURES_MAX, RECOVERY_S)
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
            self._failures.add(peer, RECOVERY_S)
            raise _unauthenticated("the credential is not valid: it is unknown or has expired")
        return principal

    def authorize(self, principal: Principal, scope: Scope) -> None:
        """Raise UNAUTHENTICATED or SCOPE_MISSING if the principal lacks the scope."""
        if not (principal.credential_id or principal.scopes):
            raise _unauthenticated("the call has no credential")
        principal.require_scope(scope)

    def limits_of(self, principal: Principal) -> CallLimits:
        """What the principal may use."""
        return principal.limits.over(self._limits)

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
