"""Records what happens in one generation: its phase, its times, and what the client has got."""

from dataclasses import fields, replace

from eudai.v1 import error_pb2

from eudai_server.core.access import Scope
from eudai_server.core.events import (
    Delta,
    Event,
    Finished,
    Phase,
    Progress,
    Started,
    Timings,
    ToolCall,
)
from eudai_server.rpc.transport.call import Call
from eudai_server.rpc.wire.generation_response import GENERATION_PHASES

# The unit of the times that a caller without the scope sees: evaluating a short prompt takes less.
COARSE_NS = 100_000_000

# While a generation is in one of these phases, another server may run it instead.
_BEFORE_THE_MODEL = (Phase.QUEUED, Phase.LOADING_MODEL)


class GenerationStatus:
    """The status of one generation, for its events, its failure and its log record."""

    def __init__(self, call: Call) -> None:
        """Create it when the request has been accepted: the queue time begins."""
        self.output_sent = False
        self._call = call
        self._is_coarse = Scope.TIMINGS not in call.principal.scopes
        self._phase = Phase.UNSPECIFIED
        self._requests_ahead: int | None = None
        self._accepted_ns = call.elapsed_ns
        # When each phase began, in nanoseconds since the call arrived.
        self._begins_ns: dict[Phase, int] = {}
        call.failure_detail = self.failure

    def observe(self, event: Event) -> Event:
        """Record an event; returns it with its ids and times."""
        if isinstance(event, Delta | ToolCall):
            if self._phase is not Phase.GENERATING:
                self._enter(Phase.GENERATING)
        elif isinstance(event, Progress):
            self._enter(event.phase)
            self._requests_ahead = event.requests_ahead
            return self.progress()
        elif isinstance(event, Finished):
            timings = self._timings(event.timings)
            event = replace(event, timings=_coarse(timings) if self._is_coarse else timings)
            self._report(event)
        elif isinstance(event, Started):
            return replace(event, generation_id=self._call.id, request_id=self._call.request_id)
        return event

    def progress(self) -> Progress:
        """The current phase, as an event."""
        elapsed_ns = self._call.elapsed_ns
        if self._is_coarse:
            elapsed_ns -= elapsed_ns % COARSE_NS
        return Progress(self._phase, self._requests_ahead, elapsed_ns)

    def failure(self) -> error_pb2.GenerationFailure | None:
        """The error detail of a generation that fails after the client has got output."""
        if not self.output_sent:
            return None
        return error_pb2.GenerationFailure(
            generation_id=self._call.id,
            phase=GENERATION_PHASES.encode(self._phase),
            output_sent=True,
        )

    def _enter(self, phase: Phase) -> None:
        self._phase = phase
        self._begins_ns.setdefault(phase, self._call.elapsed_ns)
        self._call.may_have_run = phase not in _BEFORE_THE_MODEL

    def _timings(self, reported: Timings) -> Timings:
        """Add what the server has measured to what the backend has reported."""
        now_ns = self._call.elapsed_ns
        begins_ns = {**self._begins_ns}
        begins_ns.pop(Phase.QUEUED, None)
        load_ns = reported.load_ns
        if Phase.LOADING_MODEL in begins_ns:
            # The backend reports only the load within its answer, which comes after this one.
            loaded_ns = begins_ns.get(Phase.EVALUATING_PROMPT, now_ns)
            load_ns = loaded_ns - begins_ns[Phase.LOADING_MODEL] + (load_ns or 0)
        return replace(
            reported,
            queue_ns=min(begins_ns.values(), default=now_ns) - self._accepted_ns,
            load_ns=load_ns,
            first_output_ns=begins_ns.get(Phase.GENERATING),
            total_ns=now_ns,
        )

    def _report(self, finished: Finished) -> None:
        """Put the result into the trailing metadata and the log record."""
        tokens = {
            "eudai-input-tokens": finished.usage.input_tokens,
            "eudai-output-tokens": finished.usage.output_tokens,
        }
        known = {name: str(count) for name, count in tokens.items() if count is not None}
        self._call.set_trailers(("eudai-finish-reason", str(finished.reason)), *known.items())
        self._call.fields |= {"finish_reason": finished.reason, **known}


def _coarse(timings: Timings) -> Timings:
    """The times in whole units."""
    times_ns = {field.name: getattr(timings, field.name) for field in fields(timings)}
    return Timings(**{name: ns and ns - ns % COARSE_NS for name, ns in times_ns.items()})
