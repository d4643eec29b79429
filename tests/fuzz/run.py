"""Fuzzes one target with atheris for some seconds: python -m fuzz.run TARGET SECONDS NEW_CORPUS.

atheris finds inputs that reach new code, and keeps them in NEW_CORPUS. An input that makes the
target raise, or that takes longer than TIMEOUT_S, ends the run with a code other than 0; atheris
writes it to a file beside NEW_CORPUS.
"""

import sys
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["eudai_server", "fuzz"]):
    from fuzz.targets import CORPUS, TARGETS

# Instrumented code is some ten times slower.
TIMEOUT_S = 1
INPUT_BYTES_MAX = 64 << 10


def main(name: str, seconds: str, new_corpus: str) -> None:
    """Run until the time is over; atheris exits the process."""
    folder = Path(new_corpus)
    folder.mkdir(parents=True, exist_ok=True)
    options = [
        f"-max_total_time={seconds}",
        f"-timeout={TIMEOUT_S}",
        f"-max_len={INPUT_BYTES_MAX}",
        f"-artifact_prefix={folder.parent}/{name}-",
        "-print_final_stats=1",
    ]
    atheris.Setup([sys.argv[0], *options, str(folder), str(CORPUS / name)], TARGETS[name])
    atheris.Fuzz()


if __name__ == "__main__":
    main(*sys.argv[1:])
