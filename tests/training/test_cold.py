"""Cold items compete: the shift that calibration chooses, and that it reaches the vectors that are served."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from rf_platform.dataset import Dataset
from rf_platform.dataset.protocols import ColdItems, SplitProtocol
from rf_platform.errors import ConfigError, UsageError
from rf_training import cold
from rf_training.cold import SHIFTS, ColdCalibration, best_shift, calibrate, ranks_by_shift
from rf_training.config import NATURAL, ColdBudget, Recipe, TrainConfig
from rf_training.evaluation.cases import EvaluationCases
from rf_training.evaluation.metrics import NDCG
from rf_training.evaluation.ranking import rank_targets
from rf_training.evaluation.sequences import Split
from rf_training.model.config import ModelConfig
from rf_training.model.retrievalformer import RetrievalFormer
from rf_training.model.storage import load_model
from rf_training.model_scorer import ModelScorer
from rf_training.recipes import get_recipe, override
from rf_training.trainer import Trainer

MODEL = ModelConfig(dim=16, max_history=6, dropout=0.1)
TRAIN = TrainConfig(epochs=4, batch_size=8, uniform_negatives=10, learning_rate=5e-3, ema_decay=0.5)


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def with_cold(
    tmp_path_factory: pytest.TempPathFactory,
    write_tables: Callable[..., None],
    build_by_protocol: Callable[[Path, SplitProtocol], Dataset],
) -> Dataset:
    home = tmp_path_factory.mktemp("cold")
    write_tables(home / "tables")
    return build_by_protocol(home, ColdItems(cold_share=0.2, validation_cold_share=0.3, seed=2))


@pytest.fixture(scope="module")
def trained(with_cold: Dataset, tmp_path_factory: pytest.TempPathFactory) -> tuple[Trainer, Any]:
    torch.set_num_threads(1)
    directory = tmp_path_factory.mktemp("runs") / "run"
    directory.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cold, "MIN_COLD", 2)
        patch.setattr(cold, "FEWEST", 1)
        made = Trainer(Recipe(name="t", model=MODEL, train=replace(TRAIN, cold_budget=0.5)), with_cold, directory)
        return made, made.run()


def ranks_with(model: RetrievalFormer, dataset: Dataset, shift: float) -> tuple[np.ndarray, EvaluationCases]:
    model.cold_shift.fill_(shift)
    cases = EvaluationCases.from_sequences(dataset.sequences, n_items=len(dataset.item_ids), split=Split.VALIDATION)
    return rank_targets(ModelScorer(model, dataset), cases, seed=0).excluded, cases


@pytest.mark.parametrize("step", [0, 7, 30, len(SHIFTS) - 1])
def test_the_curve_is_what_evaluation_measures_at_that_shift(
    with_cold: Dataset, trained: tuple[Trainer, Any], step: int
) -> None:
    made, result = trained
    assert not result.cold.pretended
    model = load_model(made.directory / "best", with_cold.encoder)
    ranks, cases = ranks_with(model, with_cold, float(SHIFTS[step]))
    assert (result.cold.warm_cases, result.cold.cold_cases) == ((~cases.cold).sum(), cases.cold.sum())
    point = result.cold.curve[step]
    assert point["shift"] == SHIFTS[step]
    for kind, rows in (("warm", ~cases.cold), ("cold", cases.cold)):
        assert np.isclose(point[f"{kind} ndcg@20"], NDCG(20)(ranks[rows]).mean())


def test_the_best_for_cold_items_within_the_budget(trained: tuple[Trainer, Any]) -> None:
    curve, shift = trained[1].cold.curve, trained[1].cold.shift
    floor = 0.5 * curve[0]["warm ndcg@20"]
    allowed = [p for p in curve if p["warm ndcg@20"] >= max(floor, p["cold ndcg@20"])]
    assert len(allowed) > 1
    chosen = next(p for p in curve if p["shift"] == shift)
    assert chosen in allowed
    assert chosen["cold ndcg@20"] == max(p["cold ndcg@20"] for p in allowed) > curve[0]["cold ndcg@20"]


def test_the_weights_that_are_kept_carry_it_and_were_validated_with_it(
    with_cold: Dataset, trained: tuple[Trainer, Any]
) -> None:
    made, result = trained
    model = load_model(made.directory / "best", with_cold.encoder)
    assert float(model.cold_shift) == pytest.approx(result.cold.shift)
    ranks, _ = ranks_with(model, with_cold, result.cold.shift)
    assert result.validation["ndcg@20"] == pytest.approx(NDCG(20)(ranks).mean())


def test_a_run_killed_in_its_calibration_is_calibrated_again(
    with_cold: Dataset, trained: tuple[Trainer, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All epochs are done, and the weights may carry the shift already: it is not added to itself."""
    monkeypatch.setattr(cold, "MIN_COLD", 2)
    monkeypatch.setattr(cold, "FEWEST", 1)
    made, result = trained
    directory = tmp_path / "run"
    shutil.copytree(made.directory, directory)
    again = Trainer(made.recipe, with_cold, directory).run(resume=True)
    assert (again.cold, again.validation) == (result.cold, result.validation)
    assert result.cold.shift > 0


