"""Sends the events of one generation to its client, at the pace that the client asked for."""

from collections.abc import Iterable

from eudai.v1 import generation_service_pb2 as pb

from eudai_server.core.events import Batches, Delta, Event, Finished, Progress, ToolCall
from eudai_server.rpc.services.generation_status import GenerationStatus
from eudai_server.rpc.services.pacing import Pacer, interrupted
from eudai_server.rpc.transport.call import Call
from eudai_server.rpc.wire.generation_response import response_from
from eudai_server.rpc.wire.values import seconds_of


class ResponseStream:
    """The responses of one call of Generate."""

    def __init__(self, call: Call, options: pb.EventOptions, status: GenerationStatus) -> None:
        """`options` are what the client asked for."""
        heartbeat_s = seconds_of(options.heartbeat_interval)
        flush_interval_s = seconds_of(options.flush_interval)
        self._call = call
        self._status = status
        self._wants_progress = options.progress or heartbeat_s > 0
        self._pacer = (
            Pacer(flush_interval_s, heartbeat_s) if flush_interval_s or heartbeat_s else None
        )
        self._finished: Event | None = None

    def paced(self, batches: Batches) -> Batches:
        """The batches, and an empty one whenever `send_due` has something to send."""
        return interrupted(batches, self._pacer.timeout_s) if self._pacer else batches

    async def send(self, event: Event) -> None:
        """Send an event, or hold it until it is due. Finished is held until `finish`."""
        if isinstance(event, Finished):
            self._finished = event
        elif self._pacer:
            await self._write_all(self._pacer.released_by(event))
        else:
            await self._write(event)

    async def send_due(self) -> None:
        """Send the held deltas, or a heartbeat, if it is time."""
        if self._pacer:
            await self._write_all(self._pacer.take_due())
            if self._pacer.is_heartbeat_due:
                await self._write(self._status.progress())

    async def flush(self) -> None:
        """Send the held deltas."""
        if self._pacer:
            await self._write_all(self._pacer.take_held())

    async def finish(self) -> None:
        """Send everything that is still held."""
        await self.flush()
        if self._finished:
            await self._write(self._finished)

    async def _write_all(self, events: Iterable[Event]) -> None:
        for event in events:
            await self._write(event)

    async def _write(self, event: Event) -> None:
        if isinstance(event, Progress) and not self._wants_progress:
            return
        await self._call.write(response_from(event))
        if isinstance(event, Delta | ToolCall):
            self._status.output_sent = True
        if self._pacer:
            self._pacer.restart_heartbeat()
