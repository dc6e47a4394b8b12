"""``rf index build``: a servable bundle from a training run."""

from dataclasses import asdict
from typing import Annotated

import typer

from rf_platform.cli.options import Json, listing

app = typer.Typer(no_args_is_help=True, help="Build a servable bundle: towers, vocabularies, vectors, index.")


@app.callback()
def index() -> None:
    """Build a servable bundle: towers, vocabularies, vectors, index."""


def _kinds() -> list[str]:
    from rf_serving.index import INDEX_KINDS

    return list(INDEX_KINDS)


@app.command(cls=listing(kinds=_kinds))
def build(
    run: Annotated[str | None, typer.Argument(help="Training run; default: the newest.")] = None,
    name: Annotated[
        str | None, typer.Option(help="Name of the bundle; default: the run's with a number.", show_default=False)
    ] = None,
    kind: Annotated[
        str,
        typer.Option(
            help="One of {kinds}, or auto: exact up to 100,000 items, ivf-pq above. milvus needs RF_INDEX_URL."
        ),
    ] = "auto",
    recall: Annotated[
        float,
        typer.Option(help="Share of the true best items that the search of an approximate index is tuned to find."),
    ] = 0.99,
    min_recall: Annotated[
        float,
        typer.Option(help="Least share of the true best 20 and 100 items it must find; below, no bundle is made."),
    ] = 0.95,
    reranker: Annotated[
        bool,
        typer.Option("--reranker/--no-reranker", help="Take in the run's re-ranker, if one was chosen for it."),
    ] = True,
    as_json: Json = False,
) -> None:
    """Encode the catalog with a run's best checkpoint, index it, and publish everything that is served together.

    The bundle is not served yet: `rf promote NAME` does that. Its re-ranker, made by `rf rerank train`, orders what the search
    finds, unless RF_RERANK or a request says otherwise.
    """
    from rich.filesize import decimal

    from rf_platform.cli.console import print_json, say
    from rf_platform.registry import Registry
    from rf_platform.settings import get_settings
    from rf_serving.bundle.build import RECALL_AT, IndexOptions, build_bundle

    built = build_bundle(
        Registry.of(),
        get_settings().workspace.bundles,
        run,
        IndexOptions(kind=kind, recall=recall, min_recall=min_recall),
        reranker=reranker,
        name=name,
    )
    if as_json:
        print_json(
            {
                **asdict(built.record),
                "items": built.items,
                "index": built.index,
                "reranker": built.reranker,
                "bytes": built.total_bytes,
            }
        )
        return
    measured = [f"recall@{k} {built.index[key]:.4f}" for k in RECALL_AT if (key := f"recall@{k}") in built.index]
    quality = f", {' and '.join(measured)} against an exact scan" if measured else ""
    say(
        f"built {built.record.name}: {built.items:,} items, {built.index['kind']} index{quality}, "
        f"{built.reranker or 'no'} re-ranker, "
        f"{decimal(built.total_bytes)}; serve it with `rf promote {built.record.name}`"
    )
