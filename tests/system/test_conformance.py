"""The conformance check passes this server, and names the rule that a broken server breaks."""

import asyncio
import re

import pytest
from broken_servers import BROKEN
from contract_server import ContractServer, contract_server
from eudai import conformance
from eudai.conformance import generation_rules
from processes import eudai
from serving import Server


def broken_rules(printed: str) -> list[str]:
    """The rules that a check found broken."""
    return re.findall(r"^FAIL  (\w+):", printed, re.MULTILINE)


async def test_this_server_keeps_every_rule(
    real_server: Server, fast_model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--address", real_server.address, "--model", fast_model]
    code = await asyncio.to_thread(
        conformance.main, [*arguments, "--embedding-model", "all-minilm"]
    )

    printed = capsys.readouterr().out
    print(printed)
    assert (code, broken_rules(printed)) == (0, [])
    assert "skip" not in printed


def test_a_server_that_keeps_every_rule_passes(capsys: pytest.CaptureFixture[str]) -> None:
    with contract_server(ContractServer()) as address:
        code = conformance.main(["--address", address])

    assert (code, broken_rules(capsys.readouterr().out)) == (0, [])


@pytest.mark.parametrize("server", BROKEN, ids=lambda server: server.__name__)
def test_a_broken_server_is_caught(
    server: type[ContractServer],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # The check waits for so long until it says that a server does not stop.
    monkeypatch.setattr(generation_rules, "STOP_TIMEOUT_S", 1.0)
    monkeypatch.setattr(generation_rules, "DEADLINE_S", 0.2)
    with contract_server(server()) as address:
        code = conformance.main(["--address", address])

    printed = capsys.readouterr().out
    print(printed)
    assert code == conformance.EXIT_BROKEN
    assert BROKEN[server] in broken_rules(printed)


def test_a_server_that_does_not_answer_is_not_checked(capsys: pytest.CaptureFixture[str]) -> None:
    code = conformance.main(["--address", "127.0.0.1:1"])

    assert code == conformance.EXIT_UNCHECKED
    assert "127.0.0.1:1" in capsys.readouterr().err


def test_the_command_line_has_the_check() -> None:
    with contract_server(ContractServer()) as address:
        ended = eudai(address, "conformance", "--model", "alpha")

    assert (ended.returncode, broken_rules(ended.stdout)) == (0, [])
    assert "19 rules, 0 broken" in ended.stdout
