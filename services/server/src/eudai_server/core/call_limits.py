"""What a caller may use: how many calls, how much output, and how much time."""

from collections.abc import Mapping
from dataclasses import dataclass, fields

LIMIT_MAX = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class CallLimits:
    """The limits of one caller. None: not limited."""

    # Calls that run at the same time; health watches do not count.
    calls_at_once: int | None = None
    # Calls that may begin at once, and again in the course of each minute. Health does not count.
    calls_per_minute: int | None = None
    # Tokens that one generation may produce.
    output_tokens: int | None = None
    # How long one call may run.
    call_seconds: int | None = None

    def over(self, others: "CallLimits") -> "CallLimits":
        """These limits, and the others where these are not limited."""
        if others is UNLIMITED:
            return self
        if self is UNLIMITED:
            return others
        own = {name: getattr(self, name) for name in LIMITS}
        missing = {name: getattr(others, name) for name in LIMITS if own[name] is None}
        return CallLimits(**own | missing)


UNLIMITED = CallLimits()
LIMITS = tuple(field.name for field in fields(CallLimits))


def limits_from(values: Mapping[str, object]) -> CallLimits:
    """Limits by their names. Raises ValueError with a message that says what is valid."""
    if not isinstance(values, Mapping) or not set(values) <= set(LIMITS):
        raise ValueError(f"must have only these limits: {', '.join(LIMITS)}")
    limits: dict[str, int] = {}
    for name, value in values.items():
        # A bool is an int in Python, but true is not a number in JSON.
        if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= LIMIT_MAX:
            raise ValueError(
                f"must have a whole number between 1 and {LIMIT_MAX} for the limit {name}"
            )
        limits[name] = value
    return CallLimits(**limits) if limits else UNLIMITED
