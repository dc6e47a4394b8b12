"""One behaviour suite for all baselines, on data whose right answer is obvious to each of them."""

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from scipy import sparse

from rf_platform.errors import RunError
from rf_training.baselines import (
    ALS,
    BASELINES,
    SIMPLE,
    BERT4Rec,
    ContentKNN,
    GRU4Rec,
    Popularity,
    SASRec,
    TrainingData,
)
from rf_training.baselines.gru4rec import GRU4RecSettings
from rf_training.baselines.rectools_models import TransformerSettings
from rf_training.baselines.training_data import FittedState, Keepable
from rf_training.evaluation import EvaluationCases, EventSequences, Jagged, Scorer, Sequences, Split, rank_targets
from rf_training.evaluation.metrics import NDCG
from rf_training.evaluation.sequences import training_items

N_ITEMS = 12
# Items 0 and 1 are the most popular and always consumed together; item 11 is never consumed in training.
TOGETHER = EventSequences.leave_one_out(
    [[2 + user % 8, 0, 1, 3 + user % 4, 10] for user in range(20)]
    + [[0, 1, 2 + user % 8, 3, 11] for user in range(20)]
    + [[4, 5], [6]]
)


Fit = Callable[[TrainingData], Scorer]

# Settings of the libraries' models that train in a second; never stopped early.
TINY = TransformerSettings(
    factors=16, heads=1, blocks=1, dropout=0.0, sparse_dropout=0.0, batch_size=8, max_epochs=15, patience=15
)
FITS: dict[str, Fit] = {
    **{name: BASELINES[name].fit for name in (*SIMPLE, ALS.name)},
    GRU4Rec.name: lambda data: GRU4Rec.fit(data, GRU4RecSettings(batch_size=8, epochs=5, dropout=0.0)),
    SASRec.name: lambda data: SASRec.fit(data, TINY),
    BERT4Rec.name: lambda data: BERT4Rec.fit(data, TINY),
}
assert FITS.keys() == BASELINES.keys()
RESTORES: dict[str, Callable[[TrainingData, FittedState], Scorer]] = {
    ALS.name: ALS.restore,
    GRU4Rec.name: GRU4Rec.restore,
    SASRec.name: lambda data, state: SASRec.restore(data, TINY, state),
    BERT4Rec.name: lambda data, state: BERT4Rec.restore(data, TINY, state),
}
LIBRARIES = {ALS.name: "implicit", GRU4Rec.name: "cornac", SASRec.name: "rectools", BERT4Rec.name: "rectools"}
SEQUENCE_MODELS = {GRU4Rec.name, SASRec.name, BERT4Rec.name}
WITHOUT_INTERACTIONS = {ContentKNN.name}
CHOSEN_ON_VALIDATION = {SASRec.name, BERT4Rec.name}


@pytest.fixture(params=BASELINES)
def name(request: pytest.FixtureRequest) -> str:
    skip_without_library(request.param)
    return str(request.param)


def skip_without_library(name: str) -> None:
    library = LIBRARIES.get(name)
    if library is not None and find_spec(library) is None:
        pytest.skip(f"{name} needs {library}, of the extra 'bench': run `make install-bench`")


def training_data(sequences: Sequences, n_items: int = N_ITEMS) -> TrainingData:
    """Items 0 and 1 have the same content, each other one has its own; events happen one second after another."""
    columns = np.maximum(np.arange(n_items), 1) - 1
    ones = np.ones(n_items, np.float32)
    content = sparse.csr_array((ones, (np.arange(n_items), columns)), shape=(n_items, max(1, n_items)))
    return TrainingData(
        sequences=sequences, n_items=n_items, timestamps=np.arange(len(sequences.item)) * 1_000_000, content=content
    )


def fit(name: str, sequences: Sequences = TOGETHER, n_items: int = N_ITEMS) -> Scorer:
    return FITS[name](training_data(sequences, n_items))


def training_events(sequences: Sequences) -> EventSequences:
    """The same without what is held out."""
    train = training_items(sequences)
    return EventSequences(train.offsets, train.values, np.zeros(len(train.values), dtype=np.int8))


def histories(*rows: list[int]) -> Jagged:
    values = [item for row in rows for item in row]
    offsets = np.cumsum([0, *(len(row) for row in rows)])
    return Jagged(np.array(values, dtype=np.int32), offsets.astype(np.int64))


def score(scorer: Scorer, *rows: list[int]) -> npt.NDArray[np.float32]:
    return scorer.scores(np.arange(len(rows)), histories(*rows))


def test_the_obvious_item_comes_first(name: str) -> None:
    scores = score(fit(name, training_events(TOGETHER)), [0], [1])
    assert np.argmax(np.delete(scores[0], 0)) + 1 == 1
    if name not in SEQUENCE_MODELS:  # what follows item 1 is never item 0
        assert np.argmax(np.delete(scores[1], 1)) == 0


def test_scores_cover_the_catalog(name: str) -> None:
    scores = score(fit(name), [0], [], [11, 3])
    assert scores.shape == (3, N_ITEMS)
    assert scores.dtype == np.float32
    assert not np.isnan(scores).any()
    assert np.isfinite(scores[:, :10]).all()


def test_an_item_without_training_events_scores_lowest(name: str) -> None:
    scores = score(fit(name), [0, 1])[0]
    if name in WITHOUT_INTERACTIONS:
        assert score(fit(name), [11])[0].argmax() == 11
    else:
        assert scores[11] == scores.min()