def test_only_items_without_an_id_are_raised(with_cold: Dataset, trained: tuple[Trainer, Any]) -> None:
    model = load_model(trained[0].directory / "best", with_cold.encoder)
    model.cold_shift.fill_(0.3)
    raised = ModelScorer(model, with_cold)
    model.cold_shift.fill_(0.0)
    plain = ModelScorer(model, with_cold)
    assert raised.vectors_ND.shape[1] == plain.vectors_ND.shape[1] + 1
    users, lengths = np.arange(5), np.full(5, 4)
    model.cold_shift.fill_(0.3)
    scores = raised.queries(users, lengths) @ raised.vectors_ND.T
    model.cold_shift.fill_(0.0)
    difference = scores - plain.queries(users, lengths) @ plain.vectors_ND.T
    expected = np.where(with_cold.trained_items, 0.0, 0.3)
    np.testing.assert_allclose(difference.numpy(), np.broadcast_to(expected, difference.shape), atol=1e-5)


def test_without_enough_cold_targets_known_items_play_their_part(dataset: Dataset) -> None:
    torch.manual_seed(0)
    model = RetrievalFormer(MODEL, dataset.encoder).eval()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cold, "PRETEND_SHARE", 0.3)
        patch.setattr(cold, "FEWEST", 4)
        found = calibrate(model, dataset, budget=0.05)
    assert found is not None
    assert found.pretended
    assert found.cold_cases > 3
    assert float(model.cold_shift) == 0


def test_nothing_is_calibrated_on_a_handful_of_targets(dataset: Dataset) -> None:
    torch.manual_seed(0)
    assert calibrate(RetrievalFormer(MODEL, dataset.encoder), dataset, budget=0.05) is None


