"""``rf items``: change the catalog of a running server by hand."""

import re
from pathlib import Path
from typing import Annotated, Any

import typer

from rf_platform.cli.console import print_json, say
from rf_platform.cli.options import SERVER, Address, Json

app = typer.Typer(
    no_args_is_help=True,
    help="Add, change, delete and show items of a running server; every change is kept in the registry.",
)

Ids = Annotated[list[str], typer.Argument(help="Ids of items.", metavar="ID...")]
_BATCH = 200
_SHOWN = 10
_PLACE = re.compile(r"^items\[\d+\]\.")


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
    missing: an item is replaced as a whole. `rf items get` writes such lines.

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
            item.features[name].CopyFrom(feature_value(value, f"{where}: {name}"))
        items.append(item)
        places.append(where)
    said: list[dict[str, Any]] = []
    with RetrievalClient(address) as client, track("upsert", len(items)) as progress:
        for start in range(0, len(items), _BATCH):
            some = items[start : start + _BATCH]
            for place, status in zip(places[start:], client.upsert(some, neighbours), strict=False):
                near = {n.item_id: round(n.similarity, 4) for n in status.neighbours}
                said.append(
                    {
                        "at": place,
                        "item_id": status.item_id,
                        "outcome": UpsertStatus.Outcome.Name(status.outcome),
                        "sequence": status.sequence,
                        "searchable": status.searchable,
                        "message": _PLACE.sub("", status.message),  # "at" says where
                        "neighbours": near,
                    }
                )
            progress.advance(len(some))
    if neighbours and not as_json:
        for each in said:
            if each["outcome"] != "REJECTED":
                near_text = ", ".join(f"{item} {cosine:.3f}" for item, cosine in each["neighbours"].items())
                say(f"{each['item_id']}: {near_text}")
    _report(said, ["ADDED", "CHANGED", "UNCHANGED", "REJECTED"], as_json)


@app.command()
def delete(ids: Ids, address: Address = SERVER, as_json: Json = False) -> None:
    """Delete items: they are not returned any more, by any server and any later bundle, until they are added anew.

    Exit code 1 if an id was rejected.
    """
    from rf_protos.v1.catalog_pb2 import DeleteStatus
    from rf_serving.client import RetrievalClient

    said: list[dict[str, Any]] = []
    with RetrievalClient(address) as client:
        for start in range(0, len(ids), _BATCH):
            said += [
                {
                    "at": status.item_id,
                    "item_id": status.item_id,
                    "outcome": DeleteStatus.Outcome.Name(status.outcome),
                    "sequence": status.sequence,
                    "message": status.message,
                }
                for status in client.delete(ids[start : start + _BATCH])
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

    found, absent = [], []
    with RetrievalClient(address) as client:
        for start in range(0, len(ids), _BATCH):
            response = client.items(ids[start : start + _BATCH])
            found += list(response.items)
            absent += list(response.absent)
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
