"""Samples → an SVG: one line a command, one dot a run. Spread and outliers are seen at a glance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from xml.sax.saxutils import escape

LEFT, WIDTH, LINE = 420, 560, 22


def plot(samples: Mapping[str, Sequence[Mapping[str, Mapping[str, float]]]]) -> str:
    """`samples`: measurement → rounds → command → fields of a Sample."""
    parts: list[str] = []
    y = LINE
    for name, rounds in samples.items():
        most = max(sample["seconds"] for one in rounds for sample in one.values())
        parts.append(f'<text x="8" y="{y}" font-weight="bold">{escape(name)} (0 to {most * 1e3:.0f} ms)</text>')
        for command in rounds[0]:
            y += LINE
            parts.append(f'<text x="24" y="{y}">{escape(command)}</text>')
            parts.append(f'<line x1="{LEFT}" x2="{LEFT + WIDTH}" y1="{y - 4}" y2="{y - 4}" stroke="#ddd"/>')
            for one in rounds:
                x = LEFT + one[command]["seconds"] / most * WIDTH
                parts.append(f'<circle cx="{x:.1f}" cy="{y - 4}" r="4" fill="#36c" fill-opacity="0.4"/>')
        y += 2 * LINE
    size = f'width="{LEFT + WIDTH + 20}" height="{y}"'
    style = 'font-family="sans-serif" font-size="13"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size} {style}>\n' + "\n".join(parts) + "\n</svg>\n"
