"""Simulated callers, as a seed determines: each generates, and may leave, hurry or read slowly."""

import asyncio
import random
from dataclasses import dataclass, field
from typing import Any

import grpc
from eudai.v1 import generation_service_pb2 as pb
from google.rpc import error_details_pb2, status_pb2
from scripted_ollama import numbered
from simulation.clock import Violation
from simulation.world import MODELS

OK = "OK"
LEFT = "CANCELLED by the client"
# How long a client takes for a message if its call is ended because it does not read.
STALLED_S = 1000.0


@dataclass
class Plan:
    """What one call does."""

    number: int
    arrives_s: float
    caller: str
    model: str
    words: int
    once: bool = False
    leaves_s: float | None = None
    deadline_s: float | None = None
    reads_s: float = 0.0
    request: pb.GenerateRequest = field(default_factory=pb.GenerateRequest)

    @property
    def patient(self) -> bool:
        """Whether the client stays, reads, and sets no time limit."""
        return (
            self.leaves_s is None
            and self.deadline_s is None
            and self.reads_s < STALLED_S
            and not self.request.HasField("time_budget")
        )


def plans_from(rng: random.Random, count: int, span_s: float) -> list[Plan]:
    """Plan this many calls within a span."""
    callers = [f"ipv4:10.0.0.{number}" for number in range(rng.randint(1, 4))]
    models = MODELS[: rng.randint(1, 2)]
    return [
        _plan(rng, number, rng.uniform(0, span_s), rng.choice(callers), rng.choice(models))
        for number in range(count)
    ]


def _plan(rng: random.Random, number: int, arrives_s: float, caller: str, model: str) -> Plan:
    plan = Plan(number, arrives_s, caller, model, rng.randint(1, 30), once=rng.random() < 0.2)
    request = pb.GenerateRequest(model=model, prompt=str(plan.words))
    plan.leaves_s = rng.choice((None, None, rng.uniform(0, 1), rng.uniform(0, 20)))
    plan.deadline_s = rng.choice((None, None, rng.uniform(0.1, 30)))
    plan.reads_s = rng.choice((0.0, 0.0, 0.0, rng.uniform(0, 0.5), STALLED_S))
    if rng.random() < 0.2:
        request.time_budget.FromMilliseconds(rng.randint(10, 20_000))
    if rng.random() < 0.3:
        request.events.progress = True
    if rng.random() < 0.2 and not plan.once:
        request.events.heartbeat_interval.FromMilliseconds(rng.randint(1000, 5000))
    if rng.random() < 0.2 and not plan.once:
        request.events.flush_interval.FromMilliseconds(rng.randint(1, 900))
    plan.request = request
    return plan


class Context:
    """What the server uses of `grpc.aio.ServicerContext`; records what the client would see."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.messages: list[pb.GenerateResponse] = []
        self.status = ""
        self.reason = ""
        # gRPC ends every operation of a call with the call.
        self._ended = asyncio.Event()

    def leave(self) -> None:
        """Cancel the call, as gRPC does when the client has left."""
        self._ended.set()

    def time_remaining(self) -> float | None:
        """The seconds until the deadline."""
        return self.plan.deadline_s

    def peer(self) -> str:
        """An address with a port, in gRPC's notation."""
        return f"{self.plan.caller}:{self.plan.number}"

    def invocation_metadata(self) -> tuple[()]:
        """Return no metadata."""
        return ()

    async def read(self) -> bytes:
        """Return the request, which arrives at once."""
        request = self.plan.request
        whole = pb.GenerateOnceRequest(request=request) if self.plan.once else request
        return whole.SerializeToString()

    def set_trailing_metadata(self, _trailers: object) -> None:
        """Ignore the metadata."""

    async def send_initial_metadata(self, _metadata: object) -> None:
        """Ignore the metadata."""

    async def write(self, message: bytes) -> None:
        """Wait as long as the client takes to read."""
        if self.status:
            raise Violation(
                f"call {self.plan.number} was written to after its status {self.status}"
            )
        if self.plan.reads_s and await self._ends_within(self.plan.reads_s):
            return
        self.messages += self._events_of(message)

    async def _ends_within(self, limit_s: float) -> bool:
        # Not a timeout, which would need a task of its own: operations of gRPC have none.
        ending = asyncio.ensure_future(self._ended.wait())
        await asyncio.wait((ending,), timeout=limit_s)
        ending.cancel()
        return self._ended.is_set()

    def _events_of(self, message: bytes) -> list[pb.GenerateResponse]:
        if not self.plan.once:
            return [pb.GenerateResponse.FromString(message)]
        whole = pb.GenerateOnceResponse.FromString(message).generation
        text = "".join(part.text for part in whole.message.parts)
        return [
            pb.GenerateResponse(delta=pb.Delta(text=text)),
            pb.GenerateResponse(finished=whole.finished),
        ]

    async def abort(self, code: grpc.StatusCode, _message: str, trailers: Any = ()) -> None:
        """End the call with a status."""
        if self.status:
            raise Violation(f"call {self.plan.number} ended twice: {self.status}, then {code.name}")
        self.status = code.name
        self._ended.set()
        details = dict(trailers).get("grpc-status-details-bin")
        if details:
            info = error_details_pb2.ErrorInfo()
            status_pb2.Status.FromString(details).details[0].Unpack(info)
            self.reason = info.reason
        raise grpc.aio.AbortError("aborted")


async def call(plan: Plan, handlers: dict[bool, Any], trace: list[str]) -> Context:
    """Make one call to its end, and check what its client saw."""
    context = Context(plan)
    await asyncio.sleep(plan.arrives_s)
    task = asyncio.ensure_future(handlers[plan.once](None, context))
    limits = [limit for limit in (plan.leaves_s, plan.deadline_s) if limit is not None]
    await asyncio.wait((task,), timeout=min(limits, default=None))
    left = not task.done()
    if left:
        task.cancel()
        context.leave()
    error = None
    try:
        await task
    except grpc.aio.AbortError:
        pass
    except asyncio.CancelledError as cancelled:
        error = cancelled
    if not context.status:
        context.status = LEFT if error else OK
    if error and not left and context.status == LEFT:
        raise Violation(
            f"call {plan.number} was cancelled by nobody, and its client waits for a status"
        )
    _judge(plan, context)
    trace.append(
        f"{asyncio.get_running_loop().time():.4f} {plan.number} {context.status} "
        f"{context.reason} {len(context.messages)}"
    )
    return context


def _judge(plan: Plan, context: Context) -> None:
    kinds = [message.WhichOneof("event") for message in context.messages]
    text = "".join(message.delta.text for message in context.messages)
    whole = "".join(numbered(plan.words))
    if not whole.startswith(text):
        raise Violation(f"call {plan.number} got {text!r}, which is no prefix of {whole!r}")
    if context.reason == "INTERNAL":
        raise Violation(f"call {plan.number} met a defect")
    if (context.status == OK) != (kinds[-1:] == ["finished"]):
        raise Violation(f"call {plan.number} ended {context.status} after {kinds}")
    if (
        context.status == OK
        and text != whole
        and context.messages[-1].finished.reason != pb.FINISH_REASON_TIME_BUDGET
    ):
        raise Violation(f"call {plan.number} ended OK with {text!r}, and the whole is {whole!r}")
    order = [kind for kind in kinds if kind not in ("progress", "warning")]
    if (
        not plan.once
        and order[1:]
        and (order[0] != "started" or "started" in order[1:] or "finished" in order[:-1])
    ):
        raise Violation(f"call {plan.number} saw events in the order {kinds}")
