"""Checks lock files offline: each package has one version and hashes, and no known flaw.

It needs no network, so that it can be part of every test run. `make audit` also asks pip-audit.
"""

import re
import sys
from collections.abc import Iterator
from pathlib import Path

FLAWS = Path(__file__).resolve().parents[1] / "requirements" / "flaws.list"
PINNED = re.compile(r"([\w.-]+)(?:\[[\w,.-]+\])?==(\S+)")
# The floor of what the Python client allows, which tests install and nothing serves.
ALLOWED = {("client_oldest.txt", "CVE-2025-4565"), ("client_oldest.txt", "CVE-2026-0994")}


def release(version: str) -> tuple[int, ...]:
    """The numbers of a version, without what follows them: `1.2.post1` is (1, 2)."""
    return tuple(int(number) for number in re.findall(r"(?:^|\.)(\d+)(?=\.|$)", version))


def problems(lock: Path, flaws: list[list[str]]) -> Iterator[str]:
    """What is wrong with a lock file, one text for each problem."""
    # A backslash joins a package with its hashes.
    lines = lock.read_text().replace("\\\n", " ").splitlines()
    requirements = [line for line in lines if line.strip() and not line.lstrip().startswith("#")]
    if not requirements:
        yield "no packages"
    for requirement in requirements:
        pinned = PINNED.match(requirement)
        if not pinned:
            yield f"not one version of a package: {requirement.split()[0]}"
            continue
        name, version = pinned[1].lower().replace("_", "-"), pinned[2]
        if not re.search(r"--hash=sha256:[0-9a-f]{64}\b", requirement):
            yield f"{name} {version} has no hash"
        for package, fixed, flaw in flaws:
            flawed = name == package and release(version) < release(fixed)
            if flawed and (lock.name, flaw) not in ALLOWED:
                yield f"{name} {version} has {flaw}; use {fixed} or newer"


def main(locks: list[str]) -> int:
    """Print the problems of all locks; returns 1 if there are any."""
    flaws = [line.split() for line in FLAWS.read_text().splitlines() if not line.startswith("#")]
    found = [f"{lock}: {problem}" for lock in locks for problem in problems(Path(lock), flaws)]
    for line in found:
        print(line, file=sys.stderr)
    print(f"eudai: {len(locks)} locks, {len(flaws)} known flaws: {len(found)} problems")
    return 1 if found or not locks else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
