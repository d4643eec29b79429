"""The client with the real server and the real Ollama."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import eudai
import pydantic
import pytest
from eudai.v1.content_pb2 import Role
from eudai.v1.model_service_pb2 import CreateModelRequest
from processes import eudai_server
from scripted_model import Script, write_model
from scripted_model.creation import created
from scripted_model.dialects import DIALECTS

MODEL = "gemma3:270m"
TOOL_MODEL = f"eudai-client-tools-{os.getpid()}:latest"  # two test runs may use one Ollama
SCRIPTS = {
    "call": Script('<tool_call>{"name": "weather", "arguments": {"city": "Paris"}}</tool_call>'),
    "answer": Script("It is sunny there."),
}


class Answer(pydantic.BaseModel):
    """What the model is asked for."""

    verdict: Literal["yes", "no"]


@pytest.fixture(scope="module")
def real(real_url: str) -> Iterator[eudai.Client]:
    """A client of the installed server."""
    with (
        eudai_server(OLLAMA_BASE_URL=real_url, EUDAI_ADMIN="true") as (address, _),
        eudai.Client(address, timeout_s=60) as client,
    ):
        yield client


def test_a_real_answer_streams_and_is_counted(real: eudai.Client) -> None:
    with real.generate(MODEL, "Once upon a time", max_output_tokens=8, temperature=0) as stream:
        texts = list(stream.text)

    result = stream.result()
    assert len(texts) > 2
    assert result.text == "".join(texts)
    assert result.finish_reason == "LENGTH"
    assert result.usage.output_tokens == 8
    assert result.digest.startswith("sha256:")
    assert result.timings.total_s


def test_a_real_conversation_remembers(real: eudai.Client) -> None:
    chat = real.chat(MODEL, temperature=0, max_output_tokens=20)
    with chat.send("My name is Ada.") as stream:
        first = stream.result().usage
    second = chat.run("What is my name?").usage

    assert first.input_tokens
    assert first.output_tokens
    assert second.input_tokens
    assert second.input_tokens > first.input_tokens + first.output_tokens


def test_a_real_answer_is_an_object(real: eudai.Client) -> None:
    answers = []
    for seed in range(1, 20):  # so small a model completes about half of its answers
        with contextlib.suppress(eudai.ParseError):
            answers.append(
                real.parse(MODEL, "Is it so? As JSON.", Answer, seed=seed, max_output_tokens=50)
            )
            break

    assert [answer.verdict in ("yes", "no") for answer in answers] == [True]


@pytest.fixture
def tool_model(real_url: str, tmp_path: Path) -> Iterator[str]:
    """A model in the real Ollama that calls a tool, and answers when it has the result."""
    write_model(tmp_path / "model.gguf", SCRIPTS, {})
    options = DIALECTS["template"].options
    with created(real_url, TOOL_MODEL, tmp_path / "model.gguf", **options) as model:
        yield model


def test_a_real_model_calls_a_tool_and_gets_its_result(real: eudai.Client, tool_model: str) -> None:
    cities = []

    def weather(city: str) -> str:
        """Describe the weather in a city."""
        cities.append(city)
        return "<|play:answer|>"

    chat = real.chat(tool_model)
    result = chat.run("<|play:call|>", tools=[weather])

    assert (cities, result.text) == (["Paris"], "It is sunny there.")
    assert result.finish_reason == "STOP"
    roles = [Role.Name(message.role) for message in chat.messages]
    assert roles == ["ROLE_USER", "ROLE_ASSISTANT", "ROLE_TOOL", "ROLE_ASSISTANT"]


def test_real_models_are_listed_described_and_embedded(real: eudai.Client) -> None:
    assert MODEL in [model.name for model in real.models()]
    assert real.model(MODEL).model.family == "gemma3"
    assert len(real.embed("all-minilm", ["a", "b"])[1]) == 384
    assert real.health()
    assert not real.health("model/nope")
    assert real.server_info().admin_enabled


def test_a_real_model_is_copied_created_and_deleted(real: eudai.Client, tmp_path: Path) -> None:
    try:
        assert real.copy(MODEL, "eudai-client-copy").name == "eudai-client-copy:latest"
        request = CreateModelRequest(model="eudai-client-new", base_model=MODEL, system="Be brief.")
        assert real.create(request).wait().name == "eudai-client-new:latest"
        assert real.model("eudai-client-new").system == "Be brief."
    finally:
        real.delete("eudai-client-copy", allow_missing=True)
        real.delete("eudai-client-new", allow_missing=True)
    path = tmp_path / "file"
    path.write_bytes(b"eudai client test")
    assert real.upload(path).startswith("sha256:")


def test_a_real_failure_has_its_class(real: eudai.Client) -> None:
    with pytest.raises(eudai.ModelNotFoundError, match="nope"):
        real.generate_once("nope", "hi")
    with pytest.raises(eudai.InvalidRequestError) as failure:
        real.generate_once(MODEL, "hi", max_output_tokens=-1)
    assert failure.value.violations[0].field.endswith("stop.max_output_tokens")
