"""``rf items``: change the catalog of a running server by hand."""

import re
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rf_platform.cli.console import print_json, say
from rf_platform.cli.options import SERVER, Address, Json
from rf_serving.commands.items_sync import sync

if TYPE_CHECKING:
    from rf_protos.v1.catalog_pb2 import GetItemsResponse

app = typer.Typer(
    no_args_is_help=True,
    help="Add, change, delete and show items of a running server, or make them those of a file; all changes are kept in the "
    "registry.",
)

Ids = Annotated[list[str], typer.Argument(help="Ids of items.", metavar="ID...")]
_SHOWN = 10
_OF_ANSWERS = ("score", "explanation", "sequence", "cold")
"""Keys of items in answers that are no features."""
app.command()(sync)
_PLACE = re.compile(r"^items\[\d+\](\.|: )")


@app.command()
def upsert(
    file: Annotated[
        Path, typer.Argument(help="Items, one JSON object a line; - reads standard input.", allow_dash=True)
    ],
    neighbours: Annotated[int, typer.Option(min=0, max=100, help="Nearest items to show of each.")] = 0,
    address: Address = SERVER,
    as_json: Json = False,
) -> None:
    """Add items, or replace the features of existing ones; they are searchable at once.

    A line has the item's id as "item_id", and features and display fields by full name, view__field. What is left out is
    missing: an item is replaced as a whole. `rf items get` writes such lines; what `rf query --json` writes is read as well.
    Values are written as in files to import: true, 2026-10-01T08:00:00+02:00, lists in brackets (docs/data.md).

    [bold]Example[/]

        echo '{"item_id": 9001, "item_attributes__genres": ["War"]}' | rf items upsert - --neighbours 5

    Exit code 1 if an item was rejected.
    """
    from rf_platform.cli.console import track
    from rf_platform.errors import UsageError
    from rf_protos.v1.catalog_pb2 import Item, UpsertStatus
    from rf_serving.client import RetrievalClient
    from rf_serving.wire.json_lines import feature_value, read_objects

    items, places = [], []
    for where, given in read_objects(file):
        if "item_id" not in given:
            raise UsageError(f"{where}: item_id is missing")
        item = Item(item_id=str(given.pop("item_id")))
        for name, value in given.items():
            if name in _OF_ANSWERS:
                continue
            item.features[name].CopyFrom(feature_value(value, f"{where}: {name}"))
        items.append(item)
        places.append(where)
    said: list[dict[str, Any]] = []
    with RetrievalClient(address) as client, track("upsert", len(items)) as progress:
        statuses = client.upsert(items, neighbours, done=progress.advance)
        for place, status in zip(places, statuses, strict=True):
            said.append(
                {
                    "at": place,
                    "item_id": status.item_id,
                    "outcome": UpsertStatus.Outcome.Name(status.outcome),
                    "sequence": status.sequence,
                    "searchable": status.searchable,
                    "message": _PLACE.sub("", status.message),  # "at" says where
                    "neighbours": {n.item_id: round(n.similarity, 4) for n in status.neighbours},
                }
            )
    if neighbours and not as_json:
        for each in said:
            if each["outcome"] != "REJECTED":
                near_text = ", ".join(f"{item} {cosine:.3f}" for item, cosine in each["neighbours"].items())
                say(f"{each['item_id']}: {near_text}")
    _report(said, ["ADDED", "CHANGED", "UNCHANGED", "REJECTED"], as_json)


