"""The commands that change or transfer models."""

import json
from pathlib import Path

import grpc
import pytest
from eudai.v1 import model_service_pb2 as pb
from scripted_services import ScriptedServices, fail
from terminal import Eudai

grpc_max_workers = 8
UPLOADED = f"sha256:{'7' * 64}"


def test_a_pull_prints_its_phases(eudai: Eudai, services: ScriptedServices) -> None:
    ended = eudai("pull", "m", "--detach")

    assert (ended.returncode, ended.stdout) == (0, "")
    assert ended.stderr == "eudai: pulling\neudai: pulled m\n"
    assert services.requests[0].detach
    assert eudai("pulls").stdout == "llama3.2:latest\t1 kB\t2.0 GB\t1\tyes\n"
    assert eudai("pull", "llama3.2", "--cancel").returncode == 0
    assert services.requests[-1] == pb.CancelPullRequest(model="llama3.2")


def test_a_push_and_a_creation_print_their_phases(eudai: Eudai) -> None:
    assert eudai("push", "m").stderr == "eudai: pushing\neudai: pushed m\n"
    assert eudai("create", "m", "--base-model", "b").stderr == (
        "eudai: creating\neudai: created m\n"
    )


def test_the_fields_of_a_creation_arrive(
    eudai: Eudai, services: ScriptedServices, tmp_path: Path
) -> None:
    for name in ("weights.gguf", "template.txt"):
        (tmp_path / name).write_text("test")
    options = [
        "--file", str(tmp_path / "weights.gguf"), "--adapter", f"adapter.gguf={UPLOADED}",
        "--template", str(tmp_path / "template.txt"), "--system", "s", "--quantize", "q4_K_M",
    ]  # fmt: skip

    assert eudai("create", "m", *options).returncode == 0
    upload, create = services.requests
    digest = upload[0].digest
    assert [each.data for each in upload] == [b"", b"test"]
    assert create == pb.CreateModelRequest(
        model="m", files={"weights.gguf": digest}, adapters={"adapter.gguf": UPLOADED},
        template="test", system="s", quantize="q4_K_M",
    )  # fmt: skip


def test_two_files_of_one_name_are_refused(eudai: Eudai) -> None:
    file = f"a.gguf={UPLOADED}"
    ended = eudai("create", "m", "--file", file, "--file", file)

    assert ended.returncode == 2
    assert "two files have the name 'a.gguf'" in ended.stderr


def test_models_are_copied_deleted_loaded_and_unloaded(
    eudai: Eudai, services: ScriptedServices
) -> None:
    assert eudai("copy", "a", "b").stderr == "eudai: copied a to b\n"
    assert eudai("load", "m").stderr == "eudai: loaded m\n"
    assert eudai("load", "m", "--context-length", "64", "--keep-alive", "60").returncode == 0
    assert eudai("unload", "m").returncode == 0
    assert eudai("delete", "m", "--allow-missing").returncode == 0

    copy, load, load_with_options, unload, delete = services.requests
    assert copy == pb.CopyModelRequest(source="a", destination="b")
    assert load.model == "m"
    assert load_with_options.load.context_length == 64
    assert load_with_options.load.keep_alive.seconds == 60
    assert unload == pb.UnloadModelRequest(model="m")
    assert delete == pb.DeleteModelRequest(model="m", allow_missing=True)


@pytest.mark.parametrize(
    ("arguments", "lines"),
    [
        (["copy", "a", "b"], ["b"]),
        (["load", "m"], ["m"]),
        (["delete", "m"], []),
        (["unload", "m"], []),
        (["pull", "--cancel", "m"], []),
    ],
)
def test_a_changed_model_can_be_json(eudai: Eudai, arguments: list[str], lines: list[str]) -> None:
    ended = eudai(*arguments, "--json")

    assert [json.loads(line)["name"] for line in ended.stdout.splitlines()] == lines
    assert (ended.returncode, ended.stderr) == (0, "")


@pytest.mark.parametrize("command", ["pull", "push", "create"])
def test_progress_can_be_json(eudai: Eudai, command: str) -> None:
    ended = eudai(command, "m", "--json")

    *progress, last = map(json.loads, ended.stdout.splitlines())
    assert progress
    assert all(each["progress"]["status"] for each in progress)
    assert last["completed"]["name"] == "m"
    assert ended.stderr == ""


@pytest.mark.parametrize(
    ("method", "arguments"),
    [
        ("CopyModel", ["copy", "a", "b"]),
        ("DeleteModel", ["delete", "m"]),
        ("LoadModel", ["load", "m"]),
        ("UnloadModel", ["unload", "m"]),
        ("PullModel", ["pull", "m"]),
        ("PushModel", ["push", "m"]),
        ("CreateModel", ["create", "m"]),
    ],
)
def test_a_refused_change_says_what_to_do(
    eudai: Eudai, services: ScriptedServices, method: str, arguments: list[str]
) -> None:
    services.on[method] = lambda _request, context: fail(
        context, grpc.StatusCode.PERMISSION_DENIED, "ADMIN_DISABLED", "not allowed"
    )
    ended = eudai(*arguments)

    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr == "eudai: not allowed; the operator must set EUDAI_ADMIN=true\n"
