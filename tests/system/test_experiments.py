"""The experiments of gRPC that the server chooses: a newer gRPC may no longer know them."""

import os
import subprocess
import sys

import pytest
from eudai_server.process import GRPC_EXPERIMENTS, configure_grpc

# A server starts gRPC's core, which then reports experiments that it does not know.
PROGRAM = """
import asyncio, grpc
async def main():
    server = grpc.aio.server()
    server.add_insecure_port("127.0.0.1:0")
    await server.start()
    await server.stop(None)
asyncio.run(main())
"""


def run(program: str, **environ: str) -> "subprocess.CompletedProcess[str]":
    """Run a Python program in an environment in which nobody has chosen experiments."""
    inherited = {key: value for key, value in os.environ.items() if key != "GRPC_EXPERIMENTS"}
    return subprocess.run(
        [sys.executable, "-c", program],
        env=inherited | environ,
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )


def complaints(experiments: str) -> str:
    """What gRPC writes about these experiments."""
    return run(PROGRAM, GRPC_EXPERIMENTS=experiments, GRPC_VERBOSITY="ERROR").stderr


@pytest.mark.parametrize("experiment", GRPC_EXPERIMENTS.split(","))
def test_grpc_knows_the_experiments_that_the_server_chooses(experiment: str) -> None:
    assert experiment.removeprefix("-") not in complaints(experiment)


def test_grpc_reports_an_experiment_that_it_does_not_know() -> None:
    assert "no_such_experiment" in complaints("-no_such_experiment")


def test_the_operators_choice_has_priority() -> None:
    chosen = {"GRPC_EXPERIMENTS": "tcp_frame_size_tuning", "GRPC_VERBOSITY": "DEBUG"}
    environ = dict(chosen)
    configure_grpc(environ)

    assert environ == chosen


def test_the_server_chooses_before_grpc_is_imported() -> None:
    program = (
        "import sys\n"
        "class Watch:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        import os\n"
        "        if name == 'grpc':\n"
        "            print(os.environ.get('GRPC_EXPERIMENTS'))\n"
        "sys.meta_path.insert(0, Watch())\n"
        "import eudai_server.__main__\n"
    )

    assert run(program).stdout.split() == [GRPC_EXPERIMENTS]
