"""``rf bundles``: the bundles there are, which one is served, and whether their files are in order."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rf_platform.cli.options import Json

if TYPE_CHECKING:
    from rf_platform.registry.records import BundleRecord, DeploymentRecord

app = typer.Typer(add_completion=False)

_HEADLINES = ("recall@20", "ndcg@20", "mrr")
_SHOWN_DEPLOYMENTS = 10


@app.command()
def bundles(
    verify: Annotated[bool, typer.Option("--verify", help="Read every file and compare its checksum.")] = False,
    as_json: Json = False,
) -> None:
    """List all bundles, the newest first, and the latest deployments.

    Without --verify only the presence and the sizes of the files are looked at. Exit code 1 if --verify finds damage.
    """
    from rf_platform.cli.console import print_json
    from rf_platform.registry import Registry

    registry = Registry.of()
    active = registry.active_bundle()
    rows = [_row(record, active, checksums=verify) for record in reversed(registry.bundles()) if not record.removed_at]
    history = registry.deployments()
    if as_json:
        print_json({"active": active and active.name, "bundles": rows, "deployments": [asdict(d) for d in history]})
    else:
        _show(rows, history)
    if verify and any(row["damage"] for row in rows):
        raise typer.Exit(1)


def _row(record: "BundleRecord", active: "BundleRecord | None", *, checksums: bool) -> dict[str, Any]:
    from rf_platform.bundle import find_damage, manifest_sha256, read_manifest
    from rf_platform.bundle.signature import signer_of
    from rf_platform.errors import NotFoundError, RfError

    size: int | None = None
    try:
        manifest = read_manifest(record.path)
        size = manifest.total_bytes
        damage = find_damage(record.path, manifest, checksums=checksums)
        if manifest_sha256(record.path) != record.manifest_sha256:
            damage.append("manifest.json (not the one that was recorded)")
    except NotFoundError:
        damage = ["the directory is missing"]
    except RfError as error:
        damage = [str(error)]
    return {
        **asdict(record),
        "active": active is not None and active.name == record.name,
        "bytes": size,
        "reranker": _reranker(record.path),
        "damage": damage,
        "signed_by": signer_of(record.path),
        "verified": checksums,
    }


def _reranker(bundle: Path) -> str | None:
    """Return the kind of a bundle's re-ranker; None if it has none, or one that cannot be read."""
    from rf_platform.bundle.files import RERANKER

    try:
        kind: str = json.loads((bundle / RERANKER / "config.json").read_text())["kind"]
    except (OSError, ValueError, KeyError):
        return None
    return kind


def _show(rows: list[dict[str, Any]], history: "list[DeploymentRecord]") -> None:
    from rich.filesize import decimal
    from rich.markup import escape
    from rich.table import Table

    from rf_platform.cli.console import out_console, say
    from rf_platform.settings import get_settings

    place = get_settings().workspace.root
    if not rows:
        say(f"no bundles in {place} yet; build one with `rf index build`")
        return
    table = Table("", "bundle", "run", "created (UTC)", "metrics", "re-ranker", "size", "files")
    for row in rows:
        state = (
            ("intact" if row["verified"] else "present")
            if not row["damage"]
            else f"[red]{escape(', '.join(row['damage']))}[/]"
        )
        table.add_row(
            "[green]●[/]" if row["active"] else "",
            row["name"],
            row["run"],
            f"{row['created_at']:%Y-%m-%d %H:%M}",
            headline(row["metrics"]),
            row["reranker"] or "",
            "?" if row["bytes"] is None else decimal(row["bytes"]),
            state if row["signed_by"] is None else f"{state}, signed",
        )
    out_console().print(table)
    if not history:
        say(f"nothing of {place} is served yet; choose a bundle with `rf promote NAME`")
        return
    latest = Table("deployed (UTC)", "action", "bundle", "note", title="latest deployments", title_justify="left")
    for deployment in history[: -_SHOWN_DEPLOYMENTS - 1 : -1]:
        latest.add_row(
            f"{deployment.created_at:%Y-%m-%d %H:%M:%S}", deployment.action, deployment.bundle, escape(deployment.note)
        )
    out_console().print(latest)


def headline(metrics: Mapping[str, Any]) -> str:
    """Return the few figures a table has room for: Recall@20, NDCG@20 and MRR, else the first three."""
    numbers = dict(_numbers(metrics))
    chosen = {name: value for wanted in _HEADLINES for name, value in numbers.items() if name.lower().endswith(wanted)}
    return "  ".join(f"{name} {value:.4g}" for name, value in list((chosen or numbers).items())[:3])


def _numbers(metrics: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    for name, value in metrics.items():
        if isinstance(value, Mapping):
            yield from _numbers(value, f"{prefix}{name}.")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            yield f"{prefix}{name}", value
