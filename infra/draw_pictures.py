"""Draw the pictures of the documents as SVG, legible on light and on dark pages: ``docs/pictures``."""

from collections.abc import Sequence
from html import escape
from pathlib import Path

TARGET = Path(__file__).resolve().parents[1] / "docs" / "pictures"
_STYLE = """
  text { font: 13px system-ui, sans-serif; fill: #1f2328; text-anchor: middle }
  .small { font-size: 11px; fill: #59636e }
  rect { fill: #f6f8fa; stroke: #59636e; rx: 6px }
  path { fill: none; stroke: #0969da; stroke-width: 1.5; marker-end: url(#tip) }
  .tip { fill: #0969da; stroke: none; marker-end: none }
  .page { fill: #ffffff; stroke: none }
  @media (prefers-color-scheme: dark) {
    text { fill: #f0f6fc } .small { fill: #9198a1 } rect { fill: #212830; stroke: #9198a1 }
    path { stroke: #4493f8 } .tip { fill: #4493f8 } .page { fill: #0d1117 }
  }
"""
_WIDE, _HIGH, _GAP_X, _GAP_Y = 208, 58, 64, 46
Box = tuple[int, int, str, str]
"""Column, row, title, second line."""


def picture(title: str, description: str, boxes: Sequence[Box], arrows: Sequence[tuple[int, int, str]]) -> str:
    """Return an SVG of boxes on a grid, joined by arrows.

    Args:
        title: its name for readers and screen readers.
        description: the same as the picture, in words.
        boxes: what is drawn.
        arrows: numbers of the boxes that each joins, in one row or in one column, and its label.
    """
    width = (max(b[0] for b in boxes) + 1) * (_WIDE + _GAP_X)
    height = (max(b[1] for b in boxes) + 1) * (_HIGH + _GAP_Y)
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" aria-labelledby="title desc">',
        f'<title id="title">{escape(title)}</title>',
        f'<desc id="desc">{escape(description)}</desc>',
        f"<style>{_STYLE}</style>",
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        '<path class="tip" d="M0 0L8 4L0 8z"/></marker></defs>',
        f'<rect class="page" width="{width}" height="{height}"/>',
    ]
    for first, second, label in arrows:
        (x, y), (to_x, to_y) = _centre(boxes[first]), _centre(boxes[second])
        if y == to_y:
            sign = 1 if to_x > x else -1
            start, end = (x + sign * _WIDE / 2, y), (to_x - sign * (_WIDE / 2 + 2), y)
        else:
            sign = 1 if to_y > y else -1
            start, end = (x, y + sign * _HIGH / 2), (to_x, to_y - sign * (_HIGH / 2 + 2))
        lines.append(f'<path d="M{start[0]:g} {start[1]:g}L{end[0]:g} {end[1]:g}"/>')
        if label:
            at_x, at_y = (start[0] + end[0]) / 2, (start[1] + end[1]) / 2
            shift = 4 if y == to_y else 0
            lines.append(
                f'<text class="small" x="{at_x + (0 if y == to_y else 8):g}" y="{at_y + 4 - 2 * shift:g}"'
                f"{'' if y == to_y else ' style=' + chr(34) + 'text-anchor:start' + chr(34)}>{escape(label)}</text>"
            )
    for box in boxes:
        x, y = _centre(box)
        lines += [
            f'<rect x="{x - _WIDE / 2:g}" y="{y - _HIGH / 2:g}" width="{_WIDE}" height="{_HIGH}"/>',
            f'<text x="{x:g}" y="{y - 4:g}">{escape(box[2])}</text>',
            f'<text class="small" x="{x:g}" y="{y + 15:g}">{escape(box[3])}</text>',
        ]
    return "\n".join([*lines, "</svg>"]) + "\n"


def _centre(box: Box) -> tuple[float, float]:
    return box[0] * (_WIDE + _GAP_X) + (_WIDE + _GAP_X) / 2, box[1] * (_HIGH + _GAP_Y) + (_HIGH + _GAP_Y) / 2


DATA_FLOW = picture(
    "Data flow",
    "Raw files are imported into Parquet tables. Feast definitions over these tables are applied and materialised into the "
    "online store. A dataset is built from the tables by an as-of join, a model is trained on it, and a bundle of "
    "towers, vectors and index is built from the model and promoted to the server, which reads the online store. Events "
    "that the server records go into the event log, from there into the online store and into the next dataset.",
    [
        (0, 0, "raw files", "CSV, Parquet"),
        (1, 0, "tables", "interactions, items, users"),
        (2, 0, "Feast", "definitions → FeatureSpec"),
        (3, 0, "online store", "SQLite, Redis, PostgreSQL"),
        (1, 1, "dataset", "events, states, vocabularies"),
        (2, 1, "event log", "what users do"),
        (3, 1, "server", "gRPC Retrieve, RecordEvents"),
        (1, 2, "run", "two towers, metrics"),
        (2, 2, "bundle", "towers, vectors, index"),
        (3, 2, "registry", "which bundle is served"),
    ],
    [
        (0, 1, "import"),
        (1, 2, "apply"),
        (2, 3, "load"),
        (1, 4, "rf dataset build"),
        (3, 6, "features; events back"),
        (6, 3, ""),
        (6, 5, "events"),
        (5, 4, "next"),
        (4, 7, "rf train"),
        (7, 8, "index"),
        (8, 9, "promote"),
        (9, 6, "served bundle"),
    ],
)
LIFE_OF_A_REQUEST = picture(
    "Life of a Retrieve request",
    "The interceptor checks token, deadline and load. The servicer parses the message into a query. The retriever routes "
    "the query to a bundle and reads the user's features from the online store. The user tower encodes them, the filter "
    "decides which items are eligible, the index is searched, the candidates are ordered and cut to k, and the reply is made.",
    [
        (0, 0, "admission", "server/{interceptor,admission}.py"),
        (1, 0, "parse", "server/retrieval_servicer.py"),
        (2, 0, "route", "retrieval/{retriever,routing}.py"),
        (2, 1, "fetch", "user_features/{fetcher,online_reader}.py"),
        (1, 1, "encode", "encoding.py"),
        (0, 1, "filter", "search/eligibility.py"),
        (0, 2, "search", "search/searcher.py, index/"),
        (1, 2, "re-rank", "ranking/stage.py"),
        (2, 2, "reply", "items, bundle, stage times"),
    ],
    [
        (0, 1, ""),
        (1, 2, ""),
        (2, 3, "online store"),
        (3, 4, ""),
        (4, 5, ""),
        (5, 6, "eligible items"),
        (6, 7, ""),
        (7, 8, ""),
    ],
)
PICTURES = {"data-flow.svg": DATA_FLOW, "life-of-a-request.svg": LIFE_OF_A_REQUEST}
"""Pictures by the name of their file; ``check_docs.py`` writes and checks them."""
