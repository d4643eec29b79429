"""Counts how calls ended, and requires that enough of them succeeded.

A server that refuses every call breaks no other invariant.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Self

from simulation.caller import OK, Context
from simulation.clock import Violation

# The least share of patient calls that ends OK, and the same of calm calls. About half and eight
# tenths do.
PATIENT_OK_MIN = 0.25
CALM_OK_MIN = 0.7
# How a calm call may end.
CALM_ENDS = {OK, "RESOURCE_EXHAUSTED QUEUE_FULL", "RESOURCE_EXHAUSTED QUOTA_EXCEEDED"}
# Shares of fewer calls than this are not judged.
CALLS_MIN = 30


@dataclass
class Outcomes:
    """How many calls ended how, by status and reason."""

    every: Counter[str] = field(default_factory=Counter)
    # Those whose client stays, reads, and sets no time limit.
    patient: Counter[str] = field(default_factory=Counter)
    # The patient ones of seeds in which Ollama has no fault and the server does not drain.
    calm: Counter[str] = field(default_factory=Counter)

    def add(self, context: Context, *, calm: bool) -> None:
        """Count one call. Raises Violation if a calm call ended in a way that no fault explains."""
        outcome = f"{context.status} {context.reason}".strip()
        self.every[outcome] += 1
        if context.plan.patient:
            self.patient[outcome] += 1
            if calm:
                self.calm[outcome] += 1
                if outcome not in CALM_ENDS:
                    raise Violation(f"call {context.plan.number} ended {outcome} without a fault")

    def __iadd__(self, other: Self) -> Self:
        """Count the calls of another seed."""
        self.every += other.every
        self.patient += other.patient
        self.calm += other.calm
        return self

    def shares(self) -> Iterator[str]:
        """How many of the patient calls and of the calm calls ended OK."""
        for name, counted, _ in self._bounds():
            yield f"{counted[OK]} of {counted.total()} {name} calls ended OK"

    def too_few(self) -> Iterator[str]:
        """A line for each share that is below its bound."""
        for name, counted, share_min in self._bounds():
            if counted.total() >= CALLS_MIN and counted[OK] < share_min * counted.total():
                yield f"too few {name} calls ended OK, of which {share_min:.0%} should"

    def _bounds(self) -> tuple[tuple[str, Counter[str], float], ...]:
        return (("patient", self.patient, PATIENT_OK_MIN), ("calm", self.calm, CALM_OK_MIN))
