"""The rows as a picture: each measured figure over its target, on a logarithmic scale, as SVG without a library."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from math import log10

from tests.perf.rows import Row

_WIDTH, _ROW, _LEFT, _TOP = 980, 46, 24, 64
_LEAST, _MOST = 0.25, 16.0


def draw(rows: Sequence[Row], when: str) -> str:
    """An SVG document that reads on light and dark backgrounds."""
    height = _TOP + _ROW * len(rows) + 40
    one = _x(1.0)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" font-family="system-ui, sans-serif">',
        f'<rect width="{_WIDTH}" height="{height}" fill="#fbfbf9"/>',
        f'<text x="{_LEFT}" y="30" font-size="18" fill="#222">Hermes: measured, over its target</text>',
        f'<text x="{_WIDTH - _LEFT}" y="30" font-size="12" fill="#777" text-anchor="end">{escape(when)}</text>',
    ]
    for mark in (0.5, 1, 2, 4, 8):
        x = _x(mark)
        colour = "#444" if mark == 1 else "#ddd"
        parts.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{_TOP - 8}" y2="{height - 34}" stroke="{colour}"/>')
        parts.append(
            f'<text x="{x:.1f}" y="{height - 16}" font-size="11" fill="#777" text-anchor="middle">{mark:g} ×</text>'
        )
    for number, row in enumerate(rows):
        y = _TOP + number * _ROW
        end = _x(min(max(row.score, _LEAST), _MOST))
        left, right = min(one, end), max(one, end)
        colour = "#2f7d5b" if row.reached else "#c0492f"
        parts.append(f'<text x="{_LEFT}" y="{y + 10}" font-size="12.5" fill="#222">{escape(row.what)}</text>')
        parts.append(
            f'<rect x="{left:.1f}" y="{y + 17}" width="{max(right - left, 2):.1f}" height="12" rx="2" fill="{colour}"/>'
        )
        parts.append(f'<text x="{right + 6:.1f}" y="{y + 27}" font-size="11" fill="#555">{escape(row.measured)}</text>')
    return "\n".join([*parts, "</svg>"])


def _x(score: float) -> float:
    span = log10(_MOST) - log10(_LEAST)
    return _LEFT + (log10(score) - log10(_LEAST)) / span * (_WIDTH * 0.62 - _LEFT)
