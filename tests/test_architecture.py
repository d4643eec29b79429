"""ARCHITECTURE.md and ADR 2 agree with the server's modules."""

import ast
import re
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SERVER = ROOT / "services/server/src/eudai_server"
MODULES = sorted(path for path in SERVER.rglob("*.py") if path.name != "__init__.py")

# The modules outside `ollama/` that may name Ollama, as ADR 2 says.
MAY_NAME_OLLAMA = {
    "app",  # logs the address
    "assembly",  # creates the edge
    "config",  # OLLAMA_BASE_URL
    "config_values",  # its value
    "core/errors",  # tells callers which service has failed
    "core/model_name",  # the contract defines references by Ollama's rules
    "process",  # counts the connections to it
    "rpc/registry",  # passes the version on
    "rpc/services/server_info",  # the contract has a field for the version
    "rpc/wire/generation_response",  # the contract has a field for the version
    "rpc/wire/status",  # tells callers how to pull a model
}


def name_of(path: Path) -> str:
    """The name of a module, such as "core/errors"."""
    return str(path.relative_to(SERVER).with_suffix(""))


def test_architecture_lists_each_module_once() -> None:
    text = (ROOT / "ARCHITECTURE.md").read_text()
    section = text.split("Inside the server:")[1].split("\n## ")[0]
    listed: Counter[str] = Counter()
    folder = ""
    for line in section.splitlines():
        if heading := re.fullmatch(r"\*\*(?:`(.+?)`|.+)\*\*", line):
            folder = heading[1] or ""
        elif line.startswith("- "):
            listed.update(folder + name for name in re.findall(r"`(\w+)`", line.partition(":")[0]))

    assert listed == Counter(map(name_of, MODULES))


def test_only_some_modules_outside_its_edge_name_ollama() -> None:
    naming = {
        name_of(path)
        for path in MODULES
        if "ollama" in re.sub(r"eudai_server\.ollama\S*", "", path.read_text()).lower()
    }

    assert {name for name in naming if not name.startswith("ollama/")} == MAY_NAME_OLLAMA


def test_no_two_modules_define_one_name() -> None:
    defined = Counter(
        node.name
        for path in MODULES
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
    )

    assert [name for name, count in defined.items() if count > 1 and name != "main"] == []
