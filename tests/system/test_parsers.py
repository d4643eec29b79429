"""Every parser of Ollama, with a scripted model: output arrives, or the caller is warned.

`make parsers` prints the results as a table.
"""

import json
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
from eudai.v1 import content_pb2, generation_service_pb2 as pb
from recorded_answers import VERSION, Recording
from refusal import Refusal
from replay import replaying
from scripted_model import write_model
from scripted_model.answers import CASES, Case, calls_of, cases_of, script_name, scripts, written
from scripted_model.creation import created
from scripted_model.dialects import DIALECTS, JINJA_TEMPLATE
from serving import Server, collect, config_for, serving

DOCUMENT = Path(__file__).parents[2] / "docs" / "parsers.md"
SCHEMA = """{"type": "object", "properties": {
    "city": {"type": "string"}, "count": {"type": "integer"}}}"""
TOOLS = [
    content_pb2.Tool(name="get_weather", description="The weather.", parameters_schema=SCHEMA),
    content_pb2.Tool(name="get_time", description="The time."),
]
SILENT = "SILENT"


@dataclass(frozen=True)
class Outcome:
    """What arrived, or the reason of the failure."""

    reasoning: str = ""
    text: str = ""
    calls: tuple[tuple[str, Any], ...] = ()
    warnings: tuple[str, ...] = ()
    failure: str = ""


Outcomes = Mapping[tuple[str, str], Outcome]


def model_of(parser: str) -> str:
    """The name of a parser's model."""
    return f"eudai-{parser}"


def capabilities_of(parser: str) -> list[str]:
    """The capabilities of a parser's model."""
    return ["completion", "tools", *(["thinking"] if DIALECTS[parser].thinks else [])]


async def outcome(server: Server, parser: str, name: str) -> Outcome:
    """Ask the model of a parser for a case."""
    case = CASES[name]
    prompt = f"<|play:{script_name(written(parser, name))}|>"
    parts = [content_pb2.Part(text=prompt)]
    message = content_pb2.Message(role=content_pb2.ROLE_USER, parts=parts)
    effort = pb.REASONING_EFFORT_DEFAULT if case.thought else pb.REASONING_EFFORT_NONE
    try:
        events = await collect(
            server,
            model=model_of(parser),
            conversation=pb.Conversation(messages=[message]),
            tools=TOOLS,
            reasoning=pb.ReasoningOptions(effort=effort, hide=case.hide_reasoning),
        )
    except grpc.aio.AioRpcError as error:
        return Outcome(failure=Refusal(error).reason)
    calls = [event.tool_call for event in events if event.HasField("tool_call")]
    codes = [event.warning.code for event in events if event.HasField("warning")]
    return Outcome(
        "".join(event.delta.reasoning for event in events),
        "".join(event.delta.text for event in events),
        # Parsed, because the parser for Go templates returns the keys in any order.
        tuple((call.name, json.loads(call.arguments_json)) for call in calls),
        tuple(
            pb.GenerationWarningCode.Name(code)[len("GENERATION_WARNING_CODE_") :] for code in codes
        ),
    )


def cell(parser: str, name: str, came: Outcome) -> str:
    """The result as the document states it."""
    case = CASES[name]
    if came.failure:
        return f"failed {came.failure}"
    if came.warnings:
        return f"warning {', '.join(came.warnings)}"
    calls = tuple(calls_of(parser, name))
    reasoning = "" if case.hide_reasoning else case.thought
    meant = Outcome(reasoning, case.text + case.after.strip(), calls)
    if not case.breaks_off and replace(came, text=came.text.strip()) == meant:
        return "right"
    # The comments of eudai.v1.ToolCall describe the rest.
    if is_malformed(case) and [tool for tool, _ in came.calls] == [tool for tool, _ in calls]:
        return "repaired by Ollama"
    if case.after and not came.text and came.calls == calls:
        return "the text after the call is lost"
    return SILENT


def is_malformed(case: Case) -> bool:
    """Whether a tool call of the outcome is malformed."""
    return case.breaks_off or case.unquoted


def table(outcomes: Outcomes) -> str:
    """Each case, and a list item for each result with the parsers that have it."""
    lines: list[str] = []
    for name in CASES:
        parsers: dict[str, list[str]] = {}
        for parser in DIALECTS:
            if (parser, name) in outcomes:
                parsers.setdefault(cell(parser, name, outcomes[parser, name]), []).append(parser)
        lines += [f"**{name}**", ""]
        for came, of in parsers.items():
            item = f"- {came}: {', '.join(of)}"
            lines += textwrap.wrap(item, 100, subsequent_indent="  ", break_on_hyphens=False)
        lines.append("")
    return "\n".join(lines)


@pytest.fixture(scope="module")
def version(real_url: str) -> str:
    """The version of the real Ollama."""
    return str(httpx.get(f"{real_url}/api/version", trust_env=False).json()["version"])


@pytest.fixture(scope="module")
async def outcomes(
    request: pytest.FixtureRequest, real_url: str, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Outcomes, Outcomes]:
    """The outcome of every case with the real Ollama, and with the double that plays recordings."""
    path = tmp_path_factory.mktemp("scripted") / "model.gguf"
    write_model(path, scripts(), {"tokenizer.chat_template": JINJA_TEMPLATE})
    recording = Recording("test_parsers", real_url if request.config.option.record else None)
    real, played = {}, {}
    async with (
        serving(config_for(real_url)) as server,
        replaying(
            recording, {model_of(parser): capabilities_of(parser) for parser in DIALECTS}
        ) as double,
    ):
        await server.until("", "SERVING")
        for parser, dialect in DIALECTS.items():
            with created(real_url, model_of(parser), path, **dialect.options):
                for name in cases_of(parser):
                    real[parser, name] = await outcome(server, parser, name)
                    played[parser, name] = await outcome(double, parser, name)
    recording.save()
    return real, played


@pytest.mark.timeout(300)
async def test_the_output_arrives_or_the_caller_is_warned(
    outcomes: tuple[Outcomes, Outcomes], version: str
) -> None:
    shown = table(outcomes[0])
    print(f"\nOllama {version}\n{shown}")

    assert SILENT not in shown
    if version == VERSION:
        assert shown in DOCUMENT.read_text(), f"{DOCUMENT} is not what happens"


@pytest.mark.timeout(300)
async def test_the_double_answers_as_the_real_ollama_does(
    outcomes: tuple[Outcomes, Outcomes], version: str
) -> None:
    if version != VERSION:
        pytest.skip(f"the answers were recorded with Ollama {VERSION}, and this is {version}")
    real, played = outcomes
    different = {case: (real[case], played[case]) for case in real if real[case] != played[case]}
    print(f"{len(real)} answers, {len(different)} differ: {different}")

    assert different == {}