@app.command("set")
def set_(
    given: Annotated[
        list[str], typer.Argument(help="Ids of items, then the fields to change.", metavar="ID... FIELD=VALUE...")
    ],
    address: Address = SERVER,
    as_json: Json = False,
) -> None:
    """Change some fields of items; all others stay as they are. FIELD= without a value makes a field missing.

    A field has its full name, view__field, or the part behind the view, if the item has a value of it. Values are written as in
    files to import. The items have to be there. Of several writers with different fields none loses anything.

    [bold]Examples[/]

        rf items set 9001 in_stock=0
        rf items set 9001 9002 item_attributes__price=9.50 'item_attributes__genres=["War", "Drama"]' item_attributes__badge=

    Exit code 1 if an item was rejected.
    """
    from rf_platform.errors import UsageError
    from rf_protos.v1.catalog_pb2 import Item, UpsertStatus
    from rf_serving.client import RetrievalClient

    ids = list(takewhile(lambda each: "=" not in each, given))
    fields = dict(each.split("=", 1) for each in given[len(ids) :] if "=" in each)
    if not ids or not fields or len(ids) + len(fields) != len(given):
        raise UsageError(
            "give ids first, then each field once as FIELD=VALUE, such as `rf items set 9001 in_stock=0` (an id with '=' goes "
            "through `rf items upsert`)"
        )
    with RetrievalClient(address) as client:
        fields = _full_names(fields, client.items(ids))
        item = Item(update_mask=fields)
        for name, value in fields.items():
            if value:
                item.features[name].string_value = value
        items = [Item(item_id=each) for each in ids]
        for each in items:
            each.MergeFrom(item)
        said = [
            {
                "at": status.item_id,
                "item_id": status.item_id,
                "outcome": UpsertStatus.Outcome.Name(status.outcome),
                "sequence": status.sequence,
                "message": _PLACE.sub("", status.message),
            }
            for status in client.upsert(items)
        ]
    _report(said, ["CHANGED", "UNCHANGED", "REJECTED"], as_json)


def _full_names(fields: dict[str, str], found: "GetItemsResponse") -> dict[str, str]:
    """Put a view before the names that lack one, where the items have exactly one such field."""
    known = {name for each in found.items for name in each.item.features} | set(found.display_fields)
    full = {}
    for name, value in fields.items():
        of_views = [each for each in known if each.endswith(f"__{name}")]
        full[of_views[0] if name not in known and len(of_views) == 1 else name] = value
    return full


@app.command()
def delete(ids: Ids, address: Address = SERVER, as_json: Json = False) -> None:
    """Delete items: they are not returned any more, by any server and any later bundle, until they are added anew.

    Exit code 1 if an id was rejected.
    """
    from rf_protos.v1.catalog_pb2 import DeleteStatus
    from rf_serving.client import RetrievalClient

    with RetrievalClient(address) as client:
        said = [
            {
                "at": status.item_id,
                "item_id": status.item_id,
                "outcome": DeleteStatus.Outcome.Name(status.outcome),
                "sequence": status.sequence,
                "message": status.message,
            }
            for status in client.delete(ids)
        ]
    _report(said, ["DELETED", "ABSENT", "REJECTED"], as_json)


@app.command()
def get(ids: Ids, address: Address = SERVER, as_json: Json = False) -> None:
    """Show items as the catalog has them now: lines that `rf items upsert` reads.

    Exit code 1 if the catalog does not have one of them.
    """
    import json

    from rf_serving.client import RetrievalClient
    from rf_serving.wire.values import given_value

    with RetrievalClient(address) as client:
        response = client.items(ids)
    found, absent = list(response.items), list(response.absent)
    lines = [
        {
            "item_id": each.item.item_id,
            **{name: given_value(value) for name, value in sorted(each.item.features.items())},
        }
        for each in found
    ]
    if as_json:
        details = [
            {**line, "sequence": each.sequence, "cold": each.cold} for line, each in zip(lines, found, strict=True)
        ]
        print_json({"items": details, "absent": absent})
    else:
        for line in lines:
            say(json.dumps(line))
        if absent:
            say(f"not in the catalog: {', '.join(absent)}", err=True)
    if absent:
        raise typer.Exit(1)


def _report(said: list[dict[str, Any]], outcomes: list[str], as_json: bool) -> None:
    counts = {name: sum(each["outcome"] == name for each in said) for name in outcomes}
    if as_json:
        print_json({**counts, "items": said})
    else:
        messages = [f"{each['at']}: {each['message']}" for each in said if each["message"]]
        for line in messages[:_SHOWN]:
            say(line)
        if len(messages) > _SHOWN:
            say(f"and {len(messages) - _SHOWN} more")
        say(", ".join(f"{count:,} {name.lower()}" for name, count in counts.items()))
    if counts["REJECTED"]:
        raise typer.Exit(1)
