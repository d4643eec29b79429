"""A chat remembers complete answers only, and runs tools for a limited number of rounds."""

import dataclasses
import enum
import json
from collections.abc import Callable
from typing import Annotated, Any, Literal, Optional

import eudai
import pytest
from eudai.results import ToolCall
from eudai.tools import Toolbox
from eudai.v1 import content_pb2
from scripted_services import ScriptedServices

grpc_max_workers = 8
MODEL = "gemma3:270m"


class Unit(enum.Enum):
    """A choice."""

    CELSIUS = "c"
    KELVIN = "k"


@dataclasses.dataclass
class Place:
    """A nested argument."""

    city: str
    country: str = "it"


def weather(  # noqa: D417, PLR0917 - an example of all kinds of parameters
    place: Place,
    days: int,
    unit: Unit = Unit.CELSIUS,
    detail: Literal["low", "high"] = "low",
    scale: float = 1.0,
    tags: list[str] | None = None,
    extra: Optional[dict[str, int]] = None,  # noqa: UP045 - the older form
    *,
    live: Annotated[bool, "whether to ask now"] = False,
) -> dict[str, Any]:
    """Forecast the weather of a place.

    Args:
        days: how many days
        unit (Unit): the unit

    """
    return {"place": place, "days": days, "unit": unit, "rest": [detail, scale, tags, extra, live]}


def now() -> str:
    """Tell the time."""
    return "12:00"


def broken() -> str:
    """Fail."""
    raise OSError("no disk")


def test_a_chat_remembers(client: eudai.Client, services: ScriptedServices) -> None:
    chat = client.chat(MODEL, system="Be brief.")
    with chat.send("hi") as stream:
        assert "".join(stream.text) == "Hello there!"
    with chat.send("again") as stream:
        stream.result()

    assert [part.text for message in chat.messages for part in message.parts] == [
        "hi", "Hello there!", "again", "Hello there!",
    ]  # fmt: skip
    assert services.requests[1].system == "Be brief."
    assert len(services.requests[1].conversation.messages) == 3


def test_nothing_is_remembered_of_a_failure_or_a_cancelled_answer(client: eudai.Client) -> None:
    chat = client.chat(MODEL)
    with chat.send("hi") as stream:
        next(stream.text)
    with pytest.raises(eudai.InvalidRequestError), chat.send("hi", temperature=9) as stream:
        stream.result()

    assert chat.messages == []


def test_tools_run_until_the_model_answers(
    client: eudai.Client, services: ScriptedServices
) -> None:
    chat = client.chat(MODEL)

    assert chat.run("call now, please", tools=[now]).text == "The tool said 12:00"
    roles = [content_pb2.Role.Name(message.role) for message in chat.messages]
    assert roles == ["ROLE_USER", "ROLE_ASSISTANT", "ROLE_TOOL", "ROLE_ASSISTANT"]
    assert chat.messages[2].tool_call_id == chat.messages[1].tool_calls[0].id
    assert [tool.name for tool in services.requests[0].tools] == ["now"]


def test_rounds_have_a_limit_and_leave_the_chat_unchanged(client: eudai.Client) -> None:
    chat = client.chat(MODEL, tools=[now])

    with pytest.raises(eudai.ToolRoundsError, match="after 2 rounds") as failure:
        chat.run("call now", rounds_max=2)
    assert chat.messages == []
    assert len(failure.value.messages) == 5
    assert failure.value.partial
    with pytest.raises(ValueError, match="rounds_max must be at least 1"):
        chat.run("call now", rounds_max=0)


def test_an_error_in_a_tool_is_raised_unless_the_model_may_see_it(client: eudai.Client) -> None:
    chat = client.chat(MODEL)

    with pytest.raises(OSError, match="no disk"):
        chat.run("call broken, please", tools=[broken])
    with pytest.raises(eudai.ToolError, match="unknown tool 'other'; tools: broken"):
        chat.run("call other, please", tools=[broken])
    assert chat.messages == []
    answer = chat.run("call broken, please", tools=[broken], send_errors=True)
    assert answer.text == "The tool said error: no disk"


def test_a_tool_message_cannot_be_run(client: eudai.Client) -> None:
    with pytest.raises(TypeError, match="tool x must be a function"):
        client.chat(MODEL).run("hi", tools=[content_pb2.Tool(name="x")])


