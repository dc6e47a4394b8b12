"""The three places of the profile (R7, R8)."""

import pytest
import torch
from torch import Tensor

from rf_training.model.blocks import TOWERS, Sight
from rf_training.model.config import Layout, ModelConfig
from rf_training.model.user_tower import UserTower

FORMS = [(kind, layout) for kind, tower in TOWERS.items() for layout in tower.layouts]
IN_PLACE = [(kind, layout) for kind, layout in FORMS if layout != "cls"]


def new(layout: Layout, kind: str = "transformer", layers: int = 2) -> UserTower:
    torch.manual_seed(0)
    return UserTower(ModelConfig(dim=16, max_history=8, dropout=0.0, tower=kind, layout=layout, layers=layers)).eval()


def trained(layout: Layout, kind: str = "transformer", layers: int = 2) -> UserTower:
    """A tower whose parameters have all moved from where they start."""
    tower = new(layout, kind, layers)
    with torch.no_grad():
        for parameter in tower.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    return tower


def read(tower: UserTower, z: Tensor, profile: Tensor, positions: list[int]) -> Tensor:
    """Query vectors of one user with a history ``z`` [T, D], padded to eight interactions, [R, D]."""
    padded = torch.nn.functional.pad(z, (0, 0, 0, 8 - len(z)))
    reads = torch.tensor([positions])
    out: Tensor = tower(padded[None], torch.tensor([len(z)]), profile.expand(1, len(positions), -1), reads)[0]
    return out


@pytest.mark.parametrize(("kind", "layout"), FORMS)
def test_an_empty_history_leaves_nothing_but_the_profile(kind: str, layout: Layout) -> None:
    tower, one, other = trained(layout, kind), torch.randn(16), torch.randn(16)
    empty = read(tower, torch.zeros(0, 16), one, [-1])
    assert empty.isfinite().all()
    assert not torch.allclose(empty, read(tower, torch.zeros(0, 16), other, [-1]), atol=1e-2)
    before_anything = read(tower, torch.randn(5, 16), one, [-1, 4])
    torch.testing.assert_close(before_anything[:1], empty, atol=1e-5, rtol=1e-5)
    assert not torch.allclose(before_anything[1:], empty, atol=1e-2)


@pytest.mark.parametrize(("kind", "layout"), FORMS)
def test_the_vector_cannot_see_the_future_at_any_position(kind: str, layout: Layout) -> None:
    """No gradient flows back from the future, but for the rounding of a Fourier transform."""
    tower, profile, positions = trained(layout, kind), torch.randn(16), [-1, 0, 1, 2, 3, 4]
    z = torch.randn(5, 16, requires_grad=True)
    for place, position in enumerate(positions):
        (gradient,) = torch.autograd.grad(read(tower, z, profile, positions)[place].square().sum(), z)
        strength = gradient.abs().sum(1)
        seen = strength > 1e-5 * max(1.0, float(strength.max()))
        assert seen.tolist() == [t <= position for t in range(5)]


@pytest.mark.parametrize("layers", [1, 2, 3])
@pytest.mark.parametrize(("kind", "layout"), FORMS)
def test_every_position_knows_its_own_profile_and_none_later(kind: str, layout: Layout, layers: int) -> None:
    """Of the profile as it was at each position read; where tokens share one, that is the oldest."""
    tower, positions = trained(layout, kind, layers), [-1, 0, 1, 2, 3]
    profile = torch.randn(1, 5, 16, requires_grad=True)
    query = tower(torch.randn(1, 4, 16), torch.tensor([4]), profile, torch.tensor([positions]))[0]
    for place in range(5):
        (gradient,) = torch.autograd.grad(query[place].square().sum(), profile, retain_graph=True)
        known = {place} if layout == "cls" else {0, place}
        assert (gradient[0].abs().sum(1) > 1e-6).tolist() == [n in known for n in range(5)]


