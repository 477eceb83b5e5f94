"""The rows as a picture: each measured figure over its target, on a logarithmic scale, as SVG without a library.

A row without a target has words and no bar.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from math import log10

from tests.perf.rows import Row

_WIDTH, _ROW, _MARGIN, _TOP = 1080, 44, 28, 70
_BARS = 600  # where the bars begin; the words stand left of it
_LEAST, _MOST = 0.25, 16.0
_MARKS = (0.5, 1, 2, 4, 8)


def draw(rows: Sequence[Row], when: str) -> str:
    """An SVG document that reads on light and dark backgrounds."""
    bottom = _TOP + _ROW * len(rows)
    return "\n".join(
        [
            (
                f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {bottom + 40}" '
                'font-family="system-ui, sans-serif">'
            ),
            f'<rect width="{_WIDTH}" height="{bottom + 40}" rx="8" fill="#fbfbf9"/>',
            _text(_MARGIN, 34, "Hermes: measured, over its target", size=19),
            _text(_WIDTH - _MARGIN, 34, when, size=12, fill="#777", anchor="end"),
            *(_mark(mark, bottom) for mark in _MARKS),
            *(part for number, row in enumerate(rows) for part in _row(row, _TOP + number * _ROW)),
            "</svg>",
        ]
    )


def _mark(mark: float, bottom: int) -> str:
    x, colour = _x(mark), "#555" if mark == 1 else "#ddd"
    line = f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{_TOP - 8}" y2="{bottom}" stroke="{colour}"/>'
    return line + _text(x, bottom + 20, f"{mark:g} ×", size=11, fill="#777", anchor="middle")


def _row(row: Row, y: int) -> list[str]:
    words = [
        _text(_MARGIN, y + 13, row.what, size=12.5),
        _text(_MARGIN, y + 29, f"{row.measured}; {row.target}", size=11, fill="#666"),
    ]
    if row.score is None:
        return words
    left, right = sorted((_x(1.0), _x(min(max(row.score, _LEAST), _MOST))))
    colour = "#2f7d5b" if row.reached else "#c0492f"
    return [
        *words,
        f'<rect x="{left:.1f}" y="{y + 6}" width="{max(right - left, 3):.1f}" height="20" rx="3" fill="{colour}"/>',
    ]


def _text(x: float, y: float, words: str, *, size: float, fill: str = "#222", anchor: str = "start") -> str:
    return f'<text x="{x:.1f}" y="{y}" font-size="{size}" fill="{fill}" text-anchor="{anchor}">{escape(words)}</text>'


def _x(score: float) -> float:
    span = log10(_MOST) - log10(_LEAST)
    return _BARS + (log10(score) - log10(_LEAST)) / span * (_WIDTH - _MARGIN - _BARS)