async def test_asyncio_runs_coroutines_and_functions(async_client: eudai.AsyncClient) -> None:
    async def later() -> str:
        return "soon"

    chat = async_client.chat(MODEL, tools=[now, later, broken])

    assert (await chat.run("call now, please")).text == "The tool said 12:00"
    assert (await chat.run("call later, please")).text == "The tool said soon"
    with pytest.raises(OSError, match="no disk"):
        await chat.run("call broken, please")
    assert len(chat.messages) == 8


def test_a_schema_comes_from_the_signature_and_the_docstring() -> None:
    tool = eudai.tool_from(weather)

    assert tool.description == "Forecast the weather of a place."
    assert json.loads(tool.parameters_schema) == {
        "type": "object",
        "properties": {
            "place": {
                "type": "object",
                "properties": {"city": {"type": "string"}, "country": {"type": "string"}},
                "required": ["city"],
            },
            "days": {"type": "integer", "description": "how many days"},
            "unit": {"type": "string", "enum": ["c", "k"], "description": "the unit"},
            "detail": {"type": "string", "enum": ["low", "high"]},
            "scale": {"type": "number"},
            "tags": {"type": "array", "items": {"type": "string"}},
            "extra": {"type": "object"},
            "live": {"type": "boolean", "description": "whether to ask now"},
        },
        "required": ["place", "days"],
    }


def test_an_optional_argument_that_is_required_may_be_null() -> None:
    def search(text: str | None) -> None: ...

    properties = json.loads(eudai.tool_from(search).parameters_schema)["properties"]
    assert properties == {"text": {"anyOf": [{"type": "string"}, {"type": "null"}]}}


def unannotated(x) -> None:  # type: ignore[no-untyped-def] # noqa: ANN001
    """A parameter without an annotation."""


def unsupported(x: set[int]) -> None:
    """A type that JSON does not have."""


def mixed(x: Literal["a", 1]) -> None:
    """A choice of several types."""


def several(*x: int) -> None:
    """Arguments without names."""


@dataclasses.dataclass
class Tree:
    """A type without a finite schema."""

    children: list["Tree"]


def recursive(tree: Tree) -> None:
    """An argument of such a type."""


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (recursive, "recursive: a dataclass contains itself"),
        (unannotated, "unannotated: parameter x has no annotation"),
        (unsupported, "unsupported: parameter x: set[int] is not supported; use str, int"),
        (mixed, "mixed: parameter x: the values must be all str or all int"),
        (several, "several: parameter *x: int cannot be passed by keyword"),
    ],
)
def test_an_annotation_that_cannot_be_used_is_named(
    function: Callable[..., Any], message: str
) -> None:
    with pytest.raises(TypeError) as failure:
        eudai.tool_from(function)

    assert message in str(failure.value)


def test_arguments_become_the_annotated_types() -> None:
    arguments = {
        "place": {"city": "Rome"}, "days": 2.0, "unit": "k", "detail": "high", "scale": 3,
        "tags": ["a"], "extra": None, "live": True,
    }  # fmt: skip
    message = Toolbox([weather], send_errors=False).run(
        ToolCall("c", "weather", json.dumps(arguments))
    )

    assert json.loads(message.parts[0].text) == {
        "place": {"city": "Rome", "country": "it"},
        "days": 2,
        "unit": "k",
        "rest": ["high", 3.0, ["a"], None, True],
    }


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"days": 1}, "place is missing"),
        ({"place": {"city": "x"}, "days": "1"}, "days must be int, not str"),
        ({"place": {"city": "x"}, "days": True}, "days must be int, not bool"),
        ({"place": {}, "days": 1}, "city is missing"),
        ({"place": "x", "days": 1}, "place must be an object"),
        ({"place": {"city": "x"}, "days": 1, "unit": "f"}, "'f' is not a valid Unit"),
        ({"place": {"city": "x"}, "days": 1, "detail": "f"}, "detail must be one of"),
        ({"place": {"city": "x"}, "days": 1, "tags": "f"}, "tags must be a list"),
        ({"place": {"city": "x"}, "days": 1, "more": 1}, "unknown key 'more'"),
        ([], "arguments must be an object"),
    ],
)
def test_arguments_that_do_not_fit_are_named(arguments: Any, message: str) -> None:
    call = ToolCall("c", "weather", json.dumps(arguments))

    with pytest.raises(eudai.ToolError, match="wrong arguments") as failure:
        Toolbox([weather], send_errors=False).run(call)
    assert message in str(failure.value)
