"""IPS, SNIPS and doubly robust beside those of Open Bandit Pipeline (`pip install obp`), on one simulated log."""

import numpy as np
import pytest

from rf_platform.effects import NOT_SHOWN, DrawnItems, estimate

ope = pytest.importorskip("obp.ope", reason="needs pip install obp")
ROUNDS, ACTIONS = 4000, 12


def test_one_log_has_one_value() -> None:
    """Lists of one item: each estimate is the library's, to rounding."""
    random = np.random.default_rng(7)
    kind = random.integers(3, size=ROUNDS)
    liking = random.uniform(0.02, 0.6, size=(3, ACTIONS))
    # A logging policy with unequal propensities, and a target that shows the best action of each kind.
    logging = random.dirichlet(np.full(ACTIONS, 2.0), size=3) * 0.7 + 0.3 / ACTIONS
    action = np.array([random.choice(ACTIONS, p=logging[each]) for each in kind])
    pscore = logging[kind, action]
    reward = (random.random(ROUNDS) < liking[kind, action]).astype(float)
    target = liking.argmax(axis=1)[kind]
    rates = liking * random.uniform(0.7, 1.3, size=liking.shape)  # a model of the reward that is wrong by a third

    ours = estimate(
        DrawnItems(
            user_A=np.arange(ROUNDS),
            size_A=np.ones(ROUNDS, np.int64),
            answer_D=np.arange(ROUNDS),
            place_D=np.zeros(ROUNDS, np.int64),
            target_D=np.where(action == target, 0, NOT_SHOWN),
            propensity_D=pscore,
            reward_D=reward,
            predicted_D=rates[kind, action],
            predicted_A=rates[kind, target],
        )
    )
    shown = np.zeros((ROUNDS, ACTIONS, 1))
    shown[np.arange(ROUNDS), target, 0] = 1
    given = {"reward": reward, "action": action, "pscore": pscore, "action_dist": shown}
    position = np.zeros(ROUNDS, int)
    ips = ope.InverseProbabilityWeighting().estimate_policy_value(**given, position=position)
    snips = ope.SelfNormalizedInverseProbabilityWeighting().estimate_policy_value(**given, position=position)
    dr = ope.DoublyRobust().estimate_policy_value(
        **given, position=position, estimated_rewards_by_reg_model=rates[kind][:, :, None]
    )
    assert ours.ips.value == pytest.approx(ips, rel=1e-9)
    assert ours.snips.value == pytest.approx(snips, rel=1e-9)
    assert ours.dr.value == pytest.approx(dr, rel=1e-9)
    truth = liking.max(axis=1)[kind].mean()
    assert ours.dr.low < truth < ours.dr.high
