"""The cases of the table of parsers: answers that each of Ollama's parsers must pass on."""

import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from scripted_model.dialects import DIALECTS, Call
from scripted_model.script import Script

TEXT, THOUGHT = "Let me look.", "They want the weather."
PARIS = Call("get_weather", {"city": '"Paris"', "count": "3"})
LONDON = Call("get_weather", {"city": '"London"'})
# About twenty tokens that no other script has; a real call has at least as many.
ADDRESS = "ADDRESS"
AT_ADDRESS = {"city": f'"{ADDRESS}"'}


@dataclass(frozen=True)
class Case:
    """An answer of a model.

    `breaks_off`: it ends within the address of its call. `unquoted`: the last quotation mark is
    missing.
    """

    text: str = ""
    thought: str = ""
    calls: tuple[Call, ...] = ()
    after: str = ""
    breaks_off: bool = False
    unquoted: bool = False
    hide_reasoning: bool = False


CASES: Mapping[str, Case] = {
    "a text": Case(TEXT),
    "a thought, a text": Case(TEXT, THOUGHT),
    "a hidden thought, a text": Case(TEXT, THOUGHT, hide_reasoning=True),
    "a call": Case(calls=(PARIS,)),
    "two calls": Case(calls=(PARIS, LONDON)),
    "a text, a call": Case(TEXT, calls=(PARIS,)),
    "a thought, a call": Case(thought=THOUGHT, calls=(PARIS,)),
    "a thought, a text, two calls": Case(TEXT, THOUGHT, (PARIS, LONDON)),
    "a call, a text": Case(calls=(PARIS,), after="\nThat is all."),
    "a call without arguments": Case(calls=(Call("get_time"),)),
    "an emoji in a call": Case(calls=(Call("get_weather", {"city": '"Köln 🌧"'}),)),
    "an unknown tool": Case(calls=(Call("get_lost", AT_ADDRESS),)),
    "an argument of the wrong type": Case(calls=(Call("get_weather", {"count": '"many"'}),)),
    "a call without a name": Case(calls=(Call("", AT_ADDRESS),)),
    "a call without a quotation mark": Case(
        calls=(Call("get_weather", AT_ADDRESS),), unquoted=True
    ),
    "the integer 2**53 + 1": Case(calls=(Call("get_weather", {"count": "9007199254740993"}),)),
    "an integer of 30 digits": Case(
        calls=(Call("get_weather", {"count": "123456789012345678901234567890"}),)
    ),
    "a call that breaks off": Case(calls=(Call("get_weather", AT_ADDRESS),), breaks_off=True),
    "a text, a call that breaks off": Case(
        TEXT, calls=(Call("get_weather", AT_ADDRESS),), breaks_off=True
    ),
    "a thought, a call that breaks off": Case(
        thought=THOUGHT, calls=(Call("get_weather", AT_ADDRESS),), breaks_off=True
    ),
}


# llama.cpp's grammar allows the model to call only the given tools.
WITH_GRAMMAR = [
    "a text",
    "a call",
    "two calls",
    "a text, a call",
    "a call without arguments",
    "an emoji in a call",
    "the integer 2**53 + 1",
]


def cases_of(parser: str) -> list[str]:
    """The cases that models made for this parser can express."""
    if parser == "native":
        return WITH_GRAMMAR
    return [name for name, case in CASES.items() if DIALECTS[parser].thinks or not case.thought]


def written(parser: str, name: str) -> str:
    """What a model made for this parser writes."""
    case = CASES[name]
    text = DIALECTS[parser].answer(case.text, case.thought, case.calls) + case.after
    if case.unquoted:
        before, _, after = text.rpartition('"')
        text = before + after
    if case.breaks_off:
        text = text[: text.index(ADDRESS) + len(ADDRESS)]
    return text.replace(ADDRESS, address(parser, name))


def calls_of(parser: str, name: str) -> list[tuple[str, Any]]:
    """The tool calls of a case: names and arguments."""
    texts = ((call.name, call.json) for call in CASES[name].calls)
    return [
        (tool, json.loads(text.replace(ADDRESS, address(parser, name)))) for tool, text in texts
    ]


def address(parser: str, name: str) -> str:
    """The address in a script's call."""
    begin = zlib.crc32(f"{parser}: {name}".encode()) % 9000 * 100
    return " ".join(str(number) for number in range(begin, begin + 24))


def scripts() -> dict[str, Script]:
    """One script for each text; parsers of one format share them."""
    return {
        script_name(text): Script(text)
        for text in sorted(
            {written(parser, name) for parser in DIALECTS for name in cases_of(parser)}
        )
    }


def script_name(text: str) -> str:
    """The name by which a prompt selects the script of a text."""
    return f"{zlib.crc32(text.encode()):08x}"
