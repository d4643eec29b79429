"""grpcurl prints each ErrorReason that a request can cause. `make reasons` shows all of them."""

import asyncio
import base64
import json

import pytest
from eudai.v1 import error_pb2
from google.rpc import error_details_pb2
from processes import grpcurl
from reasons import CASES, refusing
from scripted_ollama import ScriptedOllama


@pytest.mark.parametrize("reason", CASES)
async def test_grpcurl_prints_the_reason(
    reason: str, real_url: str, ollama: ScriptedOllama
) -> None:
    case = CASES[reason]
    flags = ("-max-time", str(case.deadline_s))
    async with refusing(case, real_url, ollama) as server:
        called = await asyncio.to_thread(
            grpcurl,
            *flags,
            "-d",
            json.dumps(case.request),
            server.address,
            f"eudai.v1.{case.method}",
        )
    shown = (
        json.dumps(case.request)
        if len(str(case.request)) < 200
        else f"a prompt of {len(case.request['prompt'])} characters"
    )
    print(
        f"grpcurl -plaintext {' '.join(flags)} -d '{shown}' {server.address} "
        f"eudai.v1.{case.method}\n{called.stderr}"
    )

    assert called.returncode != 0
    # If the server has stopped, grpcurl cannot ask it for the type of a detail, and prints bytes.
    raw = base64.b64encode(
        error_details_pb2.ErrorInfo(reason=reason, domain="eudai").SerializeToString()
    ).decode()
    assert f'"reason": "{reason}"' in called.stderr or raw in called.stderr


def test_every_reason_has_a_case_or_is_listed_as_unreached() -> None:
    rest = {"UNSPECIFIED", "UNAUTHENTICATED", "QUOTA_EXCEEDED", "INTERNAL"}

    names = error_pb2.ErrorReason.keys()

    assert {name.removeprefix("ERROR_REASON_") for name in names} == set(CASES) | rest
