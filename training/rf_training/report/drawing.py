"""Style of charts, and their output as a PNG file and as an SVG element that follows the colours of the page."""

import io
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import AbstractPathEffect, withStroke
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from rf_platform.files import new_file


@dataclass(frozen=True)
class Ink:
    """A colour by light and by dark background; the page knows it as the custom property ``--name``."""

    name: str
    light: str
    """Also the colour in PNG files; no two inks share it."""
    dark: str


TEXT = Ink("text", "#1c2126", "#e8eaed")
MUTED = Ink("muted", "#5b6570", "#a3adb8")
GRID = Ink("grid", "#e1e5ea", "#333a42")
SERIES = (
    Ink("blue", "#2a6fbb", "#6cabf2"),
    Ink("orange", "#d26a12", "#f2a154"),
    Ink("green", "#2b8a56", "#5fc88c"),
    Ink("red", "#c23b4d", "#f27d8b"),
    Ink("purple", "#7753b5", "#b79df2"),
    Ink("teal", "#178c99", "#55c9d3"),
    Ink("yellow", "#a88400", "#e3c344"),
)
REST = Ink("rest", "#b3bac2", "#59626c")
INKS = (TEXT, MUTED, GRID, *SERIES, REST)
PNG_DPI = 200
HALO = "halo"
"""Prefix of the group id of a text that lies on other marks and needs an edge in the colour of the background."""

_STYLE = {
    "svg.fonttype": "none",  # text stays text: it takes the page's font and can be found and read aloud
    "svg.hashsalt": "rf",  # equal figures give equal files
    "text.parse_math": False,  # a dollar sign in a title is a dollar sign
    "font.size": 9.5,
    "axes.titlesize": 10.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlepad": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": GRID.light,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.labelcolor": MUTED.light,
    "axes.titlecolor": TEXT.light,
    "grid.color": GRID.light,
    "grid.linewidth": 0.8,
    "xtick.color": MUTED.light,
    "ytick.color": MUTED.light,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "text.color": TEXT.light,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "lines.linewidth": 1.8,
    "lines.solid_capstyle": "round",
}


@contextmanager
def style() -> Iterator[None]:
    """Draw inside the block in the style of all charts."""
    with (
        matplotlib.rc_context(cast(Any, _STYLE)),  # its keys are literals to the type checker
        warnings.catch_warnings(),
    ):
        warnings.filterwarnings("ignore", message=r"Glyph \d+ .* missing from font", category=UserWarning)
        yield


@contextmanager
def panel(title: str, *, width: float = 4.6, height: float = 2.8) -> Iterator[tuple[Figure, Axes]]:
    """Open a figure of one set of axes, in inches; draw inside the block and call :func:`finish` there.

    Characters that the font of PNG files lacks become boxes in them; the page has the reader's fonts.
    """
    with style():
        figure = Figure(figsize=(width, height), layout="constrained")
        axes = figure.add_subplot()
        axes.set_title(title)
        yield figure, axes


def log_scale(axes: Axes, which: Literal["x", "y"]) -> None:
    """Give an axis a logarithmic scale with plain numbers; matplotlib's own are formulas, which the style does not set."""
    axis = axes.xaxis if which == "x" else axes.yaxis
    (axes.set_xscale if which == "x" else axes.set_yscale)("log")
    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


@dataclass(frozen=True, kw_only=True)
class Chart:
    """A finished chart."""

    name: str
    """Part of file names and of the ids inside the SVG element."""
    title: str
    note: str
    """Explanation for the reader; one or two sentences."""
    svg: str
    """An ``<svg>`` element for an HTML page."""
    png: bytes
    wide: bool = False
    """Whether it needs the whole width of the page."""

    def save(self, path: Path) -> None:
        """Write the PNG file."""
        with new_file(path) as file:
            file.write_bytes(self.png)


def finish(figure: Figure, *, name: str, title: str, note: str, wide: bool = False) -> Chart:
    """Render a figure as a part of a page and as a PNG file."""
    svg, png = io.StringIO(), io.BytesIO()
    bare = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    figure.savefig(svg, format="svg", transparent=True, metadata=bare)
    # In the page the style sheet draws the edge.
    halo: list[AbstractPathEffect] = [withStroke(linewidth=2.5, foreground="white")]
    for text in figure.findobj(lambda artist: str(artist.get_gid()).startswith(HALO)):
        text.set_path_effects(halo)
    figure.savefig(png, format="png", dpi=PNG_DPI, facecolor="white")
    return Chart(
        name=name, title=title, note=note, svg=_inline(svg.getvalue(), name, title), png=png.getvalue(), wide=wide
    )


def _inline(document: str, name: str, title: str) -> str:
    """Cut the ``<svg>`` element out of an SVG file and make it a part of a page.

    Ids get a prefix of their own, colours refer to the page's, text takes the page's font, and what only a file needs (the
    declaration, name spaces, metadata) goes.
    """
    svg = document[document.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>|<!--.*?-->", "", svg, flags=re.DOTALL)
    head, body = svg.split(">", 1)
    view = re.search(r'viewBox="[^"]*"', head)
    assert view is not None
    body = re.sub(r"<[^>]*>", lambda tag: _adapt(tag[0], name), body)  # tags only: never the text between them
    body = re.sub(r"(<g clip-path=[^>]*)>((?:\s*<use [^>]*/>)+)\s*</g>", _share_style, body)
    label = title.replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;")
    return f'<svg {view[0]} role="img" aria-label="{label}">{body}'


def _adapt(tag: str, name: str) -> str:
    tag = re.sub(r'\bid="', f'id="{name}-', tag)
    tag = re.sub(r'xlink:href="#', f'href="#{name}-', tag)
    tag = tag.replace("url(#", f"url(#{name}-")
    tag = re.sub(r"font-family: [^;\"]*;?", "", tag)
    tag = re.sub(r"(\d\.\d\d)\d+", r"\1", tag)
    for ink in INKS:
        tag = tag.replace(ink.light, f"var(--{ink.name})")
    return tag


def _share_style(group: re.Match[str]) -> str:
    """Write the style of markers that have the same one on their group."""
    styles = set(re.findall(r' style="[^"]*"', group[2]))
    if len(styles) != 1:
        return group[0]
    style = styles.pop()
    return f"{group[1]}{style}>{group[2].replace(style, '')}</g>"
