"""SVG figures as parts of a page."""

from __future__ import annotations

import re

from markupsafe import Markup, escape

from metarl.figures import style

COLOURS = {
    "#ffffff": "paper",
    style.INK: "ink",
    "#777777": "faint-ink",
    "#888888": "axis",
    "#e6e6e6": "grid",
    style.FAINT: "pale",
    style.BLUE: "blue",
    style.VERMILLION: "vermillion",
    style.GREEN: "green",
    style.PURPLE: "purple",
    style.ORANGE: "orange",
    style.SKY: "sky",
}
"""Colour of figures -> variable of style.css, which has a light and a dark value."""
LEGIBLE = 0.85
"""[px/pt] smallest scale of a figure, at which 9 pt are 8 px. On narrower pages it scrolls instead."""


def embed(svg: str, name: str, alt: str) -> Markup:
    """Matplotlib's SVG as part of a page: with unique ids, the colours of the page, and its width.

    Args:
        svg: from `metarl.figures.style.svg`.
        name: first part of its ids, different for each figure of a page.
        alt: the figure in words, for screen readers.
    """
    start, _, content = svg[svg.index("<svg") :].partition(">")
    (box,) = re.findall(r'viewBox="[^"]*"', start)
    least = round(LEGIBLE * float(box.split()[2]))
    content = re.sub(r"<style.*?</style>", "", content, flags=re.DOTALL)
    used = set(re.findall(r'(?:href="#|url\(#)([^")]+)', content))
    content = re.sub(r' id="([^"]*)"', lambda found: found[0] if found[1] in used else "", content)
    content = re.sub(r'( id="|href="#|url\(#)', rf"\g<1>{name}-", content).replace("xlink:href", "href")
    for colour, variable in COLOURS.items():
        content = re.sub(colour, f"var(--{variable})", content, flags=re.IGNORECASE)
    return Markup(f'<svg {box} style="min-width: {least}px" role="img" aria-label="{escape(alt)}">{content}')
