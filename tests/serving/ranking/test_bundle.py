"""What a bundle has of a re-ranker, and what is refused."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from rf_platform.bundle import read_manifest
from rf_platform.errors import CorruptError, RunError
from rf_platform.registry import Registry
from rf_platform.settings import Settings
from rf_serving.bundle.build import build_bundle
from rf_serving.bundle.served import ServedBundle
from rf_training.rerank.kinds import save_ranker
from rf_training.rerank.ranker import Ranker

RANKED = "tiny-run-2"


def test_a_bundle_has_what_the_re_ranker_keeps_of_each_item(ranked: ServedBundle, random_ranker: Any) -> None:
    vectors = torch.from_numpy(np.array(ranked.vectors_ND))
    with torch.inference_mode():
        expected = random_ranker().item_state(vectors[:, :16]).numpy()
    assert ranked.item_states_NW is not None
    assert ranked.item_states_NW.dtype == np.float16
    np.testing.assert_allclose(ranked.item_states_NW, expected, rtol=2e-3, atol=1e-6)
    assert isinstance(ranked.item_states_NW, np.memmap)  # shared by the processes of a machine
    names = read_manifest(ranked.path).files
    assert {"item_sides.npy", "reranker/config.json", "reranker/weights.safetensors", "reranker/metrics.json"} < set(
        names
    )


def test_a_bundle_without_a_re_ranker_is_as_before(
    plain: ServedBundle, ranked_copy: Settings, registry_of: Callable[[Path], Registry]
) -> None:
    home = ranked_copy.workspace.root
    built = build_bundle(registry_of(home), home / "bundles", "tiny-run", reranker=False)
    assert built.reranker is None
    without = ServedBundle.open(built.record.path)
    assert (without.ranker, without.item_states_NW) == (None, None) == (plain.ranker, plain.item_states_NW)
    assert set(read_manifest(without.path).files) == set(read_manifest(plain.path).files)


def _fewer(bundle: Path) -> None:
    sides = np.load(bundle / "item_sides.npy")
    np.save(bundle / "item_sides.npy", sides[:-1])


def _narrower(bundle: Path) -> None:
    sides = np.load(bundle / "item_sides.npy")
    np.save(bundle / "item_sides.npy", sides[:, :-1])


def _missing(bundle: Path) -> None:
    (bundle / "item_sides.npy").unlink()


def _without_weights(bundle: Path) -> None:
    (bundle / "reranker" / "weights.safetensors").unlink()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_fewer, r"shape \(59, 16\), where 60 items .* need \(60, 16\)"),
        (_narrower, r"shape \(60, 15\), where 60 items .* need \(60, 16\)"),
        (_missing, "has a re-ranker and no item_sides.npy"),
        (_without_weights, "weights"),
    ],
)
def test_a_re_ranker_that_does_not_fit_is_refused(
    ranked: ServedBundle, tmp_path: Path, damage: Callable[[Path], None], message: str
) -> None:
    copied = Path(shutil.copytree(ranked.path, tmp_path / "bundle"))
    damage(copied)
    with pytest.raises(CorruptError, match=message):
        ServedBundle.open(copied)


def test_a_re_ranker_of_towers_of_another_width_is_refused(
    ranked: ServedBundle, tmp_path: Path, random_ranker: Callable[..., Ranker]
) -> None:
    copied = Path(shutil.copytree(ranked.path, tmp_path / "bundle"))
    save_ranker(copied / "reranker", random_ranker(dim=8))
    with pytest.raises(CorruptError, match="trained on vectors of 8 numbers, and the towers give 16"):
        ServedBundle.open(copied)


def test_a_re_ranker_of_other_weights_is_not_built_in(
    ranked_copy: Settings, registry_of: Callable[[Path], Registry]
) -> None:
    home = ranked_copy.workspace.root
    weights = home / "runs" / "tiny-run" / "best" / "weights.safetensors"
    content = weights.read_bytes()
    weights.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(CorruptError, match="was trained on other weights"):
        build_bundle(registry_of(home), home / "bundles", "tiny-run")
    assert build_bundle(registry_of(home), home / "bundles", "tiny-run", reranker=False).reranker is None


def test_a_re_ranker_that_gives_no_numbers_is_not_built_in(
    ranked_copy: Settings,
    registry_of: Callable[[Path], Registry],
    random_ranker: Callable[..., Ranker],
    store_ranker: Callable[..., None],
) -> None:
    home, ranker = ranked_copy.workspace.root, random_ranker()
    with torch.no_grad():
        ranker.get_parameter("item_extra.bias").fill_(torch.inf)
    store_ranker(home / "runs" / "tiny-run", ranker, "broken")
    with pytest.raises(RunError, match=r"numbers that are not finite.*--no-reranker"):
        build_bundle(registry_of(home), home / "bundles", "tiny-run")
    assert not (home / "bundles" / "tiny-run-3").exists()


def test_rf_bundles_says_which_bundles_have_one(
    ranked_home: Path, run_rf: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")  # narrow terminals break words
    code, out, _ = run_rf(ranked_home, "bundles", "--json")
    assert code == 0
    by_name = {row["name"]: row for row in json.loads(out)["bundles"]}
    assert (by_name[RANKED]["reranker"], by_name["tiny-run-1"]["reranker"]) == ("lime-mha", None)
    _, out, _ = run_rf(ranked_home, "bundles")
    assert "re-ranker" in out
    assert "lime-mha" in out
