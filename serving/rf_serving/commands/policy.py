"""``rf policy``: check, apply and show what each placement shows."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rf_platform.cli.console import out_console, print_json, say
from rf_platform.cli.options import Json, Note
from rf_platform.settings import get_settings

if TYPE_CHECKING:
    from rf_platform.policies import Policy
    from rf_platform.registry import PolicyRecord, Registry

app = typer.Typer()

File = Annotated[Path, typer.Argument(help="YAML file with a policy; docs/policies.md has an example.")]


@app.command()
def check(
    file: File,
    bundle: Annotated[
        str | None, typer.Option(help="Bundle to check it against; default: the promoted one.", show_default=False)
    ] = None,
    as_json: Json = False,
) -> None:
    """Check a policy and change nothing: its keys and values, and the features and items that the bundle has.

    Every fault is named by its place, such as `placements.home.caps[0].most`. Without a promoted bundle, features and
    items are not checked. Event types that no event of the log has are noted; they may be misspelt, or come yet.

    [bold]Examples[/]

        rf policy check shop.yaml
        rf policy check shop.yaml --bundle default-2-1
    """
    from rf_platform.policies import load_policy
    from rf_platform.registry import Registry

    policy, _ = load_policy(file)
    checked, notes = _checked(Registry.of(), policy, str(file), bundle)
    if as_json:
        print_json({"file": str(file), "bundles": checked, "placements": list(policy.placements), "notes": notes})
        return
    say(f"{file} is in order: {_content(policy)}; {_against(checked)}")
    _tell(notes)


@app.command()
def apply(
    file: Annotated[Path | None, typer.Argument(help="YAML file with a policy.", show_default=False)] = None,
    version: Annotated[
        int | None, typer.Option(help="Apply an earlier version again, in place of a file.", show_default=False)
    ] = None,
    note: Note = "",
    as_json: Json = False,
) -> None:
    """Check a policy and put it into effect; running servers take it over within seconds, between two requests.

    What `rf policy check` finds fault with is not applied, and the policy in effect stays. A policy without placements
    (`placements: {}`) ends all rules.

    [bold]Examples[/]

        rf policy apply shop.yaml --note "spring campaign"
        rf policy apply --version 3
    """
    from rf_platform.errors import UsageError
    from rf_platform.policies import load_policy, read_policy
    from rf_platform.registry import Registry

    if (file is None) == (version is None):
        raise UsageError("give either the file of a policy or --version of an earlier one")
    registry = Registry.of()
    if file is not None:
        policy, text = load_policy(file)
        named = str(file)
    else:
        earlier = registry.policies.version(version or 0)
        policy, text, named = read_policy(earlier.text, earlier.name), earlier.text, earlier.name
    checked, notes = _checked(registry, policy, named, None)
    before = registry.policies.newest()
    record = registry.policies.apply(text, note)
    changed = before is None or before.version != record.version
    if as_json:
        print_json({**asdict(record), "changed": changed, "bundles": checked, "notes": notes})
        return
    say(
        f"{record.name} is in effect: {_content(policy)}; {_against(checked)}"
        if changed
        else f"{record.name} says the same and is in effect already"
    )
    _tell(notes)


@app.command()
def show(
    version: Annotated[
        int | None, typer.Argument(help="A version; default: the one in effect.", show_default=False)
    ] = None,
    schema: Annotated[bool, typer.Option("--schema", help="Print the JSON Schema of policies instead.")] = False,
    as_json: Json = False,
) -> None:
    """Show a policy as it was written, or as JSON with every default filled in.

    [bold]Examples[/]

        rf policy show > shop.yaml
        rf policy show 3 --json
        rf policy show --schema > policy.schema.json
    """
    from rf_platform.errors import NotFoundError
    from rf_platform.policies import policy_schema, read_policy
    from rf_platform.registry import Registry

    if schema:
        out_console().file.write(policy_schema())
        return
    policies = Registry.of().policies
    record = policies.newest() if version is None else policies.version(version)
    if record is None:
        raise NotFoundError(f"there is no policy in {get_settings().workspace.root} yet; run `rf policy apply FILE`")
    if as_json:
        policy = read_policy(record.text, record.name)
        print_json({**_row(record), "policy": policy.model_dump(mode="json", by_alias=True)})
        return
    out_console().file.write(record.text if record.text.endswith("\n") else f"{record.text}\n")


@app.command()
def history(as_json: Json = False) -> None:
    """List all versions, the newest first: that one is in effect."""
    from rich.markup import escape
    from rich.table import Table

    from rf_platform.registry import Registry

    records = Registry.of().policies.history()[::-1]
    if as_json:
        print_json([_row(record) for record in records])
        return
    if not records:
        say(f"there is no policy in {get_settings().workspace.root} yet; run `rf policy apply FILE`")
        return
    table = Table("version", "applied (UTC)", "note")
    for record in records:
        table.add_row(str(record.version), f"{record.created_at:%Y-%m-%d %H:%M:%S}", escape(record.note))
    out_console().print(table)


def _checked(registry: "Registry", policy: "Policy", named: str, bundle: str | None) -> tuple[list[str], Sequence[str]]:
    """Check a policy against a bundle, by default those that answer; return their names, and notes."""
    from rf_platform.bundle import files
    from rf_platform.features.spec import FeatureSpec
    from rf_platform.registry.journal import CatalogJournal
    from rf_serving.policies.check import check_with_all
    from rf_serving.policies.logged_types import notes_on_types

    journal = CatalogJournal.open(get_settings().platform_registry_url)
    try:
        checked = check_with_all(policy, named, registry, journal, bundle)
    finally:
        journal.close()
    notes: Sequence[str] = ()
    if checked:
        spec = FeatureSpec.load(registry.bundle(checked[0]).path / files.SPEC)
        notes = notes_on_types(policy, get_settings(), spec.meanings, whole_ids=spec.item.id_type == "int64")
    return checked, notes


def _tell(notes: Sequence[str]) -> None:
    for note in notes:
        say(note, style="bold", err=True)


def _content(policy: "Policy") -> str:
    return f"placements {', '.join(policy.placements)}" if policy.placements else "no placements, so no rules"


def _against(bundles: list[str]) -> str:
    if not bundles:
        return "features and items are not checked, since no bundle is promoted"
    return f"checked against {' and '.join(bundles)}"


def _row(record: "PolicyRecord") -> dict[str, Any]:
    return {"version": record.version, "created_at": record.created_at, "note": record.note}
