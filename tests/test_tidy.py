"""Checks of style, documents and locks that hold for every file."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from eudai_server.config import UNSUPPORTED, VARIABLES

ROOT = Path(__file__).resolve().parents[1]
FILE_LINES_MAX = 300
# A file of tests is a list of independent functions.
TEST_FILE_LINES_MAX = 400
FUNCTION_LINES_MAX = 56
LINE_CHARS_MAX = 100
VAGUE = {"utils", "util", "helpers", "helper", "common", "manager", "misc"}
IGNORED = {
    ".git",
    ".venv",
    *(path.name for path in ROOT.glob(".venv-*")),
    ".ci",
    "__pycache__",
    ".pytest_cache",
    ".hypothesis",
    ".mypy_cache",
    ".ruff_cache",
    ".import_linter_cache",
    "results",  # of the benchmark
}

SOURCES = sorted(
    path
    for path in ROOT.rglob("*.py")
    if not IGNORED & set(path.relative_to(ROOT).parts)
    and not path.name.endswith(("_pb2.py", "_pb2_grpc.py"))
)
SERVER = [path for path in SOURCES if "eudai_server" in path.parts]
EVERY_SOURCE = pytest.mark.parametrize(
    "path", SOURCES, ids=lambda path: str(path.relative_to(ROOT))
)


def functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    """Every function of a file."""
    return (
        node
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    )


@EVERY_SOURCE
def test_a_file_is_short_and_has_a_docstring(path: Path) -> None:
    text = path.read_text()

    limit = TEST_FILE_LINES_MAX if path.name.startswith("test_") else FILE_LINES_MAX

    assert len(text.splitlines()) <= limit
    assert ast.get_docstring(ast.parse(text))
    assert path.stem not in VAGUE


@EVERY_SOURCE
def test_a_function_is_short(path: Path) -> None:
    long = [
        function.name
        for function in functions(path)
        if (function.end_lineno or 0) - function.lineno >= FUNCTION_LINES_MAX
    ]

    assert long == []


@pytest.mark.parametrize("path", SERVER, ids=lambda path: path.stem)
def test_only_the_process_reads_the_environment(path: Path) -> None:
    assert "os.environ" not in path.read_text() or path.name == "__main__.py"


@EVERY_SOURCE
def test_no_file_has_unfinished_work(path: Path) -> None:
    assert not re.search(r"\b(FIXME|TODO|XXX)\b", path.read_text()) or path == Path(__file__)


def test_architecture_names_the_folders_on_disk() -> None:
    block = (ROOT / "ARCHITECTURE.md").read_text().split("## The rooms")[1].split("```")[1]
    named: set[str] = set()
    parents: list[str] = []
    for line in filter(None, block.splitlines()):
        depth = (len(line) - len(line.lstrip())) // 2
        parents = [*parents[:depth], line.split()[0].rstrip("/")]
        named.add("/".join(parents))
    on_disk = {
        path.relative_to(ROOT)
        for path in ROOT.rglob("*")
        if path.is_dir() and not IGNORED & set(path.relative_to(ROOT).parts)
    }
    inner = {str(path) for path in on_disk if not path.name.endswith(".egg-info")}
    # Packaging needs these parent folders.
    inner -= {
        "proto",
        "proto/eudai",
        "services/server/src",
        "clients/go/eudai",
        "clients/go/eudai/v1",
        "clients/python/src",
    }

    assert {
        name.replace("services/server/src/eudai_server", "services/server/src/eudai_server")
        for name in named
    } == inner | {"proto/eudai/v1"}


def test_each_decision_names_what_keeps_it() -> None:
    decisions = sorted((ROOT / "docs/adr").glob("[0-9]*.md"))

    assert decisions
    for decision in decisions:
        text = decision.read_text()
        kept = re.search(r"^Kept by: (.+(?:\n.+)*)", text, re.MULTILINE)
        assert kept, decision.name
        for reference in re.findall(r"`([\w/.-]+/[\w.-]+)`", kept[1]):
            assert (ROOT / reference).exists(), f"{decision.name} names {reference}"
        assert len(text.splitlines()) <= 60, decision.name


def test_documents_can_be_read_in_a_terminal() -> None:
    documents = [
        path for path in ROOT.rglob("*.md") if not IGNORED & set(path.relative_to(ROOT).parts)
    ]

    assert documents
    assert [
        f"{path.relative_to(ROOT)}:{number}"
        for path in documents
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if len(line) > LINE_CHARS_MAX and "://" not in line
    ] == []


def test_the_map_of_the_tests_lists_each_helper() -> None:
    helpers = (ROOT / "tests/README.md").read_text().split("## Helpers")[1].split("\n## ")[0]
    heads = re.findall(r"^- (.+?):", helpers, re.MULTILINE)
    modules = {
        path.stem
        for path in (ROOT / "tests/support").iterdir()
        if path.suffix == ".py" or (path / "__init__.py").exists()
    }

    assert {name.strip("`") for head in heads for name in head.split(", ")} == modules


def test_every_variable_is_documented() -> None:
    documented = (ROOT / "docs/configuration.md").read_text()

    assert [
        variable for variable in (*VARIABLES, *UNSUPPORTED) if f"`{variable}`" not in documented
    ] == []


def test_locks_hold_hashes_and_no_addresses() -> None:
    locks = [*ROOT.glob("requirements/*.txt"), *ROOT.glob("services/ollama/launcher/*.txt")]

    assert len(locks) == 12
    for lock in locks:
        text = lock.read_text()
        assert "--hash=sha256:" in text
        assert "://" not in text
