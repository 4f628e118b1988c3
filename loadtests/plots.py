"""Line plots as inline SVG: no script, no font, nothing fetched."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from typing import Final

Point = tuple[float, float]
COLOURS: Final = ("#005eb8", "#d5281b", "#007f3b", "#7c2855", "#ed8b00", "#425563", "#00a499")
_WIDTH: Final = 640
_HEIGHT: Final = 240
_LEFT: Final = 56
_RIGHT: Final = 12
_TOP: Final = 30
_BOTTOM: Final = 34
_TICKS: Final = 5


@dataclass(frozen=True, slots=True)
class Line:
    """What is drawn in one colour; its points from left to right."""

    name: str
    points: Sequence[Point]
    marked: bool = False
    """Whether each point is a dot."""


@dataclass(frozen=True, slots=True)
class _Frame:
    """Where values come to stand."""

    left: float
    right: float
    top: float

    def x(self, value: float) -> float:
        span = (self.right - self.left) or 1.0
        return _LEFT + (value - self.left) / span * (_WIDTH - _LEFT - _RIGHT)

    def y(self, value: float) -> float:
        return _HEIGHT - _BOTTOM - value / self.top * (_HEIGHT - _TOP - _BOTTOM)


def plot(
    title: str,
    x: str,
    y: str,
    lines: Sequence[Line],
    *,
    limit: float = 0.0,
    zones: Sequence[Point] = (),
) -> str:
    """An SVG element.

    Args:
        x: what stands below, with its unit; `y` at the side.
        limit: a value that is drawn across, dashed; none where it is 0.
        zones: places on the x axis where steps begin, with their users.
    """
    points = [point for line in lines for point in line.points if _is_number(point)]
    if not points:
        return f"<p><strong>{escape(title)}</strong>: nothing was measured.</p>"
    frame = _frame(points, limit)
    parts = [
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(title)}">',
        f'<text x="{_LEFT}" y="14" class="title">{escape(title)}</text>',
        *_axes(frame, x, y),
        *_zones(frame, zones),
        *_limit(frame, limit),
    ]
    for line, colour in zip(lines, COLOURS, strict=False):
        parts += _drawn(frame, line, colour)
    return "".join([*parts, *_legend(lines), "</svg>"])


def _is_number(point: Point) -> bool:
    return math.isfinite(point[0]) and math.isfinite(point[1])


def _frame(points: Sequence[Point], limit: float) -> _Frame:
    across = [x for x, _ in points]
    return _Frame(min(across), max(across), nice(max([limit, *(y for _, y in points)])))


def nice(value: float) -> float:
    """The next number above of 1, 2, 2.5 or 5 times a power of ten."""
    if value <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    return float(next(one * power for one in (1, 2, 2.5, 5, 10) if one * power >= value * 0.9999))


def _axes(frame: _Frame, x: str, y: str) -> Iterator[str]:
    for number in range(_TICKS + 1):
        value = frame.top * number / _TICKS
        at = frame.y(value)
        yield _across(at, "grid")
        yield f'<text x="{_LEFT - 6}" y="{at + 4:.1f}" class="end">{value:g}</text>'
    for number in range(_TICKS + 1):
        value = frame.left + (frame.right - frame.left) * number / _TICKS
        place, at = frame.x(value), _HEIGHT - _BOTTOM + 14
        yield f'<text x="{place:.1f}" y="{at}" class="middle">{value:.0f}</text>'
    yield f'<text x="{_WIDTH - _RIGHT}" y="{_HEIGHT - 5}" class="end">{escape(x)}</text>'
    yield f'<text x="2" y="{_TOP - 4}">{escape(y)}</text>'


def _zones(frame: _Frame, zones: Sequence[Point]) -> Iterator[str]:
    for value, number in zones:
        at = frame.x(value)
        low = _HEIGHT - _BOTTOM
        yield f'<line x1="{at:.1f}" x2="{at:.1f}" y1="{_TOP}" y2="{low}" class="zone"/>'
        yield f'<text x="{at + 2:.1f}" y="{low - 3}" class="zone">{number:g} users</text>'


def _limit(frame: _Frame, limit: float) -> Iterator[str]:
    if limit:
        yield _across(frame.y(limit), "limit")


def _across(at: float, style: str) -> str:
    right = _WIDTH - _RIGHT
    return f'<line x1="{_LEFT}" x2="{right}" y1="{at:.1f}" y2="{at:.1f}" class="{style}"/>'


def _drawn(frame: _Frame, line: Line, colour: str) -> Iterator[str]:
    points = [(frame.x(x), frame.y(y)) for x, y in line.points if _is_number((x, y))]
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    yield f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.5"/>'
    if line.marked:
        yield from (f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in points)


def _legend(lines: Sequence[Line]) -> Iterator[str]:
    """Right of the title, from the right edge on."""
    at = _WIDTH - _RIGHT - sum(len(line.name) * 6.4 + 22 for line in lines)
    for line, colour in zip(lines, COLOURS, strict=False):
        yield f'<rect x="{at:.1f}" y="18" width="10" height="3" fill="{colour}"/>'
        yield f'<text x="{at + 14:.1f}" y="23">{escape(line.name)}</text>'
        at += len(line.name) * 6.4 + 22
