"""Medians of rounds with bootstrap intervals, and how they are written."""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

RESAMPLES = 2000
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Estimate:
    """The median of some rounds, and its 95 % interval."""

    median: float
    low: float
    high: float

    def divided(self, divisor: float) -> "Estimate":
        """The same in another unit."""
        return Estimate(self.median / divisor, self.low / divisor, self.high / divisor)

    def text(self) -> str:
        """The median, with the interval in brackets unless it has no width."""
        if self.low == self.high:
            return figure(self.median)
        return f"{figure(self.median)} ({figure(self.low)} – {figure(self.high)})"

    def verdict(self, limit: float) -> str:
        """Whether it is at most `limit`: met, missed, or a tie if the limit is inside."""
        if self.high <= limit:
            return "met"
        return "missed" if self.low > limit else "tie"


def estimate(values: Sequence[float]) -> Estimate:
    """The median of at least one value. The interval of a single value is the value."""
    # The seed makes a report reproducible.
    choose = random.Random(1).choices
    medians = sorted(median(choose(values, k=len(values))) for _ in range(RESAMPLES))
    tail = round(RESAMPLES * (1 - CONFIDENCE) / 2)
    return Estimate(median(values), medians[tail], medians[-1 - tail])


def paired(
    of: Mapping[int, float], to: Mapping[int, float], compare: Callable[[float, float], float]
) -> Estimate | None:
    """Compare two contestants within each round that has both; None if there is no such round."""
    values = [compare(value, to[number]) for number, value in of.items() if to.get(number)]
    return estimate(values) if values else None


def figure(value: float) -> str:
    """A number with about three significant digits."""
    size = abs(value)
    digits = next((digits for digits, limit in ((3, 1), (2, 10), (1, 100)) if size < limit), 0)
    text = f"{value:,.{digits}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
