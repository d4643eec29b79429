"""Simulates the whole server with faults that a seed determines, and checks its invariants.

Everything between gRPC and HTTP is real: the wrapper, services, queue, loads, probe and codecs. The
clock, the network, Ollama and the callers are simulated, so the seed determines the whole run.

    python -m simulation.simulate --seeds 1000      run the seeds from 0 on; name those that fail
    python -m simulation.simulate --seed 7          run one seed, and print what happened
"""

import argparse
import asyncio
import hashlib
import logging
import random
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar
from unittest import mock
from weakref import WeakSet

from eudai_server.app import DRAINING
from eudai_server.assembly import Parts
from eudai_server.config import Config
from eudai_server.core.fair_queue import FairQueue, Ticket
from simulation.caller import Context, call, plans_from
from simulation.clock import BEGIN_S, Violation, VirtualLoop, virtual_time
from simulation.outcomes import Outcomes
from simulation.world import World, WorldClient

# Longer than all limits of a call without a deadline, in sequence, for all that can wait.
PATIENCE_S = 3600.0
HEALTH_S = 2.6
HEALTH_POLL_S = 0.25
EVERYTHING_ENDS_S = 2.0
NOBODYS_S = 120.0


class Watched(FairQueue):
    """A queue that checks its own invariants."""

    # All queues of the server that exist now.
    alive: ClassVar["WeakSet[Watched]"] = WeakSet()

    def __init__(self, max_running: int, max_queued: int) -> None:
        super().__init__(max_running, max_queued)
        self.alive.add(self)
        self._numbers: dict[Ticket, int] = {}
        self._held: list[Ticket] = []
        # For each waiting caller: how many turns each other caller has had meanwhile.
        self._passed: defaultdict[str, Counter[str]] = defaultdict(Counter)

    @contextmanager
    def place(self, caller: str) -> Iterator[Ticket]:
        """Give each ticket a number."""
        if not any(ticket.caller == caller for ticket in self._held):
            self._passed.pop(caller, None)
        with super().place(caller) as ticket:
            self._numbers[ticket] = len(self._numbers)
            self._held.append(ticket)
            try:
                yield ticket
            finally:
                if ticket in self._held:
                    self._held.remove(ticket)

    @contextmanager
    def slot(self, ticket: Ticket) -> Iterator[None]:
        """Check the order: by arrival for each caller, and callers take turns."""
        self._held = [other for other in self._held if not other.evicted]
        self._held.remove(ticket)
        waiting = {other.caller for other in self._held}
        if any(
            self._numbers[other] < self._numbers[ticket]
            for other in self._held
            if other.caller == ticket.caller
        ):
            raise Violation("a caller's calls changed their order")
        for caller in waiting - {ticket.caller}:
            self._passed[caller][ticket.caller] += 1
            if self._passed[caller][ticket.caller] > 1:
                raise Violation(f"{ticket.caller} had two turns while {caller} waited")
        self._passed.pop(ticket.caller, None)
        with super().slot(ticket):
            yield


