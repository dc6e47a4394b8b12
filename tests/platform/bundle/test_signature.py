import base64
import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from rf_platform.bundle import BundleManifest, verify
from rf_platform.bundle.manifest import MANIFEST, SIGNATURE
from rf_platform.bundle.signature import (
    check_signature,
    make_keys,
    read_private_key,
    read_public_keys,
    sign,
    signer_of,
)
from rf_platform.errors import ConfigError, NotFoundError, UntrustedError, UsageError


@pytest.fixture
def key(tmp_path: Path) -> Path:
    private = tmp_path / "keys" / "release"
    make_keys(private)
    return private


def public(private: Path) -> Path:
    return private.with_name(f"{private.name}.pub")


def test_a_signed_bundle_is_intact_and_trusted(bundle: Path, key: Path) -> None:
    assert signer_of(bundle) is None
    signer = sign(bundle, key)
    assert check_signature(bundle, public(key)) == signer == signer_of(bundle)
    assert verify(bundle).name == "demo-1"
    assert list(read_public_keys(public(key))) == [signer]
    assert key.stat().st_mode & 0o077 == 0


def test_an_unsigned_bundle_is_not_trusted(bundle: Path, key: Path) -> None:
    with pytest.raises(UntrustedError, match=r"'demo-1' is not signed; sign it with `rf bundle sign demo-1"):
        check_signature(bundle, public(key))


def test_an_altered_manifest_is_not_trusted(
    bundle: Path, key: Path, describe: Callable[[Path], BundleManifest]
) -> None:
    """An attacker who alters a file has the manifest fit again: only the signature tells."""
    sign(bundle, key)
    (bundle / "vectors.npy").write_bytes(b"other")
    describe(bundle)
    verify(bundle)
    with pytest.raises(UntrustedError, match="does not fit"):
        check_signature(bundle, public(key))


@pytest.mark.parametrize("part", ["key", "signature", "format"])
def test_an_altered_signature_is_not_trusted(bundle: Path, key: Path, part: str) -> None:
    sign(bundle, key)
    content = json.loads((bundle / SIGNATURE).read_text())
    content[part] = content[part][::-1] if isinstance(content[part], str) else 2
    (bundle / SIGNATURE).write_text(json.dumps(content))
    with pytest.raises(UntrustedError):
        check_signature(bundle, public(key))


@pytest.mark.parametrize("text", ["", "[]", "{", '{"format": 1, "key": 1, "signature": "x"}'])
def test_what_is_no_signature_is_not_trusted(bundle: Path, key: Path, text: str) -> None:
    (bundle / SIGNATURE).write_text(text)
    with pytest.raises(UntrustedError, match="is no signature"):
        check_signature(bundle, public(key))
    assert signer_of(bundle) is None


def test_a_signature_of_something_else_is_not_trusted(bundle: Path, key: Path, tmp_path: Path) -> None:
    """A plain signature of the same bytes, made for another purpose, does not pass for one of a bundle."""
    signer = sign(bundle, key)
    plain = read_private_key(key).sign((bundle / MANIFEST).read_bytes())
    content = json.loads((bundle / SIGNATURE).read_text())
    (bundle / SIGNATURE).write_text(
        json.dumps({**content, "key": signer, "signature": base64.b64encode(plain).decode()})
    )
    with pytest.raises(UntrustedError, match="does not fit"):
        check_signature(bundle, public(key))


def test_keys_change_by_a_file_with_both(bundle: Path, key: Path, tmp_path: Path) -> None:
    newer = tmp_path / "keys" / "newer"
    make_keys(newer)
    both = tmp_path / "both.pub"
    both.write_text(public(key).read_text() + "\n" + public(newer).read_text())
    old = sign(bundle, key)
    assert check_signature(bundle, both) == old
    with pytest.raises(UntrustedError, match=f"is signed by the key {old}"):
        check_signature(bundle, public(newer))
    assert sign(bundle, newer) != old
    check_signature(bundle, both)
    with pytest.raises(UsageError, match="exists already"):
        make_keys(newer)


def test_keys_of_openssl(bundle: Path, tmp_path: Path) -> None:
    private, shown = tmp_path / "key.pem", tmp_path / "key.pub"
    try:
        subprocess.run(["openssl", "genpkey", "-algorithm", "ed25519", "-out", private], check=True)
        subprocess.run(["openssl", "pkey", "-in", private, "-pubout", "-out", shown], check=True)
    except FileNotFoundError:
        pytest.skip("needs the openssl command")
    assert sign(bundle, private) == check_signature(bundle, shown)


def test_what_is_no_key_is_named(bundle: Path, key: Path, tmp_path: Path) -> None:
    other, locked = generate_private_key(SECP256R1()), read_private_key(key)
    files = {
        "missing": None,
        "text": b"hello",
        "curve": other.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
        "locked": locked.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"x")),
        "curve.pub": other.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
        "broken.pub": b"-----BEGIN PUBLIC KEY-----\nxx\n-----END PUBLIC KEY-----\n",
    }
    for name, content in files.items():
        if content is not None:
            (tmp_path / name).write_bytes(content)
        with pytest.raises(ConfigError, match=name):
            (check_signature if name.endswith(".pub") else sign)(bundle, tmp_path / name)
    with pytest.raises(ConfigError):
        check_signature(bundle, key)  # the private one
    with pytest.raises(NotFoundError):
        check_signature(tmp_path / "nothing", public(key))
