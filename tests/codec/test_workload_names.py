"""Which names in client certificates match the patterns of EUDAI_TLS_CLIENT_NAMES."""

import pytest
from eudai_server.rpc.access.client_certificate import WorkloadNames


@pytest.mark.parametrize(
    ("name", "allowed"),
    [
        ("spiffe://example.org/ns/prod/chat", True),
        ("spiffe://example.org/ns/prod/sa/chat", True),
        ("spiffe://example.org/exact", True),
        ("b.example", True),
        ("spiffe://example.org/exact/below", False),
        ("spiffe://example.org/ns/prod", False),
        ("spiffe://example.org/ns/prod/", False),
        ("spiffe://example.org/ns/prod-evil/chat", False),
        ("spiffe://example.org/ns/prod/../test", False),
        ("spiffe://example.org/ns/prod/.", False),
        ("spiffe://example.org/ns/prod//chat", False),
        ("spiffe://example.org/ns/prod/%2e%2e/test", False),
        ("spiffe://example.org/ns/prod/chat?x", False),
        ("spiffe://example.org/ns/prod/*", False),
        ("spiffe://EXAMPLE.org/ns/prod/chat", False),
        ("spiffe://example.org.evil/ns/prod/chat", False),
        ("spiffe://user@example.org/ns/prod/chat", False),
        ("c.b.example", False),
        ("", False),
    ],
)
def test_a_workload_name_matches_whole_segments(name: str, *, allowed: bool) -> None:
    patterns = ("spiffe://example.org/ns/prod/*", "spiffe://example.org/exact", "b.example")

    assert WorkloadNames(patterns).allow(name) is allowed
