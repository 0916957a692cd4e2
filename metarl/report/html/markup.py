"""HTML from plain values: whatever is not markup already is escaped."""

from __future__ import annotations

import base64
import html
import importlib.resources
import re
import shlex
from collections.abc import Iterable, Sequence
from string import Template

from metarl.figures import style


class Html(str):
    """Text that is markup. Every other string is escaped where it meets markup, so nothing has to remember to."""

    __slots__ = ()


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


LINE = 80
"""Letters of a command line that are shown in one line."""
LEGIBLE = 0.85
"""[px/pt] of a figure below which it scrolls rather than shrinks: letters of 9 pt are read at 8 px."""


def join(parts: Iterable[object], between: str = "") -> Html:
    """The parts one after the other: markup as it is, everything else as text."""
    return Html(between.join(part if isinstance(part, Html) else html.escape(str(part)) for part in parts))


def element(tag: str, *children: object, **attributes: object) -> Html:
    """`<tag attributes>children</tag>`.

    Args:
        attributes: `class_` and `aria_label` stand for class and aria-label; True is an attribute without a value,
            None and False are no attribute.
    """
    names = {name.rstrip("_").replace("_", "-"): value for name, value in attributes.items()}
    given = [
        name if value is True else f'{name}="{html.escape(str(value))}"'
        for name, value in names.items()
        if value is not None and value is not False
    ]
    return Html(f"<{' '.join([tag, *given])}>{join(children)}</{tag}>")


def section(name: str, title: str, *children: object) -> Html:
    """A part of the page that `#name` leads to."""
    heading = element("h2", title, id=f"{name}-title")
    return element("section", heading, *children, id=name, aria_labelledby=f"{name}-title")


def table(label: str, columns: Sequence[str], *bodies: Html, words: bool = False) -> Html:
    """A table that scrolls within itself; all but its first column are numbers, unless they are `words`."""
    head = element("thead", element("tr", *(element("th", column, scope="col") for column in columns)))
    inner = element("table", head, *bodies, class_="words" if words else "numbers")
    return element("div", inner, class_="scroll", role="region", tabindex=0, aria_label=label)


def body(rows: Iterable[Sequence[object]], heading: str = "") -> Html:
    """Rows of a table, each headed by its first cell, and all of them by `heading` where there is one."""
    cells = [(element("th", first, scope="row"), *(element("td", cell) for cell in rest)) for first, *rest in rows]
    listed = [element("tr", *row) for row in cells]
    if heading:
        above = element("th", heading, scope="rowgroup", colspan=len(cells[0]))
        listed.insert(0, element("tr", above, class_="heading"))
    return element("tbody", *listed)


def commands(lines: Iterable[str]) -> Html:
    """Command lines that can be pasted into a shell; a long one goes on in a second line from its first flag."""
    return element("pre", element("code", "\n".join(map(_in_two, lines))))


def _in_two(line: str) -> str:
    parts = shlex.split(line)
    at = next((i for i, part in enumerate(parts) if part.startswith("--")), 0)
    if len(line) <= LINE or not at:
        return line
    return f"{shlex.join(parts[:at])} \\\n    {shlex.join(parts[at:])}"


def figure(svg: str, name: str, alt: str, caption: str) -> Html:
    """A figure, with a text for who does not see it and a caption."""
    return element("figure", element("div", inline(svg, name, alt), class_="drawing"), element("figcaption", caption))


def inline(svg: str, name: str, alt: str) -> Html:
    """Matplotlib's SVG as a part of a page: ids of its own, colours of the page, as wide as there is room.

    Args:
        svg: from `metarl.figures.style.svg`.
        name: starts its ids; no two figures of a page have the same.
        alt: what is seen in it, for who does not see it.
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
    return Html(f'<svg {box} style="min-width: {least}px" role="img" aria-label="{html.escape(alt)}">{content}')


def video(mp4: bytes, poster: bytes, size: tuple[int, int], label: str) -> Html:
    """A film that is decoded only when it is played, with a JPEG `poster` before; `size` is width and height [px]."""
    source, picture = data_url("video/mp4", mp4), data_url("image/jpeg", poster)
    behaviour = {"controls": True, "loop": True, "muted": True, "playsinline": True, "preload": "none"}
    width, height = size
    return element("video", aria_label=label, width=width, height=height, poster=picture, src=source, **behaviour)


def data_url(kind: str, content: bytes) -> str:
    """`content` itself in place of an address."""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def page(title: str, *body: object) -> str:
    """The whole document, from template.html and style.css."""
    here = importlib.resources.files("metarl.report.html")
    template, css = (here.joinpath(name).read_text(encoding="utf-8") for name in ("template.html", "style.css"))
    return Template(template).substitute(title=html.escape(title), style=css, body=join(body, "\n"))
