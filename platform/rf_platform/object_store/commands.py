"""``rf store``: bundles, datasets, runs and logs in an object store."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from rf_platform.cli.options import Json
from rf_platform.object_store.listing import Kind

if TYPE_CHECKING:
    from rf_platform.object_store import Listing
    from rf_platform.registry import Registry
    from rf_platform.registry.remote_files import Record
    from rf_platform.settings import Settings

app = typer.Typer(no_args_is_help=True, help="Push bundles, datasets, runs and logs to an object store, and pull them.")


KindOf = Annotated[Kind, typer.Argument(help="bundle, dataset, run, or log: the serving log of this host.")]
Url = Annotated[
    str | None,
    typer.Option(
        help="The store: s3://bucket/prefix, gs://, az:// or file:///directory.",
        envvar="RF_STORE_URL",
        show_default=False,
    ),
]


@app.command()
def push(
    kind: KindOf,
    name: Annotated[
        str | None, typer.Argument(help="Its name; default: the newest one, of a log the host's.", show_default=False)
    ] = None,
    url: Url = None,
    as_json: Json = False,
) -> None:
    """Upload a bundle, dataset, run or log; what the store has of it already is not sent again.

    With RF_STORE_URL set, `rf dataset build`, `rf train`, `rf index build` and `rf refresh` do it by themselves. It appears as a
    whole: an interrupted upload is seen by nobody, and goes on when it is pushed again.
    """
    from rich.filesize import decimal

    from rf_platform.cli.console import print_json, say
    from rf_platform.registry.remote_files import pushed

    settings, registry = _opened(url)
    if kind is Kind.LOG:
        directory = settings.workspace.serving_log
        done = registry.store_or_refuse.push(Kind.LOG, name or _host(), directory, {})
    else:
        done = pushed(registry, _record(registry, kind, name))
    listing = done.listing
    if as_json:
        print_json({**_row(listing), "sent_bytes": done.sent_bytes})
        return
    sent = f"{decimal(done.sent_bytes)} sent" if done.sent_bytes else "nothing had to be sent"
    say(f"{kind} {listing.name} is in the store: {len(listing.files)} files, {decimal(listing.total_bytes)}, {sent}")


@app.command()
def pull(
    kind: KindOf,
    name: Annotated[str, typer.Argument(help="Its name; `rf store list` shows them.")],
    url: Url = None,
    as_json: Json = False,
) -> None:
    """Fetch a bundle, dataset, run or log, and record it if the registry does not have it.

    Servers and commands fetch what they need by themselves. An interrupted download goes on where it ended; nothing is used
    before the SHA-256 of every file is compared. The signature of a bundle is checked as by `rf promote`. Of a log, files that
    are missing here are added.
    """
    from rf_platform.cli.console import print_json, say
    from rf_platform.registry import check_bundle
    from rf_platform.registry.remote_files import pulled

    settings, registry = _opened(url)
    store = registry.store_or_refuse
    if kind is Kind.LOG:
        path = settings.workspace.serving_log
        store.pull(store.listing(Kind.LOG, name), path)
    else:
        path = pulled(registry, kind, name, settings.workspace.root)
    if kind is Kind.BUNDLE:
        check_bundle(registry.bundle(name), signed_by=registry.signed_by)
    if as_json:
        print_json({"kind": kind.value, "name": name, "path": str(path)})
    else:
        say(f"{kind} {name} is in {path}")


@app.command("list")
def list_(
    kind: Annotated[Kind | None, typer.Argument(help="Only of this kind; default: all.", show_default=False)] = None,
    url: Url = None,
    as_json: Json = False,
) -> None:
    """List what the store has, with sizes, and what of it is here."""
    from rich.filesize import decimal
    from rich.markup import escape
    from rich.table import Table

    from rf_platform.cli.console import out_console, print_json, say

    settings, registry = _opened(url)
    store = registry.store_or_refuse
    home = settings.workspace.root
    rows = [{**_row(each), "here": (home / f"{each.kind}s" / each.name).exists()} for each in store.listings(kind)]
    if as_json:
        print_json(rows)
        return
    if not rows:
        say(f"{store.remote.url} has nothing yet; `rf store push bundle NAME` pushes one")
        return
    table = Table("kind", "name", "pushed (UTC)", "files", "size", "here", title=escape(store.remote.url))
    for row in rows:
        table.add_row(
            row["kind"],
            escape(row["name"]),
            f"{row['created_at']:%Y-%m-%d %H:%M}",
            str(row["files"]),
            decimal(row["bytes"]),
            "yes" if row["here"] else "",
        )
    out_console().print(table)


@app.command()
def rm(
    kind: KindOf,
    name: Annotated[str, typer.Argument(help="Its name.")],
    url: Url = None,
    as_json: Json = False,
) -> None:
    """Remove a bundle, dataset, run or log from the store; what is here stays, and so do the records.

    A bundle that is served, or stands beside the served one, is refused.
    """
    from rich.filesize import decimal

    from rf_platform.cli.console import print_json, say
    from rf_platform.errors import UsageError

    _, registry = _opened(url)
    plan = registry.traffic.plan()
    used = [each.name for each in (plan.active, plan.challenger, plan.shadow) if each is not None]
    if kind is Kind.BUNDLE and name in used:
        raise UsageError(f"bundle '{name}' is served, and new servers fetch it; promote another one first")
    removed = registry.store_or_refuse.remove(kind, name)
    if as_json:
        print_json(_row(removed))
    else:
        say(f"removed {kind} {name} from the store, {decimal(removed.total_bytes)}")


def _opened(url: str | None) -> "tuple[Settings, Registry]":
    """Return the settings with the store, and the registry."""
    from rf_platform.registry import Registry
    from rf_platform.settings import get_settings

    settings = get_settings()
    if url is not None:
        settings = settings.model_copy(update={"store_url": url})
    return settings, Registry.of(settings)


def _record(registry: "Registry", kind: Kind, name: str | None) -> "Record":
    from rf_platform.errors import NotFoundError

    if kind is Kind.DATASET:
        return registry.dataset(name)
    if kind is Kind.RUN:
        return registry.run(name)
    if name is not None:
        return registry.bundle(name)
    there = [each for each in registry.bundles() if each.removed_at is None]
    if not there:
        raise NotFoundError("the registry has no bundle yet; run `rf index build`")
    return there[-1]


def _host() -> str:
    """Return the name of this host, fit for a thing in the store."""
    import re
    import socket

    return re.sub(r"[^A-Za-z0-9._-]+", "-", socket.gethostname()).strip("._-") or "host"


def _row(listing: "Listing") -> dict[str, Any]:
    return {
        "kind": listing.kind,
        "name": listing.name,
        "created_at": listing.created_at,
        "files": len(listing.files),
        "bytes": listing.total_bytes,
    }
