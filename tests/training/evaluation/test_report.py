import io
import json

import numpy as np
import numpy.typing as npt
import pytest
from rich.console import Console

from rf_platform.errors import RunError
from rf_training.evaluation import (
    EvaluationCases,
    EvaluationReport,
    EventSequences,
    Jagged,
    Split,
    evaluate,
    report_markdown,
    report_tables,
)
from rf_training.evaluation.metrics import REPORT_METRICS

N_ITEMS = 40
SEQUENCES = EventSequences.leave_one_out([[(user + step * step) % N_ITEMS for step in range(6)] for user in range(60)])


class Fixed:
    """The same scores for everyone."""

    def __init__(self, name: str, row: npt.ArrayLike) -> None:
        self.name = name
        self.row = np.asarray(row, dtype=np.float32)

    def scores(self, users: npt.NDArray[np.int64], histories: Jagged) -> npt.NDArray[np.float32]:
        return np.broadcast_to(self.row, (len(users), len(self.row)))


class Oracle:
    """Knows the target."""

    name = "oracle"

    def __init__(self, split: Split) -> None:
        cases = EvaluationCases.from_sequences(SEQUENCES, n_items=N_ITEMS, split=split)
        self.targets = dict(zip(cases.users.tolist(), cases.targets.tolist(), strict=True))

    def scores(self, users: npt.NDArray[np.int64], histories: Jagged) -> npt.NDArray[np.float32]:
        scores = np.zeros((len(users), N_ITEMS), dtype=np.float32)
        scores[np.arange(len(users)), [self.targets[user] for user in users.tolist()]] = 1
        return scores


FIXED = Fixed("fixed", np.arange(N_ITEMS))


def report(split: Split = Split.TEST, seed: int = 3) -> EvaluationReport:
    return evaluate(
        SEQUENCES,
        [FIXED, Oracle(split)],
        n_items=N_ITEMS,
        split=split,
        seed=seed,
        reference="fixed",
        resamples=200,
    )


@pytest.mark.parametrize("split", [Split.VALIDATION, Split.TEST])
def test_an_oracle_is_perfect_and_its_difference_says_so(split: Split) -> None:
    made = report(split)
    assert (made.split, made.cases, made.items, made.repeated_targets) == (split.label, 60, N_ITEMS, 0)
    for seen in ("kept", "excluded"):
        oracle, fixed = made.result("oracle", seen), made.result("fixed", seen)
        assert fixed.differences is None
        assert oracle.differences is not None
        for metric in REPORT_METRICS:
            key = metric.label.lower()
            assert oracle.metrics[key].value == oracle.metrics[key].low == oracle.metrics[key].high == 1
            difference = oracle.differences[key]
            assert difference.value == pytest.approx(1 - fixed.metrics[key].value)
            if key != "recall@50":  # longer than the catalog: always a hit
                assert difference.low < difference.value < difference.high


def test_values_are_means_over_all_users() -> None:
    # The last item of a user is (user + 25) mod 40, and a higher item row scores higher.
    kept = report().result("fixed", "kept")
    targets = [(user + 25) % N_ITEMS for user in range(60)]
    ranks = np.array([N_ITEMS - target for target in targets])
    for metric in REPORT_METRICS:
        assert kept.metrics[metric.label.lower()].value == pytest.approx(metric(ranks).mean())


def test_excluding_seen_items_never_makes_a_rank_worse() -> None:
    made = report()
    kept, excluded = made.result("fixed", "kept").metrics, made.result("fixed", "excluded").metrics
    assert all(excluded[key].value >= kept[key].value for key in kept if key != "auc")  # which has fewer to beat
    assert excluded["mrr"].value > kept["mrr"].value


def test_the_same_seed_gives_the_same_document() -> None:
    assert json.dumps(report().to_dict()) == json.dumps(report().to_dict())
    assert report(seed=4).to_dict() != report().to_dict()


