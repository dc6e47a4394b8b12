"""What holds for every re-ranker, and what each of them is."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from typer.testing import CliRunner

from rf_platform.cli.app import app
from rf_platform.errors import ConfigError
from rf_training.experiments.grids import RERANKING
from rf_training.recipes import override
from rf_training.rerank import RERANKERS, Histories, Ranker, RerankConfig, make_ranker
from rf_training.rerank.kinds import served_kinds
from rf_training.rerank.ranker import DotProduct
from rf_training.rerank.recipe import RerankRecipe

DIM = 16
LEARNING: tuple[str, ...] = tuple(kind for kind in RERANKERS if kind != "dot")
LIME: tuple[str, ...] = ("lime-mha", "lime-xor")


def new(kind: str, **changes: Any) -> Ranker:
    torch.manual_seed(0)
    values: dict[str, Any] = {"links": 3, "width": 5, "hidden": 6, **changes}
    return make_ranker(RerankConfig(kind=kind, **values), DIM).eval()


def trained(kind: str, **changes: Any) -> Ranker:
    """A re-ranker whose parameters have all moved from where they start."""
    ranker = new(kind, **changes)
    with torch.no_grad():
        for parameter in ranker.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.3)
    return ranker


def histories(lengths: list[int], T: int) -> Histories:
    """Random histories, without padding that means anything."""
    tokens, users = torch.randn(len(lengths), T, DIM), torch.randn(len(lengths), DIM)
    return Histories(tokens_BTD=tokens, length_B=torch.tensor(lengths), user_BD=users)


def scores(ranker: Ranker, of: Histories, items: Tensor, dot: Tensor) -> Tensor:
    """Scores [B, K] of candidates ``items`` [K, D], the same for every user."""
    rows = ranker.item_state(items).expand(len(of.length_B), -1, -1)
    out: Tensor = ranker(ranker.user_state(of), rows, dot.expand(len(of.length_B), -1))
    return out


@pytest.mark.parametrize("kind", RERANKERS)
def test_it_starts_with_the_order_of_the_retriever(kind: str) -> None:
    dot = torch.randn(40)
    found = scores(new(kind), histories([7, 0], 7), torch.randn(40, DIM), dot)
    assert torch.equal(found.argsort(1), dot.argsort().expand(2, -1))
    torch.testing.assert_close(found / found[0, 0], (dot / dot[0]).expand(2, -1))


@pytest.mark.parametrize("kind", LEARNING)
def test_it_learns_what_the_dot_product_cannot_say(kind: str) -> None:
    """The right candidate is the one most like the latest interaction, and the retriever's scores are noise.

    It starts at the dot product, so this is also whether gradients get past the layer that starts at zero.
    """
    ranker = new(kind, links=8, width=16, hidden=16, dropout=0.0).train()
    before = {name: parameter.clone() for name, parameter in ranker.named_parameters()}
    torch.manual_seed(1)
    topics = torch.randn(8, DIM)
    optimizer = torch.optim.AdamW(ranker.parameters(), 1e-2)

    def right() -> tuple[Tensor, Tensor]:
        topic = torch.randint(8, (64, 5))
        of = Histories(tokens_BTD=topics[topic], length_B=torch.full((64,), 5), user_BD=torch.randn(64, DIM))
        return scores(ranker, of, topics, torch.randn(8) * 0.1), topic[:, -1]

    for _ in range(80):
        loss = F.cross_entropy(*right())
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    found, wanted = right()
    assert (found.argmax(1) == wanted).float().mean() > 0.8
    still = [name for name, parameter in ranker.named_parameters() if torch.equal(parameter, before[name])]
    assert still == []


@pytest.mark.parametrize("kind", LEARNING)
def test_without_the_weight_of_its_correction_it_is_the_retriever(kind: str) -> None:
    ranker, dot = trained(kind), torch.randn(40)
    of, items = histories([7], 7), torch.randn(40, DIM)
    whole = scores(ranker, of, items, dot)
    bare = dot * ranker.get_parameter("log_scale").exp()
    ranker.get_buffer("residual_weight").fill_(0.5)
    torch.testing.assert_close(scores(ranker, of, items, dot) - bare, (whole - bare) / 2, atol=1e-4, rtol=1e-4)
    ranker.get_buffer("residual_weight").zero_()
    assert torch.equal(scores(ranker, of, items, dot).argsort(1), dot.argsort()[None])


@pytest.mark.parametrize("kind", LEARNING)
def test_only_the_direction_of_items_and_users_counts(kind: str) -> None:
    """A bundle may compute the item side from the vectors that it has: unit vectors."""
    ranker, of, items, dot = trained(kind), histories([7], 7), torch.randn(9, DIM), torch.randn(9)
    torch.testing.assert_close(ranker.item_state(items * 3), ranker.item_state(F.normalize(items, dim=1)))
    longer = Histories(tokens_BTD=of.tokens_BTD, length_B=of.length_B, user_BD=of.user_BD * 5)
    torch.testing.assert_close(scores(ranker, longer, items, dot), scores(ranker, of, items, dot))


@pytest.mark.parametrize("kind", RERANKERS)
def test_what_is_kept_of_an_item_has_the_width_it_says(kind: str) -> None:
    ranker = new(kind, heads=4)
    assert ranker.item_state(torch.randn(5, DIM)).shape == (5, ranker.item_width)


@pytest.mark.parametrize("kind", LEARNING)
def test_a_candidate_is_scored_alike_in_any_company(kind: str) -> None:
    ranker, of, items, dot = trained(kind), histories([7, 3], 7), torch.randn(9, DIM), torch.randn(9)
    together = scores(ranker, of, items, dot)
    alone = torch.cat([scores(ranker, of, items[i : i + 1], dot[i : i + 1]) for i in range(9)], dim=1)
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-5)
    assert (together.std(1) > 0.1).all()


@pytest.mark.parametrize("kind", LEARNING)
def test_users_are_scored_alike_in_any_company_and_padding_changes_nothing(kind: str) -> None:
    ranker, items, dot = trained(kind), torch.randn(9, DIM), torch.randn(9)
    of = histories([7, 2, 0, 5], 7)
    together = scores(ranker, of, items, dot)
    for b, length in enumerate(of.length_B.tolist()):
        # Alone without padding, and with much of it, full of what is no number.
        for T in (length, 12):
            tokens = torch.full((1, T, DIM), torch.nan)
            tokens[0, :length] = of.tokens_BTD[b, :length]
            one = Histories(tokens_BTD=tokens, length_B=of.length_B[b : b + 1], user_BD=of.user_BD[b : b + 1])
            torch.testing.assert_close(scores(ranker, one, items, dot)[0], together[b], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("kind", LEARNING)
def test_padding_with_anything_leaves_gradients_finite(kind: str) -> None:
    ranker, of = trained(kind), histories([2, 0], 4)
    of.tokens_BTD[:, 2:] = torch.nan
    scores(ranker, of, torch.randn(3, DIM), torch.randn(3)).sum().backward()  # type: ignore[no-untyped-call]
    assert all(p.grad is None or p.grad.isfinite().all() for p in ranker.parameters())


@pytest.mark.parametrize("kind", LEARNING)
def test_an_empty_history_leaves_the_user(kind: str) -> None:
    ranker, items, dot = trained(kind), torch.randn(9, DIM), torch.randn(9)
    first, second = scores(ranker, histories([0, 0], 0), items, dot)
    assert first.isfinite().all()
    assert (first - second).abs().max() > 1e-2


@pytest.mark.parametrize("kind", LEARNING)
def test_the_order_of_the_history_counts(kind: str) -> None:
    """Interaction tokens carry no position: a reversed history has the same ones."""
    ranker, of, items, dot = trained(kind), histories([3], 3), torch.randn(9, DIM), torch.randn(9)
    back = Histories(tokens_BTD=of.tokens_BTD.flip(1), length_B=of.length_B, user_BD=of.user_BD)
    assert (scores(ranker, of, items, dot) - scores(ranker, back, items, dot)).abs().max() > 1e-2


@pytest.mark.parametrize("kind", LEARNING)
def test_only_the_truncated_one_forgets_what_lies_further_back(kind: str) -> None:
    ranker, of, items, dot = trained(kind), histories([8, 2], 8), torch.randn(9, DIM), torch.randn(9)
    tokens = of.tokens_BTD.clone().requires_grad_()
    tracked = Histories(tokens_BTD=tokens, length_B=of.length_B, user_BD=of.user_BD)
    (gradient,) = torch.autograd.grad(scores(ranker, tracked, items, dot).square().sum(), tokens)
    seen = 3 if kind == "truncated" else 8
    assert ((gradient.abs().sum(2) > 0).int() == torch.tensor([[0] * (8 - seen) + [1] * seen, [1, 1] + [0] * 6])).all()


@pytest.mark.parametrize("kind", LIME)
def test_dropout_acts_in_training_only(kind: str) -> None:
    ranker, of, items, dot = trained(kind, dropout=0.5), histories([3], 3), torch.randn(9, DIM), torch.randn(9)
    torch.testing.assert_close(scores(ranker, of, items, dot), scores(ranker, of, items, dot))
    ranker.train()
    assert (scores(ranker, of, items, dot) - scores(ranker, of, items, dot)).abs().max() > 1e-2


@pytest.mark.parametrize("kind", ["target-attention", "truncated"])
def test_the_full_ranker_knows_distances_between_interactions(kind: str) -> None:
    """With recency gone, order still counts through what is added for distances."""
    ranker = trained(kind)
    with torch.no_grad():
        ranker.get_parameter("history.recency_RD").zero_()
    of, items, dot = histories([3], 3), torch.randn(9, DIM), torch.randn(9)
    swapped = Histories(tokens_BTD=of.tokens_BTD[:, [1, 0, 2]], length_B=of.length_B, user_BD=of.user_BD)
    assert (scores(ranker, of, items, dot) - scores(ranker, swapped, items, dot)).abs().max() > 1e-3


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"weights": "relu"}, "rerank.weights='relu' must be 'softmax' or 'silu'"),
        ({"links": 0}, "rerank.links=0 must be at least 1"),
        ({"heads": 0}, "rerank.heads=0 must be at least 1"),
        ({"blocks": 0}, "rerank.blocks=0 must be at least 1"),
        ({"width": 0}, "rerank.width=0 must be at least 1"),
        ({"hidden": -1}, "rerank.hidden=-1 must be at least 1"),
        ({"dropout": 1.0}, "rerank.dropout=1.0 must be in"),
        ({"scale": 0.0}, "rerank.scale=0.0 must be a positive number"),
        ({"scale": float("nan")}, "rerank.scale=nan must be a positive number"),
    ],
)
def test_what_is_wrong_with_a_configuration_is_named(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        RerankConfig(**changes)


def test_a_kind_that_does_not_exist_is_refused_before_anything_is_trained() -> None:
    said = "rerank.kind='lime' must be one of 'lime-mha', 'lime-xor', 'target-attention', 'truncated', 'dot'"
    for make in (lambda: RerankRecipe(rerank=RerankConfig(kind="lime")), lambda: new("lime")):
        with pytest.raises(ConfigError, match=said):
            make()


def test_a_kind_is_known_everywhere_by_its_one_line_in_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    class Reverse(DotProduct):
        """Turns the order of the retriever round."""

        kind, served = "reverse", True

        def forward(self, user: None, item_BKW: Tensor, dot_BK: Tensor) -> Tensor:
            return -dot_BK

    monkeypatch.setitem(RERANKERS, "reverse", Reverse)
    recipe = override(RerankRecipe(), ["rerank.kind=reverse"])
    assert isinstance(make_ranker(recipe.rerank, DIM), Reverse)
    assert served_kinds() == ["lime-mha", "lime-xor", "reverse"]
    rf = CliRunner()
    shown = " ".join(rf.invoke(app, ["rerank", "train", "--help"], env={"COLUMNS": "300"}).stdout.split())
    assert "One of lime-mha, lime-xor, target-attention, truncated, dot, reverse." in shown
    assert "Those that can be served are lime-mha, lime-xor, reverse," in shown
    refused = rf.invoke(app, ["rerank", "train", "--kind", "lime"])
    assert "choose from lime-mha, lime-xor, target-attention, truncated, dot, reverse" in str(refused.exception)


def test_the_experiment_compares_all_kinds_that_learn() -> None:
    assert list(RERANKING["rankers"].variants) == [kind for kind in RERANKERS if kind != "dot"]


def test_heads_must_divide_the_width_of_the_towers() -> None:
    with pytest.raises(ConfigError, match=r"rerank.heads=3 must divide the width of the towers, model.dim=16"):
        new("lime-mha", heads=3)


@pytest.mark.parametrize("kind", RERANKERS)
@pytest.mark.parametrize(("users", "events", "items"), [(0, 0, 0), (0, 3, 4), (2, 0, 4), (2, 3, 0), (2, 0, 0)])
def test_no_users_no_histories_and_no_candidates(kind: str, users: int, events: int, items: int) -> None:
    found = scores(trained(kind), histories([events] * users, events), torch.randn(items, DIM), torch.randn(items))
    assert found.shape == (users, items)
    assert torch.isfinite(found).all()
