"""Figures as parts of a page."""

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
"""Colours of the figures, and the variables of style.css by which they follow the page from light to dark."""
LEGIBLE = 0.85
"""[px/pt] of a figure below which it scrolls instead of shrinking: letters of 9 pt are read at 8 px."""


def embed(svg: str, name: str, alt: str) -> Markup:
    """Matplotlib's SVG as a part of a page: ids of its own, colours of the page, as wide as there is room.

    Args:
        svg: from `metarl.figures.style.svg`.
        name: starts its ids; no two figures of a page have the same.
        alt: what is seen in it, for those who do not see it.
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
