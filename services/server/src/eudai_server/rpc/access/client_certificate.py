"""Finds the name of a workload in its client certificate, as gRPC reports it."""

from collections.abc import Iterable, Mapping

from eudai_server.core.errors import Reason, ServiceError

NAME_CHARS_MAX = 256

# gRPC lists the values of each property.
AuthContext = Mapping[str, Iterable[bytes]]


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
