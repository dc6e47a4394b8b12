"""Signatures of bundles: Ed25519 over the manifest, which has the checksum of every other file."""

import base64
import hashlib
import json
import os
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from rf_platform.bundle.manifest import MANIFEST, SIGNATURE, read_manifest
from rf_platform.errors import ConfigError, UntrustedError, UsageError
from rf_platform.files import new_file

_CONTEXT = b"retrievalformer bundle manifest v1\n"
"""Stands before the manifest in what is signed, so that no signature made for another purpose fits."""
_FORMAT = 1
_END = "-----END PUBLIC KEY-----"


def make_keys(private: Path) -> Path:
    """Write a new private key and, beside it with the suffix ``.pub``, its public key; returns the path of the latter.

    Raises:
        UsageError: one of the files exists.
    """
    public = private.with_name(f"{private.name}.pub")
    if public.exists():
        raise _taken(public)
    key = Ed25519PrivateKey.generate()
    for path, content in (
        (private, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())),
        (public, key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)),
    ):
        try:
            with new_file(path, replace=False) as file:
                os.chmod(file, 0o600 if path == private else 0o644)
                file.write_bytes(content)
        except FileExistsError:
            raise _taken(path) from None
    return public


def _taken(path: Path) -> UsageError:
    return UsageError(f"{path} exists already, and bundles may be signed by it; choose another name")


def read_private_key(path: Path) -> Ed25519PrivateKey:
    """Read the private key that signs.

    Raises:
        ConfigError: it cannot be read, or is no Ed25519 key in PEM.
    """
    try:
        key = load_pem_private_key(_read(path, "private"), password=None)
    except TypeError:
        raise ConfigError(f"the private key {path} has a passphrase; give a file without, kept from others") from None
    except (ValueError, UnsupportedAlgorithm) as error:
        raise ConfigError(f"{path} is no private key in PEM; make one with `rf bundle keygen {path}`") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise ConfigError(f"{path} is a key of another kind than Ed25519; make one with `rf bundle keygen`")
    return key


def read_public_keys(path: Path) -> dict[str, Ed25519PublicKey]:
    """Read the public keys of a PEM file, one or several, by their ids.

    Raises:
        ConfigError: it cannot be read, or holds something else.
    """
    text = _read(path, "public").decode("ascii", "replace")
    parts = [f"{part}{_END}\n" for part in text.split(_END)[:-1]]
    try:
        keys = [load_pem_public_key(part.strip().encode()) for part in parts]
    except (ValueError, UnsupportedAlgorithm) as error:
        raise ConfigError(f"{path} holds no public keys in PEM; `rf bundle keygen` writes one as FILE.pub") from error
    ed25519 = [key for key in keys if isinstance(key, Ed25519PublicKey)]
    if not ed25519 or len(ed25519) != len(keys):
        raise ConfigError(f"{path} must hold public keys of Ed25519 in PEM; `rf bundle keygen` writes one as FILE.pub")
    return {key_id(key): key for key in ed25519}


def key_id(key: Ed25519PublicKey) -> str:
    """Return the first 16 hexadecimal digits of the SHA-256 of a public key."""
    return hashlib.sha256(key.public_bytes(Encoding.Raw, PublicFormat.Raw)).hexdigest()[:16]


def sign(directory: Path, private: Path) -> str:
    """Sign the manifest of a bundle, and return the id of the key; a signature that was there is replaced.

    The files are not held against the manifest here.

    Raises:
        NotFoundError, CorruptError, ConfigError: there is no manifest, or no usable key.
    """
    key = read_private_key(private)
    read_manifest(directory)
    signature = key.sign(_CONTEXT + (directory / MANIFEST).read_bytes())
    signer = key_id(key.public_key())
    content = {"format": _FORMAT, "key": signer, "signature": base64.b64encode(signature).decode()}
    with new_file(directory / SIGNATURE, within=directory.parent) as file:  # in it, it would be a file too many
        file.write_text(json.dumps(content, indent=2) + "\n")
    return signer


def signer_of(directory: Path) -> str | None:
    """Return the id of the key that a bundle says it is signed by, unchecked; None for an unsigned bundle."""
    try:
        return str(_read_signature(directory)["key"])
    except UntrustedError:
        return None


def check_signature(directory: Path, public: Path) -> str:
    """Check that one of the keys of a file has signed a bundle's manifest, and return the id of the key.

    Raises:
        NotFoundError, CorruptError: there is no bundle, or no manifest.
        UntrustedError: the bundle is not signed, is signed by another key, or its manifest was altered.
        ConfigError: the file holds no public keys.
    """
    keys = read_public_keys(public)
    read_manifest(directory)
    found = _read_signature(directory)
    key = keys.get(str(found["key"]))
    if key is None:
        raise UntrustedError(
            f"bundle '{directory.name}' is signed by the key {found['key']}, and {public} has {', '.join(keys)}; sign it with "
            f"`rf bundle sign {directory.name} --key FILE`, or add the key if you trust it"
        )
    try:
        key.verify(base64.b64decode(found["signature"], validate=True), _CONTEXT + (directory / MANIFEST).read_bytes())
    except (InvalidSignature, ValueError):
        raise UntrustedError(
            f"the signature of bundle '{directory.name}' does not fit its {MANIFEST}: one of the two was altered; restore the "
            f"bundle from a copy that you trust"
        ) from None
    return str(found["key"])


def _read_signature(directory: Path) -> dict[str, Any]:
    path = directory / SIGNATURE
    try:
        found = json.loads(path.read_bytes())
        if found["format"] != _FORMAT or not isinstance(found["signature"], str) or not isinstance(found["key"], str):
            raise ValueError("it has another form")
    except FileNotFoundError:
        raise UntrustedError(
            f"bundle '{directory.name}' is not signed; sign it with `rf bundle sign {directory.name} --key FILE`"
        ) from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise UntrustedError(
            f"{path} is no signature: {reason}; sign the bundle anew with `rf bundle sign {directory.name} --key FILE`"
        ) from error
    return dict(found)


def _read(path: Path, kind: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(
            f"the {kind} key {path} cannot be read: {error.strerror}; `rf bundle keygen FILE` makes a pair"
        ) from error