def test_cold_items_that_are_all_alike_take_turns(with_cold: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without features all cold items have one vector: the target is not the first among its equals, however high they rise."""
    monkeypatch.setattr(cold, "MIN_COLD", 2)
    monkeypatch.setattr(cold, "FEWEST", 1)
    monkeypatch.setattr(cold, "SHIFTS", np.array([0.0, 3.0]))
    spec = replace(with_cold.spec, fields=tuple(f for f in with_cold.spec.fields if f.side != "item"))
    plain = Dataset(path=with_cold.path, manifest=with_cold.manifest, spec=spec)
    plain.__dict__["encoder"] = replace(with_cold.encoder, spec=spec)
    torch.manual_seed(0)
    model = RetrievalFormer(MODEL, plain.encoder)
    highest = []
    for seed in range(12):
        found = calibrate(model, plain, budget=0.99, seed=seed)
        assert found is not None
        highest.append(found.curve[1]["cold ndcg@20"])
    cold_items = int((~plain.trained_items).sum())
    fair = np.mean([1 / np.log2(rank + 1) for rank in range(1, cold_items + 1)])
    assert cold_items > 5
    assert np.mean(highest) == pytest.approx(fair, abs=0.12)


def test_nothing_to_calibrate_without_ids(dataset: Dataset) -> None:
    model = RetrievalFormer(replace(MODEL, item_id=False), dataset.encoder)
    assert calibrate(model, dataset, budget=0.05) is None


# The choice, on scores made by hand: 30 warm items and 30 cold ones; who is reached or overtaken, is so at a shift above .1.

WARM, COLD = slice(0, 30), slice(30, 60)


def scored(target: int, warm: float, cold_score: float, own: float) -> np.ndarray:
    """Scores of all items for one case: those of the warm ones, of the cold ones, and of the target."""
    row = np.zeros(60, np.float32)
    row[WARM], row[COLD], row[target] = warm, cold_score, own
    return row


def best(
    *,
    reached: int,
    buried: int = 0,
    overtaken: int = 0,
    safe: int = 0,
    share: float,
    budget: ColdBudget = NATURAL,
    weight: float = 1,
) -> float:
    """The shift chosen.

    Args:
        reached, buried: cold targets that 30 warm items precede, by .1, and by more than any shift.
        overtaken, safe: warm targets that are first, with 30 cold items .1 behind them, and out of reach.
        share: share of cold targets in the validation split.
        budget, weight: ``train.cold_budget`` and ``train.cold_weight``.
    """
    rows = [
        *[scored(30, 0.4, -1.0, 0.3)] * reached,
        *[scored(30, 0.9, -1.0, 0.0)] * buried,
        *[scored(0, 0.0, 0.2, 0.3)] * overtaken,
        *[scored(0, 0.0, -1.0, 0.3)] * safe,
    ]
    cold_C = np.arange(len(rows)) < reached + buried
    cold_items = np.arange(60) >= 30
    ranks_SC = ranks_by_shift(np.stack(rows), np.where(cold_C, 30, 0), cold_items, np.full(len(rows), 0.99))
    assert set(np.unique(ranks_SC[0])) <= {1, 31}
    return float(SHIFTS[best_shift(ranks_SC, cold_C, share, budget, weight)])


def test_scores_are_raised_as_far_as_it_helps_all_targets_together() -> None:
    """Raised by .11, half the cold targets come first, and a tenth of the warm ones is lost: worth it where a sixth is cold."""
    made = {"reached": 200, "buried": 200, "overtaken": 40, "safe": 360}
    assert best(**made, share=0.01) == best(**made, share=0.15) == 0
    assert best(**made, share=0.25) == best(**made, share=0.5) == 0.11


def test_the_smallest_shift_that_does() -> None:
    assert best(reached=50, buried=100, safe=100, share=0.3) == 0.11


def test_what_helps_nobody_raises_nothing() -> None:
    assert best(reached=0, buried=100, safe=100, share=0.5) == 0
    assert best(reached=0, buried=100, overtaken=100, share=0.5) == 0
    assert best(reached=100, safe=100, share=0.0) == 0  # such targets do not occur


def test_a_gain_that_may_be_chance_raises_nothing() -> None:
    assert best(reached=2, buried=58, safe=60, share=0.5) == 0
    assert best(reached=8, buried=52, safe=60, share=0.5) == 0.11


def test_cold_targets_never_come_to_rank_above_warm_ones() -> None:
    assert best(reached=90, buried=10, overtaken=20, safe=80, share=0.9) == 0  # .9 against .8, however many are cold
    assert best(reached=70, buried=30, overtaken=20, safe=80, share=0.9) == 0.11


def test_a_budget_is_spent_whatever_the_mix() -> None:
    natural, small, enough = (
        best(reached=2, buried=58, overtaken=5, safe=95, share=0.01, budget=budget) for budget in (NATURAL, 0.04, 0.05)
    )
    assert natural == small == 0
    assert enough == 0.11


def test_a_budget_does_not_bring_cold_targets_above_warm_ones_either() -> None:
    """Half of the warm ones may be lost, and a fifth would do: but then .9 of the cold ones are found, and .8 of the warm."""
    assert best(reached=90, buried=10, overtaken=20, safe=80, share=0.1, budget=0.5) == 0
    assert best(reached=70, buried=30, overtaken=20, safe=80, share=0.1, budget=0.5) == 0.11


def test_exposure_has_a_price_that_a_weight_sets() -> None:
    """A cold target in fifteen, of which half are won, against a tenth of the warm ones lost: worth it from a weight of 3 on."""
    made = {"reached": 200, "buried": 200, "overtaken": 40, "safe": 360}
    assert best(**made, share=1 / 15) == best(**made, share=1 / 15, weight=2) == 0
    assert best(**made, share=1 / 15, weight=4) == best(**made, share=1 / 15, weight=100) == 0.11


def test_what_a_shift_costs_is_said() -> None:
    points = [
        {
            f"{kind} {metric}": value
            for kind, value in (("all", a), ("warm", w), ("cold", c))
            for metric in ("recall@20", "ndcg@20")
        }
        for a, w, c in ((0.1, 0.2, 0.0), (0.09, 0.16, 0.02))
    ]
    found = ColdCalibration(
        shift=0.01,
        budget=NATURAL,
        pretended=False,
        warm_cases=50,
        cold_cases=50,
        cold_share=0.5,
        weight=4.0,
        curve=[{"shift": shift, **point} for shift, point in zip((0.0, 0.01), points, strict=True)],
    )
    assert found.price == "all -10.0%, warm -20.0%, cold +0.0200"


def test_the_natural_mix_has_no_actors(dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave-one-out without a cold target: nothing is raised, where a budget would be spent on known items."""
    monkeypatch.setattr(cold, "FEWEST", 4)
    monkeypatch.setattr(cold, "PRETEND_SHARE", 0.3)
    assert TrainConfig().cold_budget == NATURAL
    made = Trainer(Recipe(name="t", model=MODEL, train=replace(TRAIN, epochs=1)), dataset, tmp_path)
    assert made.run().cold is None
    model = load_model(tmp_path / "best", dataset.encoder)
    assert float(model.cold_shift) == 0
    found = calibrate(model, dataset, budget=0.05)
    assert found is not None
    assert (found.pretended, found.cold_share) == (True, 0)
    assert found.curve[-1]["all ndcg@20"] == found.curve[-1]["warm ndcg@20"]


def test_all_targets_are_weighted_by_their_share(with_cold: Dataset, trained: tuple[Trainer, Any]) -> None:
    made, result = trained
    model = load_model(made.directory / "best", with_cold.encoder)
    ranks, cases = ranks_with(model, with_cold, float(SHIFTS[9]))
    assert result.cold.cold_share == cases.cold.mean()
    assert result.cold.curve[9]["all ndcg@20"] == pytest.approx(NDCG(20)(ranks).mean())


def test_a_budget_is_natural_or_a_share() -> None:
    recipe = get_recipe("default")
    assert recipe.train.cold_budget == NATURAL
    for text, value in (("0.1", 0.1), ("0", 0.0), ("natural", NATURAL)):
        assert override(recipe, [f"train.cold_budget={text}"]).train.cold_budget == value
    with pytest.raises(UsageError, match="cold_budget"):
        override(recipe, ["train.cold_budget=much"])
    for wrong in (1.0, -0.1):
        with pytest.raises(ConfigError, match=r"cold_budget=.* must be natural, or a share in \[0, 1\)"):
            TrainConfig(cold_budget=wrong)
