"""A program that compiles schemas and checks values, each job in a child with limits of its own.

    python -m eudai_server.core.schema_worker

A job is a line of JSON on standard input: [schemas, value or null], all of them texts. The answer
is a line for each schema, null or what is wrong with it, then a line for the value, whether it
fits, then an empty line. Lines are missing where the child reached a limit. The program ends with
its input.
"""

import json
import os
import resource
import signal
import sys

from eudai_server.core.json_schema import compile_schema, fits, loads

CPU_LIMIT_S = 0.1
# Limits the address space; the program itself uses 32 MiB of it.
MEMORY_LIMIT_BYTES = 96 << 20


def main() -> None:
    """Process jobs until the input ends."""
    for job in sys.stdin.buffer:
        child = os.fork()
        if child == 0:
            try:
                _answer(job)
            finally:
                os._exit(0)
        os.waitpid(child, 0)
        os.write(1, b"\n")


def _answer(job: bytes) -> None:
    # The signal ends the process, even during a compilation.
    signal.setitimer(signal.ITIMER_PROF, CPU_LIMIT_S)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_LIMIT_BYTES, MEMORY_LIMIT_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    schemas, value = json.loads(job)
    for text in schemas:
        try:
            validator = compile_schema(loads(text))
        except ValueError as error:
            _write(str(error))
            return
        _write(None)
    if value is not None:
        _write(fits(validator, value))


def _write(line: str | bool | None) -> None:  # noqa: FBT001 - a value, not a flag
    os.write(1, json.dumps(line).encode() + b"\n")


if __name__ == "__main__":
    main()
