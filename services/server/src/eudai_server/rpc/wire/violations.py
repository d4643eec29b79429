"""Collects the violations of a request, and finds those of digests. No I/O."""

import re
from collections.abc import Iterable, Iterator
from itertools import islice

from eudai_server.core.errors import VIOLATIONS_MAX, InvalidRequestError, Violation

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


def require(violations: Iterable[Violation]) -> None:
    """Raise InvalidRequestError if there are violations. Stops at the limit of violations."""
    found = list(islice(violations, VIOLATIONS_MAX + 1))
    if found:
        raise InvalidRequestError(found)


def digest_violations(field: str, digest: str) -> Iterator[Violation]:
    """The violations of a digest."""
    if not _DIGEST.fullmatch(digest):
        yield Violation(field, 'must be "sha256:" and 64 hexadecimal digits, in lower case')