def test_the_seed_decides_ties_and_all_scorers_share_them() -> None:
    scorers = [Fixed(name, np.zeros(N_ITEMS)) for name in ("one", "other")]

    def mrr(seed: int) -> list[float]:
        made = evaluate(SEQUENCES, scorers, n_items=N_ITEMS, split=Split.TEST, seed=seed, resamples=10)
        return [made.result(scorer.name, "kept").metrics["mrr"].value for scorer in scorers]

    assert mrr(1)[0] == mrr(1)[1]
    assert mrr(1)[0] != mrr(2)[0]


def test_json_has_everything_by_name() -> None:
    document = json.loads(json.dumps(report().to_dict()))
    assert {key: document[key] for key in ("split", "cases", "items", "seed", "resamples", "reference")} == {
        "split": "test",
        "cases": 60,
        "items": N_ITEMS,
        "seed": 3,
        "resamples": 200,
        "reference": "fixed",
    }
    assert [(each["scorer"], each["seen"]) for each in document["results"]] == [
        ("fixed", "kept"),
        ("fixed", "excluded"),
        ("oracle", "kept"),
        ("oracle", "excluded"),
    ]
    assert document["results"][2]["metrics"]["recall@20"] == {"value": 1, "low": 1, "high": 1}
    assert document["results"][0]["differences"] is None
    assert list(document["results"][0]["metrics"]) == [
        *(f"{name}@{k}" for name in ("recall", "ndcg", "mrr") for k in (5, 10, 20, 50)),
        "mrr",
        "auc",
    ]
    assert (document["cold_targets"], document["warm_cold"], document["approximations"]) == (0, None, [])
    assert sum(each["cases"] for each in document["segments"]["popularity"]) == 60
    assert [each["name"] for each in document["segments"]["history"]] == ["new users: at most 5"]
    assert [row["scorer"] for row in document["reach"]["rows"]] == ["fixed", "oracle", "test targets"]


def test_auc_counts_the_items_that_were_ranked() -> None:
    made = report()
    targets = np.array([(user + 25) % N_ITEMS for user in range(60)])
    assert made.result("fixed", "kept").metrics["auc"].value == pytest.approx((targets / (N_ITEMS - 1)).mean())
    unseen = [
        [i for i in range(N_ITEMS) if i == (u + 25) % N_ITEMS or i not in {(u + s * s) % N_ITEMS for s in range(5)}]
        for u in range(60)
    ]
    shares = [row.index((u + 25) % N_ITEMS) / (len(row) - 1) for u, row in enumerate(unseen)]
    assert made.result("fixed", "excluded").metrics["auc"].value == pytest.approx(np.mean(shares))


def test_reach_is_of_unseen_items() -> None:
    # Everybody's best 20 unseen items are of the last 25, of which each user has seen five at most.
    rows = {row.scorer: row for row in report().reach.rows}
    assert rows["fixed"].coverage == 25 / N_ITEMS
    assert rows["test targets"].coverage == 1


def test_tables_fit_a_terminal_of_100_columns() -> None:
    console = Console(width=100, record=True, file=io.StringIO())
    console.print(report_tables(report()))
    text = console.export_text()
    assert "…" not in text
    assert f"{report().cases} users, one target each (0 consumed before)" in text
    assert [line.strip() for line in text.splitlines() if line[:1].isalpha()] == [
        "Test, seen items kept",
        "Test, seen items excluded",
        "Difference from fixed",
        "Recall@20 by popularity of the item to find, seen items excluded",
        "Recall@20 by length of the history, seen items excluded",
        "Reach of the catalog: the best 20 unseen items of every user",
    ]
    row = next(line for line in text.splitlines() if line.strip().startswith("oracle"))
    assert row.split() == ["oracle"] + ["1.0000"] * 7


