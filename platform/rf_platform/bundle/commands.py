"""``rf bundle``: keys and signatures of bundles."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rf_platform.cli.options import Json

if TYPE_CHECKING:
    from rf_platform.registry.records import BundleRecord

app = typer.Typer(
    no_args_is_help=True, help="Sign bundles and verify signatures, for servers with --require-signature."
)
BundleName = Annotated[str, typer.Argument(help="Name of the bundle; `rf bundles` lists them.")]


@app.command()
def keygen(
    file: Annotated[Path, typer.Argument(help="File of the private key; the public one gets the suffix .pub.")],
) -> None:
    """Make a pair of Ed25519 keys: the private one signs bundles, the public one goes to servers.

    Keep the private key where bundles are built, and nowhere else. `openssl genpkey -algorithm ed25519` makes the same.
    """
    from rf_platform.bundle.signature import make_keys, read_public_keys

    public = make_keys(file)
    (key,) = read_public_keys(public)
    typer.echo(f"key {key}: {file} signs (`rf bundle sign`, RF_SIGNING_KEY), {public} verifies (RF_REQUIRE_SIGNATURE)")


@app.command()
def sign(
    name: BundleName,
    key: Annotated[Path, typer.Option(help="Private key (PEM) of Ed25519.", envvar="RF_SIGNING_KEY")],
    as_json: Json = False,
) -> None:
    """Sign a bundle, after holding every file against its checksum and the manifest against the registry.

    With RF_SIGNING_KEY set, `rf index build` and `rf refresh` sign what they build. Signing again replaces the signature.
    """
    from rf_platform.bundle import verify
    from rf_platform.bundle.signature import sign as sign_manifest
    from rf_platform.cli.console import print_json, say

    record = _bundle(name)
    verify(record.path, expected_manifest=record.manifest_sha256)
    signer = sign_manifest(record.path, key)
    if as_json:
        print_json({"bundle": name, "key": signer})
    else:
        say(f"{name} is signed by the key {signer}")


@app.command()
def verify(
    name: BundleName,
    key: Annotated[
        Path,
        typer.Option(help="Public key (PEM) of Ed25519, or several in one file.", envvar="RF_REQUIRE_SIGNATURE"),
    ],
    as_json: Json = False,
) -> None:
    """Check every file of a bundle, its manifest and the manifest's signature; exit code 1 if it is not to be trusted."""
    from rf_platform.bundle.signature import signer_of
    from rf_platform.cli.console import print_json, say
    from rf_platform.registry import check_bundle

    record = _bundle(name)
    manifest = check_bundle(record, signed_by=key)
    signer = signer_of(record.path)
    if as_json:
        print_json({"bundle": name, "key": signer, "files": len(manifest.files)})
    else:
        say(f"{name} is intact, {len(manifest.files)} files, and signed by the key {signer}")


def _bundle(name: str) -> "BundleRecord":
    from rf_platform.registry import Registry, fetched

    registry = Registry.of()
    return fetched(registry, registry.bundle(name))
