"""The Go client has the same service config, reasons and example as the rest of the project."""

import re
from pathlib import Path

from eudai import SERVICE_CONFIG
from eudai.v1 import error_pb2

GO_CLIENT = Path(__file__).resolve().parents[2] / "clients/go"


def test_the_go_client_has_the_published_service_config() -> None:
    assert (GO_CLIENT / "service_config.json").read_text() == SERVICE_CONFIG


def test_the_go_client_has_a_constant_for_each_reason() -> None:
    constants = re.findall(
        r'^\tReason(\w+) +Reason = "(\w+)"$', (GO_CLIENT / "reasons.go").read_text(), re.MULTILINE
    )

    names = [name.removeprefix("ERROR_REASON_") for name in error_pb2.ErrorReason.keys()[1:]]
    assert constants == [(name.title().replace("_", ""), name) for name in names]


def test_the_readme_of_the_go_client_has_its_tested_example() -> None:
    example = (GO_CLIENT / "example_test.go").read_text().partition("func Example() {\n")[2]
    snippet = (GO_CLIENT / "README.md").read_text().split("```go\n")[1].split("```")[0]

    assert re.sub(r"(?m)^\t", "", example).removesuffix("}\n") == snippet
