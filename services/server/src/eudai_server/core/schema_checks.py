"""Compiles schemas and checks values against them without blocking the event loop.

Cheap schemas are checked directly. All others are sent, one job at a time, to a process
(`schema_worker`) that limits the CPU time and memory of each job. Callers take turns. The process
starts with the first job, and again after it has died.
"""

import asyncio
import json
import logging
import socket
import subprocess
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

from eudai_server.core.errors import Reason, ServiceError
from eudai_server.core.fair_queue import FairQueue, QueueFullError
from eudai_server.core.json_schema import Schema

VALUE_CHARS_MAX = 1 << 20
QUEUED_MAX = 32
# Wall time, generous for a busy machine; the worker limits the CPU time of a job.
JOB_TIMEOUT_S = 2.0
START_TIMEOUT_S = 10.0
STARTS_MAX = 2
RETRY_AFTER_S = 1.0
TOO_EXPENSIVE = "is too expensive to check; use fewer patterns, references and keywords"

# Of one job: one item per schema, and one for the value.
Results = list[Any]

log = logging.getLogger(__name__)


class SchemaChecks:
    """Checks the schemas of all callers."""

    def __init__(self, queued_max: int = QUEUED_MAX) -> None:
        """`queued_max` checks may wait. Starts no process yet."""
        self.queue = FairQueue(max_running=1, max_queued=queued_max)
        self._worker: _Worker | None = None
        self._job: asyncio.Task[Results | None] | None = None

    def start(self) -> None:
        """Start the process now; forking later would block the event loop for milliseconds."""
        try:
            self._worker = self._worker or _Worker.start()
        except OSError as error:
            log.warning("cannot start the process that checks schemas: %s", type(error).__name__)

    async def compile(self, schemas: Sequence[Schema], caller: str) -> tuple[int, str] | None:
        """The index of the first schema that does not compile, and why; None if all compile.

        The schemas of one call share one limit. Raises ServiceError QUEUE_FULL. If the worker
        cannot be started, all schemas pass.
        """
        expensive = [index for index, schema in enumerate(schemas) if not schema.is_cheap]
        if not expensive:
            return None
        texts = [schemas[index].text for index in expensive]
        answer = await self._ask(caller, texts, None)
        if answer is None:
            return None
        wrong = next(filter(None, answer), TOO_EXPENSIVE)
        compiled = sum(line is None for line in answer)
        return None if compiled == len(texts) else (expensive[compiled], wrong)

    async def fits(self, schema: Schema, text: str, caller: str) -> bool | None:
        """Whether a text is JSON that matches a schema; None if the check exceeded its limits."""
        if schema.is_cheap_for(text):
            return schema.fits(text)
        if len(text) > VALUE_CHARS_MAX:
            return None
        try:
            answer = await self._ask(caller, [schema.text], text)
        except ServiceError:
            return None
        return answer[1] if answer and len(answer) > 1 else None

    async def close(self) -> None:
        """Stop the process."""
        if self._job:
            self._job.cancel()
            await asyncio.wait((self._job,))
        await self._end_worker()

    async def _ask(self, caller: str, schemas: list[str], value: str | None) -> Results | None:
        """The worker's answer; None if there is no worker. Raises ServiceError QUEUE_FULL."""
        job = json.dumps([schemas, value]).encode() + b"\n"
        try:
            with self.queue.place(caller) as ticket, ExitStack() as held:
                while not self.queue.is_next(ticket):
                    await ticket.moved.wait()
                    ticket.moved.clear()
                    if ticket.evicted:
                        raise _busy()
                held.enter_context(self.queue.slot(ticket))
                # The answer must be read even if the caller leaves; otherwise the next job would
                # get it.
                self._job = asyncio.create_task(self._run(job, held.pop_all()))
        except QueueFullError:
            raise _busy() from None
        return await asyncio.shield(self._job)

    async def _run(self, job: bytes, slot: ExitStack) -> Results | None:
        with slot:
            for _ in range(STARTS_MAX):
                answer = await self._run_once(job)
                if answer is not None:
                    return answer
        return None

    async def _run_once(self, job: bytes) -> Results | None:
        try:
            self._worker = self._worker or _Worker.start()
            return await self._worker.run(job)
        except (OSError, ValueError) as error:  # a TimeoutError is an OSError
            log.warning("the process that checks schemas failed: %s", type(error).__name__)
            await self._end_worker()
            return None

    async def _end_worker(self) -> None:
        worker, self._worker = self._worker, None
        if worker:
            await worker.end()


class _Worker:
    """The worker process."""

    def __init__(self, process: "subprocess.Popen[bytes]", ours: socket.socket) -> None:
        self._process = process
        self._socket = ours
        # Set when the process has started to answer.
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    @classmethod
    def start(cls) -> "_Worker":
        """Start a process without waiting until it runs. Raises OSError."""
        ours, theirs = socket.socketpair()
        with theirs, ExitStack() as held:
            held.enter_context(ours)
            process = subprocess.Popen(
                [sys.executable, "-I", "-m", "eudai_server.core.schema_worker"],
                stdin=theirs.fileno(),
                stdout=theirs.fileno(),
                stderr=subprocess.DEVNULL,
                # Keeps the terminal's Ctrl-C away: the server stops the process. In a session of
                # its own it would wait seconds for the CPU on a busy machine (sched_autogroup).
                process_group=0,
            )
            held.pop_all()
        return cls(process, ours)

    async def run(self, job: bytes) -> Results:
        """Run a job.

        Raises OSError if the process died or took too long, ValueError for a bad answer.
        """
        if self._streams is None:
            self._streams = await asyncio.open_connection(sock=self._socket)
            await self._run(b"[[], null]\n", START_TIMEOUT_S, *self._streams)
        return await self._run(job, JOB_TIMEOUT_S, *self._streams)

    @staticmethod
    async def _run(
        job: bytes, timeout_s: float, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> Results:
        async with asyncio.timeout(timeout_s):
            writer.write(job)
            await writer.drain()
            answer: Results = []
            while (line := await reader.readline()) != b"\n":
                if not line:
                    raise ConnectionError("it exited")
                answer.append(json.loads(line))
            return answer

    async def end(self) -> None:
        """Kill the process, and wait for its end, which can take seconds on a busy machine."""
        self._process.kill()
        if self._streams:
            self._streams[1].transport.abort()
        else:
            self._socket.close()
        await asyncio.to_thread(self._process.wait)


def _busy() -> ServiceError:
    return ServiceError(
        Reason.QUEUE_FULL,
        "too many schemas are waiting to be checked; retry the call",
        retry_after_s=RETRY_AFTER_S,
    )