class Simulation:
    """The simulation of one seed."""

    def __init__(self, seed: int, *, calls: int, span_s: float) -> None:
        self.rng = random.Random(seed)
        self.span_s = span_s
        self.plans = plans_from(self.rng, calls, span_s)
        self.config = Config(
            max_running=self.rng.randint(1, 3),
            max_queued=self.rng.randint(0, 8),
            first_event_timeout_s=30.0,
            event_timeout_s=10.0,
        )
        self.drains_s = self.rng.choice((None, None, None, self.rng.uniform(0, span_s)))
        self.world = World(self.rng, self.config.max_running)
        self.trace: list[str] = []
        self.parts: Parts | None = None
        self.drained = False

    @property
    def calm(self) -> bool:
        """Whether Ollama has never failed, gone or hung so far, and the server does not drain."""
        steady = not self.world.fault_share and self.world.changed_s == float("-inf")
        return steady and self.drains_s is None

    def check(self) -> None:
        """Check the queues after every iteration of the loop."""
        for queue in Watched.alive:
            if not 0 <= queue.running <= queue.max_running:
                raise Violation(f"{queue.running} requests run, and {queue.max_running} may")
            if not 0 <= queue.queued <= queue.max_queued:
                raise Violation(f"{queue.queued} requests wait, and {queue.max_queued} may")

    async def run(self) -> Outcomes:
        """Run the calls, and return how they ended. Raises Violation."""
        client: Any = WorldClient(self.world)
        self.parts = Parts(self.config, client, write_timeout_s=30.0)
        handlers = self._handlers(self.parts)
        self.parts.start()
        before = asyncio.all_tasks()
        around = [
            asyncio.create_task(step)
            for step in (
                self._flap(),
                self._freeze(),
                self._evict(),
                self._watch_health(),
                self._drain(self.parts),
            )
        ]
        contexts = await self._calls(handlers)
        calm = self.calm
        for task in around:
            task.cancel()
        self.world.freeze("")
        for outcome in await asyncio.gather(*around, return_exceptions=True):
            if isinstance(outcome, Violation):
                raise outcome
        await self._nothing_is_left(self.parts, before)
        await self.parts.close()
        outcomes = Outcomes()
        for context in contexts:
            outcomes.add(context, calm=calm)
        return outcomes

    def _handlers(self, parts: Parts) -> dict[bool, Any]:
        rpcs = parts.services[0].rpcs
        generate = parts.calls.handler(rpcs["Generate"])
        once = parts.calls.handler(rpcs["GenerateOnce"])
        return {False: generate.stream_stream, True: once.stream_stream}

    async def _calls(self, handlers: dict[bool, Any]) -> list[Context]:
        tasks = [asyncio.create_task(call(plan, handlers, self.trace)) for plan in self.plans]
        _, pending = await asyncio.wait(tasks, timeout=PATIENCE_S + self.span_s)
        if pending:
            raise Violation(f"{len(pending)} calls hang")
        return [task.result() for task in tasks]

    async def _flap(self) -> None:
        """Stop and start Ollama."""
        while True:
            await asyncio.sleep(self.rng.choice((1e6, self.rng.uniform(1, 40))))
            self.world.go(up=False)
            await asyncio.sleep(self.rng.uniform(0.1, 8))
            self.world.go(up=True)

    async def _freeze(self) -> None:
        """Freeze Ollama or a runner, and let it continue."""
        while True:
            await asyncio.sleep(self.rng.choice((1e6, self.rng.uniform(1, 40))))
            self.world.freeze(self.rng.choice(("runner", "whole")))
            await asyncio.sleep(self.rng.uniform(0.1, 60))
            self.world.freeze("")

    async def _evict(self) -> None:
        """Evict models, as Ollama does if they are idle or another model needs the memory."""
        while True:
            await asyncio.sleep(self.rng.uniform(1, 60))
            self.world.resident.clear()

    async def _watch_health(self) -> None:
        assert self.parts
        loop, hung_s = asyncio.get_running_loop(), 0.0
        while True:
            await asyncio.sleep(HEALTH_POLL_S)
            steady = loop.time() - max(self.world.changed_s, BEGIN_S) > HEALTH_S
            answers = self.world.up and self.world.frozen != "whole"
            if not steady or (answers and self.world.frozen):
                continue  # the runner hangs: health notices only by calls
            if self.parts.readiness.hanging:
                # Calls met silence because of their own faults; the server must correct itself.
                hung_s += HEALTH_POLL_S
                if hung_s < HEALTH_S:
                    continue
            hung_s = 0.0
            if self.parts.readiness.serving != answers:
                raise Violation(
                    f"at {loop.time():.1f} s health says {self.parts.readiness.serving}, "
                    f"{HEALTH_S} s after Ollama changed to {answers}"
                )

    async def _drain(self, parts: Parts) -> None:
        """Drain as App.drain does, without a port."""
        if self.drains_s is None:
            return
        await asyncio.sleep(self.drains_s)
        parts.readiness.drain()
        await asyncio.sleep(1)
        await parts.calls.wait(5)
        parts.calls.end(*DRAINING)

    async def _nothing_is_left(self, parts: Parts, before: set["asyncio.Task[Any]"]) -> None:
        await asyncio.sleep(EVERYTHING_ENDS_S)
        if parts.admission.running or parts.admission.queued:
            raise Violation(
                f"{parts.admission.running} run and {parts.admission.queued} wait "
                "after every call has ended"
            )
        # A load belongs to no caller and may continue, but has a limit.
        end_s = time.monotonic() + NOBODYS_S
        while left := [
            task for task in asyncio.all_tasks() - before if task is not asyncio.current_task()
        ]:
            if time.monotonic() > end_s:
                raise Violation(f"tasks are left: {left}")
            await asyncio.sleep(0.1)
        if any(self.world.generating.values()):
            raise Violation(f"Ollama still generates: {self.world.generating}")


def simulate(seed: int, *, calls: int, span_s: float) -> tuple[Outcomes, str]:
    """Run a seed; return how its calls ended, and a digest of the run. Raises Violation."""
    random.seed(seed)  # the jitter of the server
    Watched.alive.clear()
    simulation = Simulation(seed, calls=calls, span_s=span_s)
    loop = VirtualLoop(simulation.check)
    with (
        mock.patch("eudai_server.core.admission.FairQueue", Watched),
        virtual_time(loop),
        asyncio.Runner(loop_factory=lambda: loop) as runner,
    ):
        outcomes = runner.run(simulation.run())
    return outcomes, hashlib.sha256("\n".join(simulation.trace).encode()).hexdigest()[:12]


def main() -> int:
    """Run the command. The exit code is 1 if an invariant broke, or too few calls ended OK."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seed", type=int, help="one seed, with what happened")
    parser.add_argument(
        "--seeds", type=int, default=1000, help="how many, from 0 on (default: %(default)s)"
    )
    parser.add_argument("--calls", type=int, default=40, help="calls a seed (default: %(default)s)")
    parser.add_argument(
        "--minutes",
        type=float,
        default=1.0,
        help="how long they keep coming, in virtual minutes (default: %(default)s)",
    )
    options = parser.parse_args()
    logging.disable(logging.CRITICAL if options.seed is None else logging.NOTSET)
    seeds = range(options.seeds) if options.seed is None else (options.seed,)
    begin_s, broken, total = time.monotonic(), [], Outcomes()
    for seed in seeds:
        try:
            outcomes, digest = simulate(seed, calls=options.calls, span_s=60 * options.minutes)
            total += outcomes
        except Violation as violation:
            broken.append(seed)
            print(f"seed {seed}: {violation}")
        if options.seed is not None and not broken:
            print(f"seed {seed}: {digest}")
        if seed % 100 == 99:
            print(f"  {seed + 1} seeds, {time.monotonic() - begin_s:.0f} s", file=sys.stderr)
    return _report(total, broken, len(seeds))


def _report(total: Outcomes, broken: list[int], seeds: int) -> int:
    """Print how the calls of all seeds ended, and return the exit code."""
    for outcome, count in total.every.most_common():
        print(f"{count:8} {outcome}")
    too_few = list(total.too_few())
    print(*total.shares(), *too_few, sep="\n")
    print(f"{len(broken)} of {seeds} seeds broke an invariant, {total.every.total()} calls")
    return 1 if broken or too_few else 0


if __name__ == "__main__":
    sys.exit(main())
