"""JSON Schemas that cost far more than their size."""

import json
from typing import Any


def any_of_chain(links: int) -> str:
    """Each link doubles the time to check a text against it; no text matches."""
    definitions: dict[str, Any] = {
        f"d{index}": {"anyOf": [{"$ref": f"#/$defs/d{index + 1}"}] * 2} for index in range(links)
    }
    definitions[f"d{links}"] = {"type": "string", "not": {"type": "string"}}
    return json.dumps({"$ref": "#/$defs/d0", "$defs": definitions})


def patterns(count: int, repeats: int, **keywords: Any) -> str:
    """Properties with patterns that match this many repeats of any letter of Unicode."""
    properties = {
        f"p{index}": {"pattern": rf"\p{{L}}{{{repeats}}}{index}"} for index in range(count)
    }
    return json.dumps({**keywords, "properties": properties})
