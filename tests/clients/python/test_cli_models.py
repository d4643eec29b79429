"""The commands that change or transfer models."""

from eudai.v1 import model_service_pb2 as pb
from scripted_services import ScriptedServices
from terminal import Eudai

grpc_max_workers = 8


def test_a_pull_prints_its_phases(eudai: Eudai, services: ScriptedServices) -> None:
    ended = eudai("pull", "m", "--detach")

    assert (ended.returncode, ended.stdout) == (0, "")
    assert ended.stderr == "eudai: pulling\neudai: pulled m\n"
    assert services.requests[0].detach
    assert eudai("pulls").stdout == "llama3.2:latest\t1 kB\t2.0 GB\t1\tyes\n"
    assert eudai("pull", "llama3.2", "--cancel").returncode == 0
    assert services.requests[-1] == pb.CancelPullRequest(model="llama3.2")
