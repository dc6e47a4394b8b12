"""``rf items sync``: make the catalog of a running server that of a file."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rf_platform.cli.options import SERVER, Address, Json

if TYPE_CHECKING:
    from rf_protos.v1.catalog_pb2 import Item
    from rf_serving.client import RetrievalClient

_SHOWN = 10


def sync(
    file: Annotated[
        Path, typer.Argument(help="All items of the catalog, as the mapping's first `items` describes them.")
    ],
    mapping: Annotated[
        Path,
        typer.Option(
            help="The mapping of `rf data import custom`; further items files lie beside it.", show_default=False
        ),
    ],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")] = False,
    delete_at_most: Annotated[
        float,
        typer.Option(
            min=0, max=1, help="Largest share of the server's items that may be deleted; with more, nothing is done."
        ),
    ] = 0.1,
    address: Address = SERVER,
    as_json: Json = False,
) -> None:
    """Make the catalog of a running server that of a file: add what is new, change what differs, delete what is gone.

    The file is read as an import would read it, and features are those of the item views that read the items table; fields of
    other views stay. Items that are not recommended, such as those that only the log has, are not deleted. A file that
    was cut short does no harm: --delete-at-most refuses before anything is changed. Doing it again changes nothing.

    [bold]Examples[/]

        rf items sync products.csv --mapping shop.yaml --dry-run
        rf items sync products.csv --mapping shop.yaml --delete-at-most 0.02

    Exit code 1 if an item was rejected, or too many would be deleted.
    """
    from rf_platform.cli.console import print_json, say
    from rf_platform.errors import RunError
    from rf_serving.client import RetrievalClient

    wanted = _wanted(file, mapping)
    with RetrievalClient(address) as client:
        plan = _Plan.of(wanted, client)
        if plan.share > delete_at_most:
            raise RunError(
                f"{file} lacks {len(plan.gone):,} of the {plan.offered:,} items that the server recommends "
                f"({plan.share:.1%}, for example {', '.join(plan.gone[:3])}), and --delete-at-most is {delete_at_most:.1%}: "
                f"nothing was changed; check the file, or allow more"
            )
        done = _apply(plan, client, dry_run=dry_run)
    if as_json:
        print_json({"dry_run": dry_run, **done.counts, "rejected": done.rejected, "deleted": plan.gone})
    else:
        for line in [f"{each['item_id']}: {each['message']}" for each in done.rejected[:_SHOWN]]:
            say(line)
        if dry_run and plan.gone:
            more = ", …" if len(plan.gone) > _SHOWN else ""
            say(f"would be deleted: {', '.join(plan.gone[:_SHOWN])}{more}")
        counts = ", ".join(f"{count:,} {name.lower()}" for name, count in done.counts.items())
        say(f"nothing was changed; it would be: {counts}" if dry_run else counts)
    if done.rejected:
        raise typer.Exit(1)


def _wanted(file: Path, mapping: Path) -> "list[Item]":
    """Return the items of the file as messages, with the fields that the file decides as their mask."""
    from rf_platform.features.items_file import read_items_file
    from rf_platform.features.read import read_definitions
    from rf_platform.features.store import open_store
    from rf_platform.settings import get_settings
    from rf_protos.v1.catalog_pb2 import Item
    from rf_serving.catalog.item_schema import ItemSchema

    settings = get_settings()
    definitions = read_definitions(open_store(settings), settings.feature_service)
    found = read_items_file(file, mapping, definitions, settings.workspace, threads=settings.threads)
    schema = ItemSchema(definitions.spec, {})
    table = schema.cast(found.table)
    mask = sorted(set(found.fields) & set(schema.names))
    ids = table[schema.key].to_pylist()
    return [
        Item(item_id=str(item), features=schema.message(values), update_mask=mask)
        for item, values in zip(ids, schema.rows(table), strict=True)
    ]


@dataclass(frozen=True, kw_only=True)
class _Plan:
    """Changes that make one catalog the other."""

    upserts: "list[Item]"
    gone: list[str]
    """Items to be deleted."""
    offered: int
    """Items that the server recommends."""

    @property
    def share(self) -> float:
        """Share of the server's items that would be deleted."""
        return len(self.gone) / max(1, self.offered)

    @classmethod
    def of(cls, wanted: "list[Item]", client: "RetrievalClient") -> "_Plan":
        """Compare a file with a server; items that the server does not have are sent as a whole."""
        present, offered = set(client.item_ids()), list(client.item_ids(recommendable=True))
        ids = {item.item_id for item in wanted}
        for item in wanted:
            if item.item_id not in present:
                item.ClearField("update_mask")
        return cls(upserts=wanted, gone=[item for item in offered if item not in ids], offered=len(offered))


@dataclass(frozen=True, kw_only=True)
class _Done:
    """Effect of a plan."""

    counts: dict[str, int]
    rejected: list[dict[str, Any]]


def _apply(plan: _Plan, client: "RetrievalClient", *, dry_run: bool) -> _Done:
    from rf_platform.cli.console import track
    from rf_protos.v1.catalog_pb2 import DeleteStatus, UpsertStatus

    counts = dict.fromkeys(("ADDED", "CHANGED", "UNCHANGED", "DELETED", "REJECTED"), 0)
    rejected: list[dict[str, Any]] = []
    with track("sync", len(plan.upserts) + len(plan.gone)) as progress:
        for status in client.upsert(plan.upserts, validate_only=dry_run, done=progress.advance):
            counts[UpsertStatus.Outcome.Name(status.outcome)] += 1
            if status.outcome == UpsertStatus.REJECTED:
                rejected.append({"item_id": status.item_id, "message": status.message})
        deleted = [] if dry_run else client.delete(plan.gone, progress.advance)
        gone = len(plan.gone) if dry_run else sum(s.outcome == DeleteStatus.DELETED for s in deleted)
        counts["DELETED"] += gone
    return _Done(counts=counts, rejected=rejected)
