"""Images of items that are files: only those below the directory, whatever the catalog says."""

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rf_console.item_images import ItemImages
from rf_console.options import ConsoleOptions
from rf_platform.bundle.files import ITEMS, SPEC
from rf_platform.errors import NotFoundError, UsageError
from rf_platform.features.spec import FeatureSpec, FieldSpec
from rf_platform.registry import Registry
from rf_platform.settings import Settings

from ..conftest import REPOSITORY
from .conftest import Browser, running_console

PIXEL = bytes.fromhex(
    "89504e470d0a1a0a0000000d49484452000000010000000108060000001f15c4890000000d49444154789c636060606000000005000118d84d"
    "560000000049454e44ae426082"
)
NAMED = {
    1: "a/one.png",
    2: "../secret.png",
    3: "link.png",
    4: "a/page.svg",
    5: "https://images.example/x.png",
    6: "gone.png",
}
"""Images by item: only the first is one that may be shown."""


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    images = tmp_path / "images"
    (images / "a").mkdir(parents=True)
    (images / "a" / "one.png").write_bytes(PIXEL)
    (images / "a" / "page.svg").write_text("<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>")
    (tmp_path / "secret.png").write_bytes(b"secret")
    (images / "link.png").symlink_to(tmp_path / "secret.png")
    return images


@pytest.fixture
def with_images(
    home: Path, tmp_path: Path, directory: Path, copy_workspace: Callable[[Path, Path], Path]
) -> Iterator[Browser]:
    """A console on a bundle whose items have a display field ``image``."""
    settings = Settings(home=copy_workspace(home, tmp_path / "home"), feature_repo=REPOSITORY)
    shutil.rmtree(settings.workspace.cache / "console", ignore_errors=True)  # an index of the bundle as it was
    bundle = Registry.of(settings).bundle("tiny-run-1").path
    spec = FeatureSpec.load(bundle / SPEC)
    field = FieldSpec(
        view="item_attributes", field="image", side="item", kind="categorical", role="display", dtype="String"
    )
    replace(spec, fields=(*spec.fields, field)).save(bundle / SPEC)
    items = pq.read_table(bundle / ITEMS)
    images = [NAMED.get(item) for item in items[spec.item.join_key].to_pylist()]
    pq.write_table(items.append_column(field.name, pa.array(images, pa.string())), bundle / ITEMS)
    with running_console(settings, address="127.0.0.1:1", image_files=directory) as port:
        yield Browser(port)


def test_an_image_below_the_directory_is_shown(with_images: Browser) -> None:
    assert 'src="/item/image?id=1"' in with_images.get("/catalog?q=1").text
    assert 'src="/item/image?id=1"' in with_images.get("/item?id=1").text
    answer = with_images.get("/item/image?id=1")
    assert (answer.status, answer.headers["content-type"]) == (200, "image/png")
    assert answer.body == PIXEL
    assert answer.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("item", [*list(NAMED)[1:], 7, 999])
def test_nothing_else_is(with_images: Browser, item: int) -> None:
    assert with_images.get(f"/item/image?id={item}").status == 404
    assert f"/item/image?id={item}" not in with_images.get(f"/catalog?q={item}").text


@pytest.mark.parametrize(
    "address",
    [
        *(
            "",
            ".",
            "a",
            "a/one.png/..",
            "../secret.png",
            "a/../../secret.png",
            "link.png",
            "a/page.svg",
            "a/one.png\0.png",
        ),
        *(
            "%2e%2e/secret.png",
            "x" * 5000 + ".png",
            "file:///etc/passwd",
            "/etc/passwd",
            "https://images.example/one.png",
        ),
    ],
)
def test_paths_that_lead_elsewhere(directory: Path, address: str) -> None:
    images = ItemImages(directory)
    assert images.find(address) is None
    with pytest.raises(NotFoundError):
        images.read(address)


def test_paths_that_stay_inside(directory: Path) -> None:
    images = ItemImages(directory)
    for address in ("a/one.png", "./a/../a/one.png", str(directory / "a" / "one.png")):
        assert images.read(address).content == PIXEL
    assert ItemImages(None).find("a/one.png") is None
    with (directory / "large.png").open("wb") as file:
        os.truncate(file.fileno(), 9 * 2**20)
    with pytest.raises(NotFoundError, match="8 MiB"):
        images.read("large.png")
    with pytest.raises(UsageError, match="no directory"):
        ConsoleOptions(image_files=directory / "none").check()
