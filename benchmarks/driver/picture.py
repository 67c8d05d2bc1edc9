"""A picture of the ratios: one bar a measure, drawn so that right of the line means that the goal is met."""

from __future__ import annotations

import math
from html import escape

from .measure import Comparison

_BAR, _GAP, _LEFT, _WIDTH, _DECADE = 14, 8, 220, 760, 120


def _headroom(comparison: Comparison) -> float | None:
    """How many times better than the goal: 1 is just met."""
    excess = comparison.excess()
    # A count is the difference of two runs: one of nearly nothing may be below zero.
    return 1 / excess if excess is not None and excess > 0 else None


def draw(comparisons: list[Comparison]) -> str:
    bars = [(c.measure.name, room) for c in comparisons if (room := _headroom(c))]
    height = 60 + len(bars) * (_BAR + _GAP)
    zero = _LEFT + 2 * _DECADE
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{height}" '
             f'font-family="sans-serif" font-size="12">',
             '<rect width="100%" height="100%" fill="white"/>']
    for decade in range(-2, 3):
        x = zero + decade * _DECADE
        colour = "#333" if decade == 0 else "#ddd"
        label = "goal" if decade == 0 else f"{10.0 ** decade:g}x"
        parts.append(f'<line x1="{x}" y1="24" x2="{x}" y2="{height - 8}" stroke="{colour}"/>')
        parts.append(f'<text x="{x}" y="18" text-anchor="middle" fill="#555">{label}</text>')
    for i, (name, room) in enumerate(bars):
        y = 32 + i * (_BAR + _GAP)
        length = max(-2.0, min(2.0, math.log10(room))) * _DECADE
        colour = "#2a7f62" if room >= 1 else "#b3432b"
        x, width = (zero, length) if length >= 0 else (zero + length, -length)
        parts.append(f'<text x="{_LEFT - 8}" y="{y + 11}" text-anchor="end">{escape(name)}</text>')
        parts.append(f'<rect x="{x:.1f}" y="{y}" width="{max(width, 1):.1f}" height="{_BAR}" fill="{colour}"/>')
        parts.append(f'<text x="{_WIDTH - 60}" y="{y + 11}" fill="#555">{room:.2f}x</text>')
    if not bars:
        parts.append(f'<text x="{zero}" y="48" text-anchor="middle">no measure with a goal has run</text>')
    parts.append("</svg>")
    return "\n".join(parts) + "\n"
