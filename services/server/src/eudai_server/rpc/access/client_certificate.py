"""Finds the name of a workload in its client certificate, and judges whether it may call."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from eudai_server.core.errors import Reason, ServiceError

NAME_CHARS_MAX = 256

# The scheme, a trust domain and a path, as the SPIFFE specification limits them: no escapes, and no
# segments that are empty or consist of dots.
_SPIFFE_ID = re.compile(r"spiffe://[a-z0-9._-]+(?:/(?!\.{1,2}(?:/|$))[A-Za-z0-9._-]+)*")

# gRPC lists the values of each property.
AuthContext = Mapping[str, Iterable[bytes]]


@dataclass(frozen=True, slots=True)
class WorkloadNames:
    """The names of the workloads that may call.

    A pattern is a whole name, or `spiffe://domain/path/*` for all SPIFFE ids below a path.
    """

    patterns: tuple[str, ...]

    def __post_init__(self) -> None:
        """Raise ValueError for an invalid pattern."""
        for pattern in self.patterns:
            prefix = pattern.removesuffix("/*")
            is_prefix = prefix != pattern
            if not prefix or "*" in prefix or (is_prefix and not _SPIFFE_ID.fullmatch(prefix)):
                raise ValueError(
                    "must be names separated by commas, such as build.example.org, "
                    "spiffe://example.org/ns/prod/sa/chat or spiffe://example.org/ns/prod/*"
                )

    def allow(self, name: str) -> bool:
        """Whether a workload of this name may call."""
        prefixes = tuple(pattern[:-1] for pattern in self.patterns if pattern.endswith("/*"))
        if name.startswith(prefixes):
            return _SPIFFE_ID.fullmatch(name) is not None
        return name in self.patterns


def workload_in(context: AuthContext) -> str:
    """The first URI in the certificate, such as a SPIFFE id, or else its first DNS name.

    Empty if there is no certificate. The common name is never used, because CAs do not check it.
    Raises UNAUTHENTICATED if the certificate has no name.
    """
    if "x509_pem_cert" not in context:
        return ""
    names = [*context.get("peer_uri", ()), *context.get("peer_dns", ())]
    name = names[0].decode("ascii", "replace") if names else ""
    if not name or len(name) > NAME_CHARS_MAX or not name.isprintable():
        raise ServiceError(
            Reason.UNAUTHENTICATED,
            "the client certificate must have a URI or a DNS name of at most "
            f"{NAME_CHARS_MAX} characters as its subject alternative name",
        )
    return name
