"""The conformance check passes this server, and names the rule that a broken server breaks."""

import asyncio
import re
from pathlib import Path
from typing import Any

import grpc
import pytest
from broken_servers import BROKEN
from contract_server import ContractServer, contract_server
from eudai.cli import EXIT_FAILED, main
from eudai.cli.conformance import EXIT_UNCHECKED
from eudai.conformance import generation_rules
from serving import Server


def broken_rules(printed: str) -> list[str]:
    """The rules that a check found broken."""
    return re.findall(r"^FAIL  (\w+):", printed, re.MULTILINE)


async def test_this_server_keeps_every_rule(
    real_server: Server, fast_model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--address", real_server.address, "conformance", "--model", fast_model]
    code = await asyncio.to_thread(main, [*arguments, "--embedding-model", "all-minilm"])

    printed = capsys.readouterr().out
    print(printed)
    assert (code, broken_rules(printed)) == (0, [])
    assert "skip" not in printed


def test_a_server_that_keeps_every_rule_passes(capsys: pytest.CaptureFixture[str]) -> None:
    with contract_server(ContractServer()) as address:
        code = main(["conformance", "--address", address])

    assert (code, broken_rules(capsys.readouterr().out)) == (0, [])


@pytest.mark.parametrize("server", BROKEN, ids=lambda server: server.__name__)
def test_a_broken_server_is_caught(
    server: type[ContractServer],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # The check waits for so long until it says that a server does not stop.
    monkeypatch.setattr(generation_rules, "STOP_TIMEOUT_S", 3.0)
    monkeypatch.setattr(generation_rules, "DEADLINE_S", 0.2)
    with contract_server(server()) as address:
        code = main(["conformance", "--address", address])

    printed = capsys.readouterr().out
    print(printed)
    assert code == EXIT_FAILED
    assert BROKEN[server] in broken_rules(printed)


def test_a_server_that_does_not_answer_is_not_checked(capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["conformance", "--address", "127.0.0.1:1"])

    assert code == EXIT_UNCHECKED
    assert capsys.readouterr().err == (
        "eudai: the server at 127.0.0.1:1 cannot be reached: Connection refused; "
        "is the server running? set --address or EUDAI_ADDRESS\n"
    )


def test_the_token_of_the_command_line_is_sent(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    class Guarded(ContractServer):
        """Refuses calls without the token."""

        def ListModels(self, request: Any, context: Any) -> Any:
            """List the models."""
            if ("authorization", "Bearer secret") not in context.invocation_metadata():
                context.abort(grpc.StatusCode.UNAUTHENTICATED, "no token")
            return super().ListModels(request, context)

    (tmp_path / "token").write_text("secret\n")
    with contract_server(Guarded()) as address:
        refused = main(["--address", address, "conformance"])
        printed = capsys.readouterr().err
        code = main(["--address", address, "--token-file", str(tmp_path / "token"), "conformance"])

    assert (refused, printed) == (EXIT_UNCHECKED, "eudai: no token\n")
    assert (code, broken_rules(capsys.readouterr().out)) == (0, [])