def test_no_users_and_no_training_events_are_fine(name: str) -> None:
    assert score(fit(name)).shape == (0, N_ITEMS)
    nothing = EventSequences.leave_one_out([[], [0]])
    if name in SEQUENCE_MODELS:
        with pytest.raises(RunError, match=f"'{name}' cannot be trained: no user has two training events"):
            fit(name, nothing, n_items=3)
        return
    assert score(fit(name, nothing, n_items=3), [0, 1], []).shape == (2, 3)
    nobody = fit(name, EventSequences.leave_one_out([]), n_items=0)
    assert score(nobody).shape == (0, 0)
    assert score(nobody, [], []).shape == (2, 0)


def test_held_out_events_are_not_learned(name: str) -> None:
    if name in CHOSEN_ON_VALIDATION:
        pytest.skip("the validation targets choose the epoch; see test_validation_chooses_the_epoch")
    other_targets = EventSequences(TOGETHER.offsets, TOGETHER.item.copy(), TOGETHER.split)
    held_out = TOGETHER.split != Split.TRAIN
    assert held_out.sum() == 80
    other_targets.item[held_out] = np.random.default_rng(0).integers(0, N_ITEMS, size=80)
    row = list(range(N_ITEMS))
    before = score(fit(name), *([item] for item in row))
    after = score(fit(name, other_targets), *([item] for item in row))
    np.testing.assert_array_equal(before, after)
    if name in WITHOUT_INTERACTIONS:
        return
    other_targets.item[~held_out] = (other_targets.item[~held_out] + 1) % N_ITEMS  # training events do matter
    assert (score(fit(name, other_targets), *([item] for item in row)) != before).any()


def test_fitting_on_training_events_alone_is_the_same(name: str) -> None:
    if name in CHOSEN_ON_VALIDATION:
        pytest.skip("without validation targets the last epoch is taken")
    alone = training_events(TOGETHER)
    np.testing.assert_array_equal(
        score(fit(name), [0, 3], [5]),
        score(fit(name, alone), [0, 3], [5]),
    )


def test_inputs_are_only_read(name: str) -> None:
    unsorted = EventSequences(TOGETHER.offsets.copy(), TOGETHER.item.copy(), TOGETHER.split.copy())
    for array in (unsorted.offsets, unsorted.item, unsorted.split):
        array.flags.writeable = False
    scorer = fit(name, unsorted)
    rows = histories([9, 0, 9, 3], [7, 2])
    rows.values.flags.writeable = rows.offsets.flags.writeable = False
    scorer.scores(np.arange(2), rows)
    assert rows.values.tolist() == [9, 0, 9, 3, 7, 2]
    np.testing.assert_array_equal(unsorted.item, TOGETHER.item)


def test_scores_do_not_depend_on_the_batch(name: str) -> None:
    scorer = fit(name)
    rows = [[0, 1], [], [3, 4, 5, 3], [9]]
    together = score(scorer, *rows)
    for index, row in enumerate(rows):
        np.testing.assert_allclose(score(scorer, row)[0], together[index], rtol=1e-4, atol=1e-5)


def test_a_fitted_baseline_can_be_kept_in_a_file(name: str, tmp_path: Path) -> None:
    if name in SIMPLE:
        pytest.skip("fits in seconds and is never kept")
    scorer = fit(name)
    assert isinstance(scorer, Keepable)
    torch.save(scorer.state(), tmp_path / "fitted.pt")
    kept = RESTORES[name](training_data(TOGETHER), torch.load(tmp_path / "fitted.pt", weights_only=True))
    np.testing.assert_array_equal(score(scorer, [0, 1], [3]), score(kept, [0, 1], [3]))


def test_ranks_are_the_same_again(name: str) -> None:
    cases = EvaluationCases.from_sequences(TOGETHER, n_items=N_ITEMS, split=Split.TEST)
    first = rank_targets(fit(name), cases, seed=4)
    again = rank_targets(fit(name), cases, seed=4)
    assert first.kept.tolist() == again.kept.tolist()
    assert first.excluded.tolist() == again.excluded.tolist()


def test_popularity_counts_training_events() -> None:
    sequences = EventSequences.leave_one_out([[0, 1, 0, 2, 2], [1, 3], [0]])
    assert Popularity.fit(sequences, n_items=5).counts.tolist() == [3, 2, 0, 1, 0]


@pytest.mark.parametrize("name", sorted(CHOSEN_ON_VALIDATION))
def test_validation_chooses_the_epoch(name: str) -> None:
    skip_without_library(name)
    cases = EvaluationCases.from_sequences(TOGETHER, n_items=N_ITEMS, split=Split.VALIDATION)
    chosen, last = (
        NDCG(20)(rank_targets(fit(name, sequences), cases, seed=0).excluded).mean()
        for sequences in (TOGETHER, training_events(TOGETHER))
    )
    assert chosen > last


def test_the_order_of_the_history_matters_to_sequence_models(name: str) -> None:
    if name not in SEQUENCE_MODELS:
        pytest.skip("reads the history as a set or a weighted bag")
    scores = score(fit(name), [0, 1, 2], [2, 1, 0])[:, :10]
    assert (scores[0] != scores[1]).any()
