"""A tool call, as Ollama sends it, goes in; a warning where it may not be what the model wrote comes out.

As of Ollama 0.32.15. Most of its parsers read numbers as floating point, which is exact for integers
below 2**53 only, and write them anew.
"""

import re
from decimal import Decimal

from eudai_server.events import GenerationWarning, GenerationWarningCode, ToolCall

EXACT_MAX = 2**53
# Longer arguments are not looked at: it would hold the event loop.
CHECKED_CHARS_MAX = 256 << 10

# Strings are matched first, so that numbers within them are passed over. Go writes floating point
# without an exponent below 10**21.
_NUMBERS = re.compile(
    r'"(?:[^"\\]|\\.)*"|(?<![\d.])(?:(-?\d{16,21})(?![\d.eE])|(-?\d(?:\.\d{1,20})?[eE]\+?\d{1,4}))'
)
_REPLACEMENT = re.compile(r"\ufffd|\\u[fF]{3}[dD]")


def alteration_warning(call: ToolCall) -> GenerationWarning | None:
    """The warning that a call needs; None where nothing shows that it was altered."""
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
    """Whether a parser that rounds would send it so. An exact one may too, one time in some hundred."""
    if abs(int(integer)) < EXACT_MAX:
        return False
    return f"{Decimal(repr(float(integer))):f}".removesuffix(".0") == integer
