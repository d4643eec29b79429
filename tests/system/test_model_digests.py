"""The launcher creates no model of files that differ from those that were chosen."""

import json
import subprocess
import sys
from pathlib import Path

from processes import ROOT

LAUNCHER = ROOT / "services/ollama/launcher"
# Verifies one file against its line. It runs in a process of its own, because the launcher's
# modules are not installed.
VERIFY = """
import json, pathlib, sys
from models import Blob, verified_digests
from progress import LaunchError
try:
    blob = Blob((pathlib.Path(sys.argv[1]),))
    print(json.dumps(dict(verified_digests({"model.gguf": blob}, sys.argv[2]))))
except LaunchError as error:
    sys.exit(str(error))
"""
ABC = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def verify(path: Path, expected: str) -> subprocess.CompletedProcess[str]:
    """Verify a file as the launcher does."""
    return subprocess.run(
        [sys.executable, "-c", VERIFY, str(path), expected],
        env={"PYTHONPATH": str(LAUNCHER)},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def test_a_file_with_its_digest_is_used(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"abc")
    verified = verify(path, f"{ABC}  model.gguf\n")

    assert json.loads(verified.stdout) == {"model.gguf": f"sha256:{ABC}"}


def test_an_altered_or_unknown_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"abd")
    altered = verify(path, f"{ABC}  model.gguf\n")
    unknown = verify(path, f"{ABC}  other.gguf\n")

    assert altered.returncode == unknown.returncode == 1
    assert f"models.sha256 has {ABC}" in altered.stderr
    assert "models.sha256 has None" in unknown.stderr
