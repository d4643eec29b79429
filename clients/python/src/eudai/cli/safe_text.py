"""Text that does not change what a terminal shows."""

import json
import re
from typing import Any

# Control characters but tab and newline, and characters that change the direction of text: a model
# could use them to change what the terminal shows.
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")


def clean(text: str) -> str:
    """A text without control characters."""
    return _CONTROL.sub("", text)


def json_text(value: Any) -> str:
    """A value as JSON on one line. Control characters are escaped, and not removed."""
    text = json.dumps(value, ensure_ascii=False)
    return _CONTROL.sub(lambda found: f"\\u{ord(found[0]):04x}", text)
