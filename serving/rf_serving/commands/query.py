"""``rf query``: ask a running server."""

from typing import Annotated, Any

import typer

from rf_platform.cli.console import out_console, print_json

app = typer.Typer()

_SHOWN_HISTORY = 10
_SHOWN_FEATURES = 2
_SHORT = 40


@app.command()
def query(
    user: Annotated[str | None, typer.Option(help="A user's id.", show_default=False)] = None,
    history: Annotated[
        str | None,
        typer.Option(help="An anonymous session: item ids, oldest first, with commas.", show_default=False),
    ] = None,
    k: Annotated[int, typer.Option("-k", help="How many items.")] = 10,
    include_seen: Annotated[bool, typer.Option("--include-seen", help="Items of the history may come back.")] = False,
    address: Annotated[str, typer.Option(help="host:port of the server.")] = "127.0.0.1:50051",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Ask a running server for recommendations and show them with titles, beside the history they were made from.

    Titles come from the bundle in this workspace; where it is not here, ids are shown.
    """
    from rf_platform.errors import UsageError
    from rf_protos.v1.retrieval_pb2 import Interaction, RetrieveRequest, Session
    from rf_serving.client import RetrievalClient

    if (user is None) == (history is None):
        raise UsageError("give either --user ID or --history ID,ID,...")
    request = RetrieveRequest(k=k, exclude_seen=not include_seen, return_history=True)
    if user is not None:
        request.user_id = user
    else:
        ids = [text.strip() for text in (history or "").split(",") if text.strip()]
        request.session.CopyFrom(Session(history=[Interaction(item_id=item) for item in ids]))
    with RetrievalClient(address) as client:
        response = client.retrieve(request)
    items = _items(response.bundle)
    asked = [*response.history, *(item.item_id for item in response.items)]
    fields = items.describe(asked) if items else {}
    if as_json:
        print_json(
            {
                "bundle": response.bundle,
                "spec_hash": response.spec_hash,
                "cold": response.cold,
                "degraded": response.degraded,
                "milliseconds": {t.stage: round(t.milliseconds, 3) for t in response.timings},
                "history": [{**fields.get(item, {}), "item_id": item} for item in response.history],
                "items": [
                    {**fields.get(i.item_id, {}), "item_id": i.item_id, "score": i.score} for i in response.items
                ],
            }
        )
        return
    _show(response, items, fields, f"user {user}" if user is not None else "this session")


def _items(bundle: str) -> Any:
    from rf_platform.bundle import check_name
    from rf_platform.settings import get_settings
    from rf_serving.bundle.catalog import BundleItems

    directory = get_settings().workspace.bundles / check_name("bundle", bundle)
    return BundleItems.open(directory) if directory.is_dir() else None


def _show(response: Any, items: Any, fields: dict[str, dict[str, Any]], who: str) -> None:
    from rich.markup import escape
    from rich.table import Table

    latest = list(response.history)[: -_SHOWN_HISTORY - 1 : -1]
    names = _columns(items, fields)
    if latest:
        named = ", ".join(_title(items, fields.get(item, {})) or item for item in latest)
        more = f" and {len(response.history) - len(latest)} more" if len(response.history) > len(latest) else ""
        out_console().print(f"[bold]latest of {escape(who)}:[/] {escape(named)}{more}", highlight=False)
    elif response.degraded:
        text = f"[bold red]degraded:[/] the online store did not answer in time; {escape(who)} is answered without features"
        out_console().print(text, highlight=False, soft_wrap=True)
    else:
        out_console().print(f"{escape(who)} has no history here: a cold answer", highlight=False)
    total = sum(t.milliseconds for t in response.timings)
    table = Table(
        title=f"for {escape(who)}",
        title_justify="left",
        caption=f"bundle {response.bundle} · "
        + " · ".join(f"{t.stage} {t.milliseconds:.2f}" for t in response.timings)
        + f" · {total:.2f} ms in all",
    )
    table.add_column("#", justify="right")
    table.add_column("item")
    for name in names:
        table.add_column(name.rpartition("__")[2].replace("_", " "), overflow="fold")
    table.add_column("score", justify="right")
    for rank, item in enumerate(response.items, 1):
        shown = (escape(_text(fields.get(item.item_id, {}).get(name))) for name in names)
        table.add_row(str(rank), escape(item.item_id), *shown, f"{item.score:.3f}")
    out_console().print(table)


def _columns(items: Any, fields: dict[str, dict[str, Any]]) -> list[str]:
    """Return the display fields, and a few features that are short in all rows shown."""
    if not items:
        return []
    short = [f for f in items.features if all(len(_text(row[f])) <= _SHORT for row in fields.values())]
    return [*items.display, *short[:_SHOWN_FEATURES]]


def _title(items: Any, row: dict[str, Any]) -> str:
    return _text(row.get(items.display[0])) if items and items.display else ""


def _text(value: Any) -> str:
    if value is None:
        return ""
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
