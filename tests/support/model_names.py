"""Asks a real Ollama how it reads model references.

The answer is a name as its lists show it, "invalid", "cloud", or "too long" for a file system.

`OLLAMA_BASE_URL=… python tests/support/model_names.py` asks again for every reference in
tests/codec/model_names.json. To add a reference, write it there with "" and run the command. This
Ollama needs OLLAMA_NO_CLOUD=1, and no model whose name shares a part with one of the references:
it would then answer in the case of that model.
"""

import json
import os
import re
from pathlib import Path

import httpx

VECTORS = Path(__file__).parents[1] / "codec" / "model_names.json"
NOT_FOUND = re.compile(r"model '(.*)' not found")


def reading_of(url: str, reference: str) -> str:
    """How /api/show reads a reference: if the model is missing, the error repeats its name."""
    answer = httpx.post(f"{url}/api/show", json={"model": reference}, trust_env=False)
    match answer.status_code:
        case 400:
            return "invalid"
        case 403:
            return "cloud"
        case 404:
            missing = NOT_FOUND.fullmatch(answer.json()["error"])
            assert missing, answer.text
            return missing[1]
        case 500 if "file name too long" in answer.text:
            return "too long"
        case _:
            raise AssertionError(f"{reference!r} is a model that is there: {answer.status_code}")


def main() -> None:
    """Write the file again."""
    url = os.environ["OLLAMA_BASE_URL"]
    readings = {each: reading_of(url, each) for each in json.loads(VECTORS.read_text())}
    VECTORS.write_text(json.dumps(readings, indent=1, ensure_ascii=True) + "\n")


if __name__ == "__main__":
    main()
