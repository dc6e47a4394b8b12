"""The rule of evidence: content alone without events, users' word with many, and one user's worth at most from one user."""

from pathlib import Path

import numpy as np
import pytest

from rf_platform.errors import CorruptError
from rf_training.fold_in.fitting import best_prior
from rf_training.fold_in.rule import PRIOR, PRIOR_BEFORE, RATE_PRIOR, Evidence, FoldIn, popularity_bias, unit

WIDTH, ITEMS, USERS = 16, 60, 500
RNG = np.random.default_rng(0)
TRAINED_ND = unit(RNG.normal(size=(ITEMS, WIDTH)).astype(np.float32))
QUERY_QD = unit(
    TRAINED_ND[RNG.integers(0, ITEMS, USERS)] + RNG.normal(scale=0.3, size=(USERS, WIDTH)).astype(np.float32)
)
RULE = FoldIn.of(QUERY_QD, TRAINED_ND, 0.1)


def objective(rule: FoldIn, v_D: np.ndarray, built_D: np.ndarray, weight: float, sum_D: np.ndarray, n: int) -> float:
    """What the module's page says is maximised, in double precision."""
    t, v_D = rule.temperature, v_D.astype(np.float64)
    likely_Q = np.exp(rule.query_QD @ v_D / t - rule.log_z_Q)
    return float(sum_D @ v_D / t - n * np.log(likely_Q.mean()) - weight * (1 - v_D @ built_D) / t)


def evidence_of(target_D: np.ndarray, users: int) -> Evidence:
    """Users that look like those of one trained item."""
    likes = np.argsort(-(QUERY_QD @ target_D))[:users]
    return Evidence.gather(np.zeros(users, np.int64), likes, QUERY_QD[likes], 1)


def test_without_events_an_item_is_its_content_to_the_last_bit() -> None:
    built_ND = unit(RNG.normal(size=(5, WIDTH)).astype(np.float32))
    none = Evidence(np.zeros((5, WIDTH), np.float32), np.zeros(5, np.int64))
    moved_ND = RULE.moved(built_ND, np.zeros(5, np.int64), none)
    assert moved_ND is not built_ND
    assert np.array_equal(moved_ND, built_ND)


def test_more_users_of_one_kind_bring_an_item_closer_to_them() -> None:
    target_D = TRAINED_ND[7]
    built_ND = unit((TRAINED_ND[7] + 2 * TRAINED_ND[30])[None])
    cosines = [float(built_ND[0] @ target_D)]
    for users in (1, 2, 5, 10):
        moved_ND = RULE.moved(built_ND, np.zeros(1, np.int64), evidence_of(target_D, users))
        np.testing.assert_allclose(np.linalg.norm(moved_ND, axis=1), 1, atol=1e-5)
        cosines.append(float(moved_ND[0] @ target_D))
    assert cosines == sorted(cosines)
    assert cosines[-1] > 0.7 > 0.5 > cosines[0]


@pytest.mark.parametrize("users", [1, 5, 20, 50])
@pytest.mark.parametrize("trained", [0, 3, 5000])
def test_what_comes_out_is_better_by_the_objective_than_where_it_was_and_all_around(users: int, trained: int) -> None:
    built_ND, evidence = unit((TRAINED_ND[7] + 2 * TRAINED_ND[30])[None]), evidence_of(TRAINED_ND[7], users)
    found_D = RULE.moved(built_ND, np.array([trained]), evidence)[0]

    def value(v_D: np.ndarray) -> float:
        return objective(RULE, v_D, built_ND[0], PRIOR + trained, evidence.sum_ND[0], users)

    assert value(found_D) >= value(built_ND[0])
    rng = np.random.default_rng(1)
    for _ in range(20):  # nowhere near is much better: the steps have come to their end
        other_D = unit((found_D + rng.normal(scale=0.05, size=WIDTH).astype(np.float32))[None])[0]
        assert value(other_D) <= value(found_D) + 0.02 * abs(value(found_D) - value(built_ND[0])) + 1e-3


def test_a_warm_item_stays_and_the_rule_has_no_jump_between_cold_and_warm() -> None:
    built_ND, evidence = unit((TRAINED_ND[7] + 2 * TRAINED_ND[30])[None]), evidence_of(TRAINED_ND[7], 10)
    trained = [0, 1, 2, 5, 10, 50, 200, 5000]
    kept = [float(RULE.moved(built_ND, np.array([n]), evidence)[0] @ built_ND[0]) for n in trained]
    assert kept == sorted(kept)
    assert kept[-1] > 0.9999
    assert abs(kept[1] - kept[0]) < (1 - kept[0]) / PRIOR