def test_the_widest_tables_fit_too() -> None:
    """All kinds of tables, with long names and every segment there can be."""
    lengths = [3, 8, 15, 30, 100, 250]
    users = [[(u + step) % 35 for step in range(length)] + [35 + u % 5] for u, length in enumerate(lengths * 5)]
    names = ("popularity", "RetrievalFormer", "RetrievalFormer (hnsw)")
    made = evaluate(
        EventSequences.leave_one_out([*users, *([0, 1, 2, 3],) * 4]),
        [Fixed(name, np.arange(N_ITEMS)) for name in names],
        n_items=N_ITEMS,
        split=Split.TEST,
        seed=0,
        reference="popularity",
        exact_of={names[2]: names[1]},
        resamples=20,
    )
    assert len(made.segments.history) == 6
    console = Console(width=100, record=True, file=io.StringIO())
    console.print(report_tables(made))
    text = console.export_text()
    assert "…" not in text
    for header in ("more than", "AUC, cold", "through the", "popularity"):
        assert header in text
    assert max(len(line.rstrip()) for line in text.splitlines()) <= 100


def test_names_are_not_markup() -> None:
    console = Console(width=80, record=True, file=io.StringIO())
    scorer = Fixed("run[red]", np.zeros(N_ITEMS))
    made = evaluate(SEQUENCES, [scorer], n_items=N_ITEMS, split=Split.TEST, seed=0, resamples=10)
    console.print(report_tables(made))
    assert console.export_text().count("run[red]") == 5


def test_markdown_shows_the_bounds() -> None:
    made = report()
    text = report_markdown(made)
    recall = made.result("fixed", "kept").metrics["recall@20"]
    assert f"{recall.value:.4f} [{recall.low:.4f}, {recall.high:.4f}]" in text
    tables = [section for section in text.split("\n\n") if section.startswith("|")]
    assert [len(table.splitlines()) for table in tables] == [4, 4, 4, 4, 4, 5]
    assert all(line.count("|") == 16 for table in tables[:3] for line in table.splitlines())  # 14 metrics
    assert "oracle (excluded)" in tables[2]


def test_without_a_reference_there_are_no_differences() -> None:
    made = evaluate(SEQUENCES, [FIXED], n_items=N_ITEMS, split=Split.TEST, seed=0, resamples=50)
    assert made.reference is None
    assert all(result.differences is None for result in made.results)
    assert "Difference" not in report_markdown(made)


def test_asking_a_report_for_an_unknown_scorer_names_the_known() -> None:
    with pytest.raises(KeyError, match=r"'bert4rec'.*'fixed', 'oracle'"):
        report().result("bert4rec", "kept")


@pytest.mark.parametrize(
    ("names", "reference", "message"),
    [
        ([], None, "no scorer given"),
        (["a", "b", "a"], None, "'a' is used more than once"),
        (["a"], "popularity", "reference 'popularity' is not one of"),
    ],
)
def test_names_are_checked(names: list[str], reference: str | None, message: str) -> None:
    scorers = [Fixed(name, np.zeros(N_ITEMS)) for name in names]
    with pytest.raises(ValueError, match=message):
        evaluate(SEQUENCES, scorers, n_items=N_ITEMS, split=Split.TEST, seed=0, reference=reference)


@pytest.mark.parametrize("exact_of", [{"a": "gone"}, {"gone": "a"}, {"a": "b", "b": "a"}])
def test_approximations_are_of_exact_scorers(exact_of: dict[str, str]) -> None:
    scorers = [Fixed(name, np.zeros(N_ITEMS)) for name in ("a", "b")]
    with pytest.raises(ValueError, match=r"both must be of \['a', 'b'\], the second one exact"):
        evaluate(SEQUENCES, scorers, n_items=N_ITEMS, split=Split.TEST, seed=0, exact_of=exact_of)


def test_an_empty_split_stops_with_the_reason() -> None:
    short = EventSequences.leave_one_out([[0, 1], [2]])
    with pytest.raises(RunError, match="needs at least 3"):
        evaluate(short, [FIXED], n_items=N_ITEMS, split=Split.TEST, seed=0)
