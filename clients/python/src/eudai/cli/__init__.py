"""The command line `eudai`.

The health check runs every few seconds in a container, so it imports little and does not need the
packages of the extra `cli`. All other commands do.
"""

import os
import sys
from collections.abc import Sequence

EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit code."""
    # The messages of failures say what gRPC would log.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if _command_of(arguments) == "healthcheck":
        from eudai.cli.healthcheck import run as run_healthcheck  # noqa: PLC0415 - see above

        return run_healthcheck(arguments)
    try:
        from eudai.cli.app import run  # noqa: PLC0415 - see above
    except ModuleNotFoundError as error:
        if error.name not in ("click", "rich"):
            raise
        print("eudai: this command needs more packages: pip install 'eudai[cli]'", file=sys.stderr)
        return EXIT_USAGE
    return run(arguments)


def _command_of(arguments: list[str]) -> str:
    """The first argument that is neither an option of all commands nor its value."""
    remaining = iter(arguments)
    for argument in remaining:
        if not argument.startswith("-"):
            return argument
        if "=" not in argument and argument not in ("--tls", "--help", "-h", "--version"):
            next(remaining, None)
    return ""
