"""Bar charts as SVG, with a logarithmic axis."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from math import ceil, floor, log10

WIDTH = 760
LABEL_WIDTH = 190
FIGURE_WIDTH = 70
BAR_HEIGHT = 15
ROW_HEIGHT = 20
HEAD_HEIGHT = 34
MARGIN = 12
OURS = "#1f6feb"
PEER = "#9aa4b2"
STYLE = (
    "text{font:12px sans-serif;fill:#1f2328}"
    ".title{font-size:15px;font-weight:bold}.head{font-weight:bold}.line{stroke:#1f2328}"
)


@dataclass(frozen=True)
class Bar:
    """A bar, and the value up to which a thin line goes on from it."""

    label: str
    value: float
    figure: str
    ours: bool
    line_to: float = 0.0


@dataclass(frozen=True)
class Group:
    """Some bars under a heading."""

    title: str
    bars: Sequence[Bar]


def bar_chart(title: str, groups: Sequence[Group]) -> str:
    """An SVG image. Values must be positive; all bars have the same axis."""
    values = [max(bar.value, bar.line_to) for group in groups for bar in group.bars]
    least = min(bar.value for group in groups for bar in group.bars)
    axis = _Axis(floor(log10(least / 1.5)), ceil(log10(max(values))))
    parts = [f'<text class="title" x="{MARGIN}" y="{MARGIN + 14}">{escape(title)}</text>']
    y = MARGIN + HEAD_HEIGHT
    for group in groups:
        parts.append(f'<text class="head" x="{MARGIN}" y="{y + 12}">{escape(group.title)}</text>')
        y += ROW_HEIGHT
        for bar in group.bars:
            parts += _bar(bar, axis, y)
            y += ROW_HEIGHT
        y += MARGIN
    size = f'width="{WIDTH}" height="{y}" viewBox="0 0 {WIDTH} {y}"'
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" {size}>',
            f"<style>{STYLE}</style>",
            '<rect width="100%" height="100%" fill="#ffffff"/>',
            *parts,
            "</svg>\n",
        ]
    )


@dataclass(frozen=True)
class _Axis:
    """From 10^low to 10^high."""

    low: int
    high: int

    def length(self, value: float) -> float:
        """The length of a bar, in pixels."""
        room = WIDTH - LABEL_WIDTH - FIGURE_WIDTH - 2 * MARGIN
        return room * (log10(value) - self.low) / (self.high - self.low)


def _bar(bar: Bar, axis: _Axis, y: int) -> list[str]:
    x, middle = MARGIN + LABEL_WIDTH, y + BAR_HEIGHT / 2
    end = axis.length(bar.value)
    line_end = axis.length(max(bar.line_to, bar.value))
    color = OURS if bar.ours else PEER
    return [
        f'<text x="{x - 8}" y="{y + 12}" text-anchor="end">{escape(bar.label)}</text>',
        f'<rect x="{x}" y="{y}" width="{end:.1f}" height="{BAR_HEIGHT}" fill="{color}"/>',
        f'<path class="line" d="M{x + end:.1f} {middle}H{x + line_end:.1f}"/>',
        f'<text x="{x + line_end + 6:.1f}" y="{y + 12}">{escape(bar.figure)}</text>',
    ]