def test_one_user_moves_an_item_by_one_event_whatever_they_send() -> None:
    """A thousand events of one user, of any length and direction, some not finite: they count as the first usable one."""
    rng = np.random.default_rng(2)
    honest = np.arange(20)
    attack_ED = 1e6 * rng.normal(size=(1000, WIDTH)).astype(np.float32)
    attack_ED[0], attack_ED[1], attack_ED[2] = np.nan, np.inf, 0
    attack_ED[3] = -1e6 * QUERY_QD[honest].sum(axis=0)  # the worst they can say
    users = np.concatenate([honest, np.full(1000, 99)])
    query_ED = np.concatenate([QUERY_QD[honest], attack_ED])
    with_attack = Evidence.gather(np.zeros(len(users), np.int64), users, query_ED, 1)
    without = Evidence.gather(np.zeros(20, np.int64), honest, QUERY_QD[honest], 1)
    assert with_attack.count_N.tolist() == [21]
    assert np.linalg.norm(with_attack.sum_ND - without.sum_ND) <= 1 + 1e-5

    one = Evidence.gather(np.zeros(21, np.int64), np.append(honest, 99), np.vstack([QUERY_QD[honest], attack_ED[3]]), 1)
    built_ND, trained = TRAINED_ND[:1].copy(), np.zeros(1, np.int64)
    moved_D, as_one_D, honest_D = (RULE.moved(built_ND, trained, each)[0] for each in (with_attack, one, without))
    assert np.array_equal(moved_D, as_one_D)
    assert moved_D @ honest_D > 0.8


def test_events_count_in_order_and_per_item() -> None:
    row, user = np.array([0, 0, 1, 0, 1]), np.array([5, 6, 5, 5, 5])
    query_ED = np.eye(5, WIDTH, dtype=np.float32) * 3
    found = Evidence.gather(row, user, query_ED, 3)
    assert found.count_N.tolist() == [2, 1, 0]
    np.testing.assert_allclose(found.sum_ND[:, :5], [[1, 1, 0, 0, 0], [0, 0, 1, 0, 0], [0] * 5])


@pytest.mark.parametrize(("told_by_content", "trusts"), [(100.0, "content"), (0.0, "users")])
def test_validation_says_what_content_is_worth(told_by_content: float, trusts: str) -> None:
    """Forty new items of six users each: content that tells what users say weighs more than 2 users, noise no more."""
    rng = np.random.default_rng(4)
    target = np.repeat(np.arange(40), 6)
    true_ND = TRAINED_ND[:40]
    noise_ND = rng.normal(size=true_ND.shape).astype(np.float32) / np.sqrt(WIDTH)
    built_ND = unit(told_by_content * true_ND + noise_ND)
    query_TD = unit(true_ND[target] + rng.normal(scale=0.3, size=(len(target), WIDTH)).astype(np.float32))
    found = best_prior(RULE, built_ND, target, query_TD)
    assert found > PRIOR if trusts == "content" else found == PRIOR


def test_a_rule_of_before_has_the_weight_of_before(tmp_path: Path) -> None:
    RULE.with_prior(2).save(tmp_path / "rule.npz")
    assert FoldIn.load(tmp_path / "rule.npz").prior == 2
    with np.load(tmp_path / "rule.npz") as found:
        np.savez(tmp_path / "old.npz", **{name: found[name] for name in found.files if name != "prior"})
    assert FoldIn.load(tmp_path / "old.npz").prior == PRIOR_BEFORE


def test_items_do_not_depend_on_each_other() -> None:
    built_ND, trained = TRAINED_ND[:30].copy(), np.arange(30)
    rng = np.random.default_rng(3)
    row, user = rng.integers(0, 30, 200), np.arange(200)
    evidence = Evidence.gather(row, user, QUERY_QD[user], 30)
    whole_ND = RULE.moved(built_ND, trained, evidence)
    for item in (0, 11, 29):
        part = Evidence(evidence.sum_ND[[item]], evidence.count_N[[item]])
        np.testing.assert_allclose(RULE.moved(built_ND[[item]], trained[[item]], part)[0], whole_ND[item], atol=1e-5)


def test_the_bias_is_nothing_at_first_and_for_the_average() -> None:
    count, expected = np.array([0, 10, 40, 0]), np.array([0.0, 10.0, 10.0, 10.0])
    bias_N = popularity_bias(count, expected, 0.1)
    assert bias_N[:2].tolist() == [0, 0]
    np.testing.assert_allclose(bias_N[2], 0.1 * np.log((40 + RATE_PRIOR) / (10 + RATE_PRIOR)), rtol=1e-5)
    assert bias_N[3] < 0


def test_a_rule_is_kept_in_a_file(tmp_path: Path) -> None:
    RULE.save(tmp_path / "rule.npz")
    found = FoldIn.load(tmp_path / "rule.npz")
    built_ND, evidence = TRAINED_ND[:1].copy(), evidence_of(TRAINED_ND[7], 5)
    trained = np.zeros(1, np.int64)
    assert np.allclose(found.moved(built_ND, trained, evidence), RULE.moved(built_ND, trained, evidence), atol=1e-6)
    (tmp_path / "rule.npz").write_bytes(b"torn")
    with pytest.raises(CorruptError):
        FoldIn.load(tmp_path / "rule.npz")
