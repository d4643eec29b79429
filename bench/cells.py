"""The cells: each is one kind of load that every contestant gets."""

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Cell:
    """One kind of load, in the terms of the load generator."""

    name: str
    title: str
    kind: str  # held: streams that are replaced when they end; short: calls; idle: one call a time
    streams: int
    tokens: int = 1
    interval_us: int = 0
    warmup_s: float = 0.5
    window_s: float = 1.5
    connections: int = 4
    cancel_share: float = 0.0
    # Measured once, in a process that has served nothing else.
    once: bool = False

    @property
    def unit(self) -> str:
        """What the CPU time is divided by."""
        return "tokens" if self.kind == "held" else "calls"

    def arguments(self) -> list[str]:
        """The options of the load generator."""
        options: dict[str, object] = {
            "cell": self.kind,
            "streams": self.streams,
            "tokens": self.tokens,
            "interval-us": self.interval_us,
            "warmup-s": self.warmup_s,
            "duration-s": self.window_s,
            "connections": self.connections,
            "cancel-share": self.cancel_share,
        }
        return [text for name, value in options.items() for text in (f"-{name}", str(value))]


# A warm-up of a held cell is as long as one stream at most, so that all streams run.
CELLS = [
    Cell("flat", "flat out, 8 streams", "held", 8, 2000),
    Cell("64x500", "64 × 500 tok/s", "held", 64, 500, 2_000, warmup_s=1.1),
    Cell("16x100", "16 × 100 tok/s", "held", 16, 100, 10_000, warmup_s=1.1),
    Cell("32x20", "32 × 20 tok/s", "held", 32, 20, 50_000, warmup_s=1.1),
    Cell("short-1", "short, 1 caller", "short", 1, connections=1),
    Cell("short-16", "short, 16 callers", "short", 16),
    Cell("idle", "idle, one call at a time", "idle", 1, connections=1),
    Cell("cancel", "16 × 100 tok/s, half of the streams cancelled", "held", 16, 100, 10_000,
         warmup_s=1.1, window_s=4.0, cancel_share=0.5, once=True),
    Cell("held-1000", "1,000 × 20 tok/s", "held", 1000, 200, 50_000, warmup_s=11.0, window_s=4.0,
         connections=20, once=True),
]  # fmt: skip
BY_NAME = {cell.name: cell for cell in CELLS}
READY = Cell("ready", "one call", "short", 1, warmup_s=0.0, window_s=0.2, connections=1)


def shortened(cell: Cell) -> Cell:
    """The cell of `make bench-quick`, with a shorter window."""
    return replace(cell, window_s=min(cell.window_s, 1.2))
