"""The audit of the lock files, which fails for what it must find."""

import subprocess
import sys
from pathlib import Path

import pytest
from processes import ROOT

HASH = f"--hash=sha256:{'0' * 64}"
LOCKS = [
    *(ROOT / "requirements").glob("*.txt"),
    *(ROOT / "services/ollama/launcher").glob("*.txt"),
]


def audit(*locks: Path) -> subprocess.CompletedProcess[str]:
    """Run the offline audit."""
    return subprocess.run(
        [sys.executable, str(ROOT / "scripts/audit_locks.py"), *map(str, locks)],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def test_no_lock_has_a_known_flaw_or_lacks_a_hash() -> None:
    audited = audit(*LOCKS)

    assert (audited.stderr, audited.returncode) == ("", 0)
    assert len(LOCKS) == 12


@pytest.mark.parametrize(
    ("lock", "problem"),
    [
        ("h11==0.16.0\n", "h11 0.16.0 has no hash"),
        (f"h11==0.16.0 \\\n    {HASH[:-1]}\n", "h11 0.16.0 has no hash"),
        (f"h11>=0.16 {HASH}\n", "not one version of a package: h11>=0.16"),
        (f"h11==0.14.0 \\\n    {HASH}\n", "h11 0.14.0 has CVE-2025-43859"),
        (f"PyJWT[crypto]==2.12.9 {HASH}\n", "pyjwt 2.12.9 has CVE-2026-32597"),
        (f"protobuf==6.33.4 {HASH}\n", "protobuf 6.33.4 has CVE-2026-0994"),
        ("# nothing\n", "no packages"),
    ],
)
def test_a_wrong_lock_is_found(tmp_path: Path, lock: str, problem: str) -> None:
    path = tmp_path / "crafted.txt"
    path.write_text(lock)
    audited = audit(path)

    assert problem in audited.stderr
    assert audited.returncode == 1


def test_a_fixed_version_is_accepted(tmp_path: Path) -> None:
    path = tmp_path / "crafted.txt"
    path.write_text(f"h11==0.16.0.post1 {HASH}\nprotobuf==6.33.5 \\\n    {HASH}\n")

    assert audit(path).returncode == 0
