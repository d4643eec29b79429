"""Known flaws of Ollama, by the version that fixed them.

Only flaws that a caller or a model file can use are listed. Those without a fixed version are not:
isolation is the protection against them (SECURITY.md).
"""

import re
from collections.abc import Mapping

Version = tuple[int, int, int]

# The newest last.
FIXED_IN: Mapping[Version, str] = {
    (0, 1, 34): "CVE-2024-37032",
    (0, 1, 47): "CVE-2024-39720, CVE-2024-39722 and CVE-2024-45436",
    (0, 17, 1): "CVE-2026-7482",
    (0, 20, 3): "CVE-2026-7020",
}
_VERSION = re.compile(r"v?(\d{1,6})\.(\d{1,6})\.(\d{1,6})(-rc\d+)?(?:[-+].*)?", re.ASCII)


def flaw_of(version: str) -> str:
    """What is wrong with a version of Ollama, and what to do; empty if nothing is known.

    A release candidate counts as older than its release. 0.0.0, which a build without a version
    reports, and other texts cannot be judged.
    """
    match = _VERSION.fullmatch(version)
    found = (int(match[1]), int(match[2]), int(match[3])) if match else (0, 0, 0)
    if found == (0, 0, 0):
        return "does not say which version it is; install a release"
    is_candidate = bool(match and match[4])
    flaws = [
        text
        for fixed, text in FIXED_IN.items()
        if found < fixed or (found == fixed and is_candidate)
    ]
    if not flaws:
        return ""
    newest = ".".join(map(str, list(FIXED_IN)[-1]))
    return f"is vulnerable ({', '.join(flaws)}); install {newest} or newer"