@pytest.mark.parametrize(("kind", "layout"), IN_PLACE)
def test_the_length_of_a_positions_own_profile_does_not_matter(kind: str, layout: Layout) -> None:
    """Means of embeddings are short at first: what they tell must count beside tokens all the same."""
    tower, z, positions = trained(layout, kind), torch.randn(1, 4, 16), torch.tensor([[-1, 0, 3]])
    profiles = torch.randn(1, 3, 16)
    longer = torch.cat([profiles[:, :1], 10 * profiles[:, 1:]], dim=1)
    found, expected = (tower(z, torch.tensor([4]), each, positions) for each in (longer, profiles))
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(("kind", "layout"), IN_PLACE)
def test_the_profile_of_a_position_starts_silent_and_is_learned_at_once(kind: str, layout: Layout) -> None:
    tower, z, positions = new(layout, kind), torch.randn(1, 4, 16), torch.tensor([[-1, 0, 3]])
    oldest, later = torch.randn(1, 1, 16), torch.randn(1, 3, 16)
    steady = tower(z, torch.tensor([4]), oldest.expand(-1, 3, -1), positions)
    changing = tower(z, torch.tensor([4]), torch.cat([oldest, later[:, 1:]], dim=1), positions)
    assert torch.equal(steady, changing)
    changing.square().sum().backward()
    assert tower.read_profile is not None
    assert tower.read_profile.weight.grad is not None
    assert tower.read_profile.weight.grad.abs().min() > 0


def test_the_query_is_read_at_cls_behind_separator_and_profile() -> None:
    """Each position against a plain causal transformer over [z_1..z_t, SEP, profile, CLS] (Eq. 8)."""
    tower, positions = trained("cls"), [-1, 0, 2, 4]
    z, profiles = torch.randn(1, 5, 16), torch.randn(1, 4, 16)
    found = tower(z, torch.tensor([5]), profiles, torch.tensor([positions]))[0]
    placed = tower.input_norm(z[0]) + tower.position_TD[[4, 3, 2, 1, 0]]
    for query, position, profile in zip(found, positions, profiles[0], strict=True):
        x = torch.cat([placed[: position + 1], torch.stack([tower.sep_D, profile, tower.cls_D])])[None]
        for block in tower.blocks:
            x = block(x, Sight.causal(x.shape[1]))
        torch.testing.assert_close(query, tower.project(tower.norm(x[0, -1])), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("kind", "layout"), FORMS)
def test_the_profile_reaches_every_position(kind: str, layout: Layout) -> None:
    tower, z = trained(layout, kind), torch.randn(4, 16)
    one, other = (read(tower, z, torch.randn(16), [-1, 0, 1, 2, 3]) for _ in range(2))
    assert ((one - other).abs().amax(1) > 1e-2).all()


def test_a_profile_at_the_side_starts_silent() -> None:
    tower, z = new("side"), torch.randn(4, 16)
    one, other = (read(tower, z, torch.randn(16), [-1, 0, 3]) for _ in range(2))
    assert torch.equal(one, other)
    tower.side_token.weight.data.zero_()
    assert not torch.allclose(one, read(tower, z, torch.randn(16), [-1, 0, 3]))


def test_a_profile_at_the_side_is_concatenated_to_every_token_and_projected() -> None:
    """Against one projection of the concatenation, in front of a tower without any profile."""
    side, plain = trained("side"), new("prefix")
    assert side.read_profile is not None
    side.read_profile.weight.data.zero_()
    shared = {name: p for name, p in side.state_dict().items() if not name.startswith("side_")}
    plain.load_state_dict(shared | {"position_TD": torch.zeros(8, 16)})
    plain.input_norm = torch.nn.Identity()  # type: ignore[assignment]
    z, profile = torch.randn(4, 16), torch.randn(16)
    tokens = torch.cat([side.cls_D[None], side.input_norm(z) + side.position_TD[[3, 2, 1, 0]]])
    both = torch.cat([tokens, profile.expand(5, -1)], dim=1)
    matrix = torch.cat([side.side_token.weight, side.side_profile.weight], dim=1)
    projected = both @ matrix.T + side.side_token.bias
    expected = read(plain, projected[1:], projected[0], [-1, 0, 1, 2, 3])
    torch.testing.assert_close(read(side, z, profile, [-1, 0, 1, 2, 3]), expected, atol=1e-5, rtol=1e-5)
