"""Stands in for Ollama's `llama-quantize [flags] IN OUT TYPE`.

Only the type COPY is supported, which copies the file; any other type is refused.
"""

import shutil
import sys


def main() -> None:
    """Copy the file, or exit with an error message."""
    *_, source, target, kind = ["", "", "", *sys.argv[1:]]
    if kind.upper() != "COPY":
        sys.exit(
            f"llama-quantize: cannot quantize to {kind or 'no type'}, only copy; create the model "
            "without quantize, or use an official build of Ollama"
        )
    shutil.copyfile(source, target)


if __name__ == "__main__":
    main()
