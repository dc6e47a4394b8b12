"""``rf gc``: remove what is neither in use nor recent."""

from typing import TYPE_CHECKING, Annotated

import typer

from rf_platform.cli.options import Json

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from rf_platform.registry import Registry
    from rf_platform.registry.retention import Removal, Retention

app = typer.Typer(add_completion=False)


@app.command()
def gc(
    keep: Annotated[
        int, typer.Option(min=1, help="Newest bundles, runs and datasets, and steps of `rf rollback`, that stay.")
    ] = 3,
    days: Annotated[float, typer.Option(min=0, help="Whatever is younger stays.")] = 14.0,
    trials: Annotated[
        bool, typer.Option("--trials", help="Trials may go, too: the tables of `rf ablate` are made from them.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would go, and remove nothing.")] = False,
    as_json: Json = False,
) -> None:
    """Remove bundles, runs and datasets that are neither in use nor recent.

    In use are the served bundle, what stands beside it, the bundles that `rf rollback` leads to, every bundle that a process of
    this host has open (`rf serve --bundle`, `rf batch`), and the runs and datasets of all bundles that stay. A run that a process
    is training stays. The registry remembers what was removed: metrics and history stay. First users of items, which move the
    items' vectors while these are served, go when they are as old and no bundle that stays counts them any more: its training
    has met them. What a bundle has in Milvus goes with it. Files of the serving log go by an age and a size of
    their own, RF_LOG_DAYS and RF_LOG_MB.

    [bold]Examples[/]

        rf gc --dry-run
        rf gc --keep 5 --days 30
    """
    from rich.filesize import decimal

    from rf_platform.cli.console import print_json, say
    from rf_platform.features.expiry import now_us
    from rf_platform.registry import Registry
    from rf_platform.registry.retention import Retention, plan_removal, remove
    from rf_platform.serving_log import ServingParts
    from rf_platform.settings import get_settings

    settings = get_settings()
    retention = Retention(keep=keep, days=days, trials=trials)
    registry = Registry.of(settings)
    removal = plan_removal(registry, settings, retention)
    log = ServingParts(settings.workspace.serving_log)
    served = log.expired(days=settings.log_days, megabytes=settings.log_mb, now_us=now_us())
    told = {**removal.to_dict(), "logs": [{"name": part.path.name, "bytes": part.bytes} for part in served]}
    collections = _collections(bundle.path for bundle in removal.bundles)
    if not dry_run:
        remove(registry, removal)
        for collection in collections:
            _drop(collection)
        log.remove(served)
    first_users = _forget(registry, removal, retention, dry_run=dry_run)
    if as_json:
        print_json({"dry_run": dry_run, **told, "first_users": first_users})
        return
    for bundle in removal.open:
        say(f"bundle {bundle.name} stays: a process has it open")
    verb, count = "would remove" if dry_run else "removed", 0
    for kind, records in told.items():
        for each in records:
            count += 1
            say(f"{verb} {kind[:-1]} {each['name']}, {decimal(each['bytes'])}")
    if first_users:
        say(f"{verb} {first_users:,} first users of items: all bundles that stay know them from training")
    total = decimal(sum(each["bytes"] for records in told.values() for each in records))
    if count:
        say(f"{count} of {settings.workspace.root}, {total} in all")
    elif not first_users:
        say(f"nothing to remove in {settings.workspace.root}: all is in use or recent")


def _collections(bundles: "Iterable[Path]") -> list[str]:
    """Return the collections of a search engine that hold the indexes of bundles."""
    from rf_platform.bundle import read_manifest
    from rf_platform.errors import RfError

    found = []
    for bundle in bundles:
        try:
            found.append((read_manifest(bundle).index.model_extra or {}).get("collection"))
        except RfError:  # a bundle that cannot be read names nothing
            continue
    return [each for each in found if each]


def _drop(collection: str) -> None:
    """Remove a collection, or say that it stays."""
    from rf_platform.cli.console import warn
    from rf_platform.errors import RfError
    from rf_serving.index.milvus_server import Collection, MilvusServer

    try:
        Collection(MilvusServer.configured(), collection).drop()
    except RfError as error:
        warn(f"collection {collection} stays: {error}")


def _forget(registry: "Registry", removal: "Removal", retention: "Retention", *, dry_run: bool) -> int:
    """Remove the evidence that no bundle needs; return of how many first users."""
    from contextlib import closing

    from rf_platform.registry.evidence import EvidenceJournal
    from rf_platform.registry.journal import CatalogJournal
    from rf_platform.settings import get_settings
    from rf_serving.catalog.learned import learned_by_all

    gone = {bundle.name for bundle in removal.bundles}
    stay = [b.path for b in registry.bundles() if b.removed_at is None and b.name not in gone]
    with closing(CatalogJournal.open(get_settings().platform_registry_url)) as journal:
        evidence = EvidenceJournal(journal.engine)
        before_us = int(retention.oldest().timestamp() * 1_000_000)
        learned = learned_by_all(evidence, stay, before_us)
        if not dry_run:
            evidence.remove(learned)
    return len(learned)
