from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
from scipy import sparse

from rf_platform.dataset import Dataset
from rf_platform.features.vocabulary import Vocabulary
from rf_training.baselines import ContentKNN, TrainingData
from rf_training.baselines.training_data import content_matrix
from rf_training.evaluation import EventSequences, Jagged

# Items 0 and 4 are the same, 1 shares a rare value with 0, 2 a common one, 3 has nothing.
CONTENT = np.array([[1, 1, 0], [1, 0, 0], [0, 1, 0], [0, 0, 0], [1, 1, 0], [0, 1, 1]], np.float32)


def data(content: npt.NDArray[np.float32] = CONTENT) -> TrainingData:
    return TrainingData(
        sequences=EventSequences.leave_one_out([]),
        n_items=len(content),
        timestamps=np.zeros(0, np.int64),
        content=sparse.csr_array(content),
    )


def scores(knn: ContentKNN, *items: int) -> npt.NDArray[np.float32]:
    history = Jagged(np.array(items, np.int32), np.array([0, len(items)]))
    found: npt.NDArray[np.float32] = knn.scores(np.zeros(1, np.int64), history)[0]
    return found


def test_scores_are_weighted_cosines_of_tf_idf() -> None:
    idf = np.log(7 / (1 + CONTENT.sum(axis=0))) + 1
    vectors = CONTENT * idf
    lengths = np.sqrt((vectors**2).sum(axis=1, keepdims=True))
    vectors = np.divide(vectors, lengths, out=np.zeros_like(vectors), where=lengths > 0)
    cosines = vectors @ vectors.T
    expected = 0.25 * cosines[5] + 0.5 * cosines[2] + cosines[1]
    np.testing.assert_allclose(scores(ContentKNN.fit(data(), decay=0.5), 5, 2, 1), expected, rtol=1e-6)
    np.testing.assert_allclose(scores(ContentKNN.fit(data(), decay=0.5, recent=1), 5, 2, 1), cosines[1], rtol=1e-6)


def test_items_of_equal_content_tie_and_come_first() -> None:
    found = scores(ContentKNN.fit(data()), 0)
    assert found[0] == found[4] == found.max()
    assert found[1] > found[2] > 0  # the rarer value counts more
    assert found[3] == 0


def test_content_comes_from_the_features_of_the_spec(dataset: Dataset) -> None:
    content = content_matrix(dataset)
    items = dataset.items.take(dataset.evaluation_items).to_pylist()
    known = {name: set(dataset.encoder.vocabularies[name].values.to_pylist()) for name in ("genre", "year")}
    values = [
        {*(g for g in item["items__genres"] if g in known["genre"])} | ({item["items__release_year"]} & known["year"])
        for item in items
    ]
    assert content.sum(axis=1).tolist() == [len(each) for each in values]
    assert content.shape[1] == len(set().union(*values))
    shared = (content @ content.T).toarray()
    assert all(shared[i, j] == len(a & b) for i, a in enumerate(values) for j, b in enumerate(values))


def test_values_that_training_did_not_know_are_left_out(dataset: Dataset) -> None:
    forgetful = Dataset.open(dataset.path)
    vocabularies = dict(dataset.encoder.vocabularies)
    genres = vocabularies["genre"]
    vocabularies["genre"] = Vocabulary(genres.domain, genres.values[:-2], genres.counts[:-2])
    forgetful.__dict__["encoder"] = replace(dataset.encoder, vocabularies=vocabularies)
    assert content_matrix(forgetful).shape[1] == content_matrix(dataset).shape[1] - 2


def test_an_item_that_nobody_consumed_is_scored(dataset: Dataset) -> None:
    knn = ContentKNN.fit(TrainingData.from_dataset(dataset))
    trained = set(dataset.sequences.item[dataset.sequences.split == 0].tolist())
    untrained = [item for item in range(len(dataset.item_ids)) if item not in trained]
    genres = dataset.items.take(dataset.evaluation_items)["items__genres"].to_pylist()
    for item in untrained:
        twin = next(other for other in trained if genres[other] == genres[item])
        assert scores(knn, twin)[item] > 0


@pytest.mark.parametrize("wrong", [{"decay": 0.0}, {"decay": 1.5}, {"recent": 0}])
def test_senseless_settings_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(wrong))}={next(iter(wrong.values()))}"):
        ContentKNN.fit(data(), **wrong)
