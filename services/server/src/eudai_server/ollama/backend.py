"""Runs generations with Ollama: implements the port `Backend`."""

import asyncio
import time
from collections.abc import AsyncGenerator, Coroutine, Sequence
from contextlib import aclosing
from dataclasses import replace
from datetime import UTC, datetime
from typing import TypeVar

from eudai_server.core.errors import Reason, ServiceError
from eudai_server.core.events import (
    Event,
    Finished,
    FinishReason,
    GenerationWarning,
    GenerationWarningCode,
    Phase,
    Progress,
    Started,
)
from eudai_server.core.generation import Generation, LoadOptions
from eudai_server.ollama.state.canary import answers
from eudai_server.ollama.state.catalog import Facts
from eudai_server.ollama.state.ollama_state import OllamaState
from eudai_server.ollama.transport.client import Answer
from eudai_server.ollama.wire.generation_stream import Output, StreamDecoder
from eudai_server.ollama.wire.requests import request_from
from eudai_server.ollama.wire.schema_keywords import keyword_warnings

# Ollama stops evaluating a prompt only between batches; two slow batches take less than this.
SETTLE_TIMEOUT_S = 60.0
CANARY_TIMEOUT_S = 2.0

T = TypeVar("T")


class _BudgetSpentError(Exception):
    """The caller's time budget is spent, which ends the generation normally."""


class OllamaBackend:
    """A Backend that uses one Ollama."""

    def __init__(
        self,
        state: OllamaState,
        *,
        first_event_timeout_s: float,
        event_timeout_s: float,
    ) -> None:
        """`event_timeout_s` limits the silence after the first event.

        `first_event_timeout_s` limits the wait for that event, which includes the prompt's
        evaluation.
        """
        self._state = state
        self._first_event_timeout_s = first_event_timeout_s
        self._event_timeout_s = event_timeout_s

    async def generate(self, generation: Generation) -> AsyncGenerator[Sequence[Event], None]:
        """See `Backend.generate`."""
        warnings = keyword_warnings(generation)
        if warnings:
            yield warnings
        started = False
        start_time = None
        try:
            async with aclosing(self._watched(generation)) as batches:
                async for batch in batches:
                    started = started or any(isinstance(event, Started) for event in batch)
                    if _EVALUATING in batch:
                        start_time = datetime.now(UTC)
                    yield batch
        except _BudgetSpentError:
            finished = Finished(FinishReason.TIME_BUDGET)
            yield (
                [finished]
                if started
                else [_started(self._state.catalog.facts(generation.model), start_time), finished]
            )
        finally:
            if generation.load.keep_alive_s == 0:
                self._state.loader.forget(generation.model)

    async def settle(self, model: str, load: LoadOptions) -> None:
        """See `Backend.settle`.

        Asks for one token, which arrives when the model has nothing else to do.
        """
        try:
            async with asyncio.timeout(SETTLE_TIMEOUT_S):
                while self._state.loader.is_loaded(model, load):
                    if await answers(self._state.client, model, load, CANARY_TIMEOUT_S):
                        return
        except TimeoutError:
            self._state.hangs.stalled(model, load)
        except ServiceError:
            return  # a model that cannot answer is not busy

    async def _watched(self, generation: Generation) -> AsyncGenerator[Sequence[Event], None]:
        """Generate, and report stalls and answers to the judge of hangs."""
        self._state.require_answering(generation.model)
        with self._state.gpu.watching() as is_alone:
            try:
                async with aclosing(self._generate(generation)) as batches:
                    async for batch in batches:
                        if isinstance(batch[-1], Finished):
                            self._state.hangs.answered(generation.model)
                            if is_alone():
                                self._state.gpu.measure(generation.model, batch[-1])
                        yield batch
            except ServiceError as error:
                if error.reason is Reason.BACKEND_STALLED:
                    self._state.hangs.stalled(generation.model, generation.load)
                raise

    async def _generate(self, generation: Generation) -> AsyncGenerator[Sequence[Event], None]:
        # Checked before the load, so that no model is loaded only to find that its digest is wrong,
        # and again after it, when the digest in memory is known.
        self._state.catalog.check_digest(generation.model, generation.expected_digest)
        load_begin_ns = time.monotonic_ns()
        if not self._state.loader.is_loaded(generation.model, generation.load):
            yield [Progress(Phase.LOADING_MODEL)]
            await _within(
                generation,
                self._first_event_timeout_s,
                self._state.loader.load(generation.model, generation.load),
            )
            self._state.catalog.check_digest(generation.model, generation.expected_digest)
        yield [_EVALUATING]
        load_ns = time.monotonic_ns() - load_begin_ns
        start_time = datetime.now(UTC)
        facts = self._state.catalog.facts(generation.model)
        answer, truncated = await self._open(generation, facts)
        async with answer:
            first: list[Event] = [_started(facts, start_time)]
            if truncated:
                first.insert(0, _TRUNCATED)
            async with aclosing(self._events(generation, facts, answer)) as batches:
                async for batch in batches:
                    yield [*first, *(_with_load(event, load_ns) for event in batch)]
                    first = []

    async def _open(self, generation: Generation, facts: Facts) -> tuple[Answer, bool]:
        """The answer, and whether the conversation was cut to fit the context.

        Ollama cuts silently, so the first request forbids it.
        """
        try:
            return await self._send(generation, facts, truncate=False), False
        except ServiceError as error:
            if error.reason is not Reason.CONTEXT_LENGTH_EXCEEDED or not generation.drop_oldest:
                raise
        return await self._send(generation, facts, truncate=True), True

    async def _send(self, generation: Generation, facts: Facts, *, truncate: bool) -> Answer:
        route, body = request_from(
            generation, can_think="thinking" in facts.capabilities, truncate=truncate
        )
        return await _within(
            generation,
            self._first_event_timeout_s,
            self._state.client.open("POST", route, body, model=generation.model),
        )

    async def _events(
        self, generation: Generation, facts: Facts, answer: Answer
    ) -> AsyncGenerator[Sequence[Output], None]:
        decoder = StreamDecoder(
            generation.model,
            generation_id=generation.id,
            context_length=facts.context_length,
            max_output_tokens=generation.max_output_tokens,
            hide_reasoning=generation.hide_reasoning,
            has_tools=bool(generation.tools),
            stop_sequences=generation.stop_sequences,
        )
        while not decoder.finished:
            data = await _within(generation, self._event_timeout_s, answer.read())
            events = decoder.feed(data) if data else decoder.close()
            if events:
                yield events
            if decoder.failure:
                raise decoder.failure


