"""Warns if the arguments of a tool call may not be what the model wrote (Ollama 0.32.15).

Most of Ollama's parsers read numbers as floating point, which is exact only for integers below
2**53, and write them again.
"""

import re
from decimal import Decimal

from eudai_server.core.events import GenerationWarning, GenerationWarningCode, ToolCall

EXACT_MAX = 2**53
# Longer arguments are not checked, because that would block the event loop.
CHECKED_CHARS_MAX = 256 << 10

# Strings are matched first, so that numbers in them are ignored. Go writes floating-point numbers
# below 10**21 without an exponent.
_NUMBERS = re.compile(
    r'"(?:[^"\\]|\\.)*"|(?<![\d.])(?:(-?\d{16,21})(?![\d.eE])|(-?\d(?:\.\d{1,20})?[eE]\+?\d{1,4}))'
)
_REPLACEMENT = re.compile(r"\ufffd|\\u[fF]{3}[dD]")


def alteration_warning(call: ToolCall) -> GenerationWarning | None:
    """The warning for a call; None if nothing shows that it was altered."""
    message = _alteration_of(call.arguments_json)
    if message is None:
        return None
    return GenerationWarning(GenerationWarningCode.TOOL_CALL_ALTERED, message, "tools", call.id)


def _alteration_of(arguments: str) -> str | None:
    if len(arguments) > CHECKED_CHARS_MAX:
        return None
    if _REPLACEMENT.search(arguments):
        return "the arguments contain U+FFFD; some of Ollama's parsers damage non-ASCII characters"
    for match in _NUMBERS.finditer(arguments):
        integer, exponent = match.groups()
        if (integer and _is_rounded(integer)) or (exponent and abs(float(exponent)) >= EXACT_MAX):
            return (
                f"the number {match[0]} may not be what the model wrote: most of Ollama's "
                f"parsers round integers from 2^53 on; let the model write such numbers as strings"
            )
    return None


def _is_rounded(integer: str) -> bool:
    """Whether a parser that rounds would send the integer like this.

    About one in a hundred integers of an exact parser looks the same.
    """
    if abs(int(integer)) < EXACT_MAX:
        return False
    return f"{Decimal(repr(float(integer))):f}".removesuffix(".0") == integer
