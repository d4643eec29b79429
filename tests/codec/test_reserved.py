"""Every reason, warning and phase of the contract is sent somewhere or marked as reserved."""

import re
from pathlib import Path

import pytest
from eudai.v1 import error_pb2, generation_service_pb2 as pb, model_service_pb2

ROOT = Path(__file__).resolve().parents[2]
SERVER = ROOT / "services/server/src/eudai_server"
# Modules that only convert values do not count as senders.
TABLES = {SERVER / "rpc/wire/status.py"}
RESERVED = "Reserved: no server sends it yet."

SOURCE = "".join(path.read_text() for path in SERVER.rglob("*.py") if path not in TABLES)
CONTRACT = "".join(path.read_text() for path in sorted((ROOT / "proto").rglob("*.proto")))

# Each value, and its name in the code.
VALUES = {
    f"{prefix}{name.removeprefix(prefix)}": f"{written}.{name.removeprefix(prefix)}"
    for prefix, written, names in (
        ("ERROR_REASON_", "Reason", error_pb2.ErrorReason.keys()),
        (
            "GENERATION_WARNING_CODE_",
            "GenerationWarningCode",
            pb.GenerationWarningCode.keys(),
        ),
        ("FINISH_REASON_", "FinishReason", pb.FinishReason.keys()),
        ("GENERATION_PHASE_", "Phase", pb.GenerationPhase.keys()),
        ("TRANSFER_PHASE_", "TransferPhase", model_service_pb2.TransferPhase.keys()),
    )
    for name in names
    if not name.endswith("_UNSPECIFIED")
}


@pytest.mark.parametrize("value", VALUES)
def test_every_value_is_sent_or_reserved(value: str) -> None:
    comment = CONTRACT[: CONTRACT.index(f"  {value} =")].rpartition(";")[2]
    is_sent = re.search(rf"\b({re.escape(VALUES[value])}|{value})\b", SOURCE) is not None

    assert is_sent is not (RESERVED in " ".join(comment.replace("//", "").split()))