async def _within(generation: Generation, limit_s: float, step: Coroutine[None, None, T]) -> T:
    """Await a step for at most `limit_s`, and until the caller's time budget ends.

    Raises BACKEND_STALLED at the limit, and _BudgetSpentError at the end of the budget.
    """
    budget_s = (
        float("inf")
        if generation.budget_end_s is None
        else generation.budget_end_s - time.monotonic()
    )
    if budget_s <= 0:
        # A read of bytes that have already arrived does not suspend, so no timeout would end it.
        step.close()
        raise _BudgetSpentError
    try:
        async with asyncio.timeout(min(limit_s, budget_s)):
            return await step
    except TimeoutError:
        if budget_s <= limit_s:
            raise _BudgetSpentError from None
        raise ServiceError(
            Reason.BACKEND_STALLED, f"Ollama sent nothing for {limit_s:g} s"
        ) from None


_EVALUATING = Progress(Phase.EVALUATING_PROMPT)

_TRUNCATED = GenerationWarning(
    GenerationWarningCode.INPUT_TRUNCATED,
    "the conversation did not fit the context window; its oldest messages were dropped",
    "context_overflow",
)


def _started(facts: Facts, start_time: datetime | None) -> Started:
    return Started(facts.name, facts.digest, facts.context_length, start_time)


def _with_load(event: Output, load_ns: int) -> Event:
    """Add the load time to Ollama's timings.

    Ollama reports only the load within this request, but the server has loaded the model before it.
    """
    if not isinstance(event, Finished):
        return event
    timings = replace(event.timings, load_ns=load_ns + (event.timings.load_ns or 0))
    return replace(event, timings=timings)
