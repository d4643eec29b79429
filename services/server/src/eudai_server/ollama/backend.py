"""Runs generations with Ollama: implements the port `Backend`."""

import asyncio
import math
import random
import time
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from dataclasses import replace
from datetime import UTC, datetime

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
from eudai_server.core.model_name import ModelName
from eudai_server.ollama.state.canary import answers
from eudai_server.ollama.state.catalog import Facts
from eudai_server.ollama.state.gathering import Stream
from eudai_server.ollama.state.model_request import ModelRequest
from eudai_server.ollama.state.ollama_state import OllamaState
from eudai_server.ollama.transport.client import Answer
from eudai_server.ollama.wire.generation_stream import Output, StreamDecoder
from eudai_server.ollama.wire.requests import request_from
from eudai_server.ollama.wire.schema_keywords import keyword_warnings

# Ollama stops evaluating a prompt only between batches; two slow batches take less than this.
SETTLE_TIMEOUT_S = 60.0
CANARY_TIMEOUT_S = 2.0
# A seed that every client can hold in a signed integer of 32 bits.
SEED_BITS = 31


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
        if warnings := keyword_warnings(generation):
            yield warnings
        state, model = self._state, generation.model
        facts = state.catalog.facts(model)
        generation = _with_seed(generation, facts)
        request = ModelRequest(
            state, model, generation.load, expected_digest=generation.expected_digest
        )
        # Sent with the first output, or with the end if there is none.
        first: list[Event] = [self._started(generation, facts, None)]
        try:
            with (
                request,
                state.gpu.watching(model) as measure,
                state.gathering.stream() as stream,
            ):
                if request.needs_load:
                    yield [Progress(Phase.LOADING_MODEL)]
                    async with _time_budget(generation):
                        await request.load()
                yield [Progress(Phase.EVALUATING_PROMPT)]
                facts = state.catalog.facts(model)  # the load may have changed it
                first = [self._started(generation, facts, datetime.now(UTC))]
                decoder = _decoder_for(generation, facts)
                answer, truncated = await self._open(generation, facts)
                if truncated:
                    first.insert(0, _TRUNCATED)
                async with answer:
                    while not decoder.finished:
                        events = await self._read(generation, answer, decoder, stream)
                        if decoder.finished:
                            request.complete()
                            measure(decoder.finished)
                        if events:
                            yield [*first, *events]
                            first = []
                            stream.observe_output()
                        if decoder.failure:
                            raise decoder.failure
        except _BudgetSpentError:
            yield [*first, Finished(FinishReason.TIME_BUDGET)]
        finally:
            if generation.load.keep_alive_s == 0:
                state.loader.forget(model)

    async def settle(self, model: ModelName, load: LoadOptions) -> None:
        """See `Backend.settle`.

        Asks for one token, which arrives when the model has nothing else to do.
        """
        try:
            async with asyncio.timeout(SETTLE_TIMEOUT_S):
                while self._state.loader.is_loaded(model, load):
                    if await answers(self._state.endpoint, model, load, CANARY_TIMEOUT_S):
                        return
        except TimeoutError:
            self._state.hangs.record_stall(model, load)
        except ServiceError:
            return  # a model that cannot answer is not busy

    def _started(
        self, generation: Generation, facts: Facts, start_time: datetime | None
    ) -> Started:
        seed = generation.sampling.get("seed")
        return Started(
            facts.name,
            facts.digest,
            facts.context_length,
            start_time,
            seed=None if seed is None else int(seed),
            backend_version=self._state.catalog.version,
        )

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
        request = request_from(
            generation, can_think="thinking" in facts.capabilities, truncate=truncate
        )
        async with _time_budget(generation):
            return await self._state.endpoint.open(request, timeout_s=self._first_event_timeout_s)

    async def _read(
        self, generation: Generation, answer: Answer, decoder: StreamDecoder, stream: Stream
    ) -> Sequence[Output]:
        budget_s = _budget_left_s(generation)
        # Tool calls are not held, and nobody knows in advance which line has one.
        pause_s = 0.0 if generation.tools else stream.pause_s()
        if pause_s:
            await answer.gather(min(pause_s, budget_s))
        try:
            data = await answer.read(min(budget_s, self._event_timeout_s))
        except ServiceError as error:
            if error.reason is Reason.BACKEND_STALLED and budget_s < self._event_timeout_s:
                raise _BudgetSpentError from None
            raise
        return decoder.feed(data) if data else decoder.close()


def _time_budget(generation: Generation) -> AbstractAsyncContextManager[None]:
    """End a step when the caller's time budget is spent, by raising _BudgetSpentError."""
    if generation.budget_end_s is None:
        return nullcontext()
    return _ended_at(generation.budget_end_s)


@asynccontextmanager
async def _ended_at(budget_end_s: float) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(budget_end_s - time.monotonic()):
            yield
    except TimeoutError:
        raise _BudgetSpentError from None


def _budget_left_s(generation: Generation) -> float:
    """The seconds that are left of the caller's time budget; raises _BudgetSpentError if none are.

    A read of bytes that have already arrived does not suspend, so no timeout would end it.
    """
    if generation.budget_end_s is None:
        return math.inf
    left_s = generation.budget_end_s - time.monotonic()
    if left_s <= 0:
        raise _BudgetSpentError
    return left_s


def _with_seed(generation: Generation, facts: Facts) -> Generation:
    """Choose a seed if neither the caller nor the model has, so that the caller can learn it."""
    if "seed" in generation.sampling or facts.has_seed:
        return generation
    seed = random.getrandbits(SEED_BITS)
    return replace(generation, sampling={**generation.sampling, "seed": seed})


def _decoder_for(generation: Generation, facts: Facts) -> StreamDecoder:
    return StreamDecoder(
        generation.model.listed,
        generation_id=generation.id,
        context_length=facts.context_length,
        max_output_tokens=generation.max_output_tokens,
        hide_reasoning=generation.hide_reasoning,
        has_tools=bool(generation.tools),
        stop_sequences=generation.stop_sequences,
    )


_TRUNCATED = GenerationWarning(
    GenerationWarningCode.INPUT_TRUNCATED,
    "the conversation did not fit the context window; its oldest messages were dropped",
    "context_overflow",
)
