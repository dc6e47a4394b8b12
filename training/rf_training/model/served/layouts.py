"""Layouts of the user tower as they are served: where everything stands, and what the first block gets.

Shapes: B requests, V interactions of all requests, S places of a request (its interactions and what stands beside them, padded on
the right), T positions, C constants, D width.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import lru_cache
from typing import ClassVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from rf_training.model.config import Layout
from rf_training.model.served.onnx_graph import Inputs
from rf_training.model.served.tower_graph import TowerGraph, blocks_of, centred
from rf_training.model.user_tower import UserTower

_KEPT_PLACES, _KEPT_REQUESTS = 256, 8
Places = npt.NDArray[np.int64]


class ServedLayout(ABC):
    """One layout of :class:`UserTower`, for the one position that has seen everything.

    Interactions, profiles and constants, with a row of zeros behind them, are one table, and places are rows of it.
    """

    before: ClassVar[int]
    """Places in front of the interactions."""
    behind: ClassVar[int] = 0
    """Places behind them, the last of which is read."""

    @staticmethod
    @abstractmethod
    def others(column_S: Places, length_B1: Places, start: int) -> Places:
        """Return the rows of everything but interactions [B, S], which are the first ``start`` rows of the table."""

    @staticmethod
    @abstractmethod
    def enter(graph: TowerGraph, tower: UserTower, z_VD: str, p_BD: str) -> tuple[str, str]:
        """Return what the first block gets [B, S, D], and it normalised, from interactions and profiles."""

    @staticmethod
    def inputs(place_BS: Places) -> Inputs:
        """Return what the layout needs beside the places."""
        return {}


class PrefixLayout(ServedLayout):
    """[profile, z_1..z_T]."""

    before = 1

    @staticmethod
    def others(column_S: Places, length_B1: Places, start: int) -> Places:
        """Return the profile's row in front, the row of zeros elsewhere."""
        B = len(length_B1)
        return np.where(column_S == 0, start + np.arange(B)[:, None], start + B)

    @staticmethod
    def enter(graph: TowerGraph, tower: UserTower, z_VD: str, p_BD: str) -> tuple[str, str]:
        """Return interactions and profiles in their places, and their positions added."""
        return _enter_placed(graph, tower, z_VD, p_BD, [])


class ClsLayout(ServedLayout):
    """[z_1..z_T, SEP, profile, CLS]."""

    before, behind = 0, 3

    @staticmethod
    def others(column_S: Places, length_B1: Places, start: int) -> Places:
        """Return the rows of SEP, profile and CLS behind the interactions, the row of zeros elsewhere."""
        B = len(length_B1)
        profile_B1 = start + np.arange(B)[:, None]
        at = [column_S == length_B1 + n for n in range(3)]
        return np.select(at, [start + B, profile_B1, start + B + 1], start + B + 2)

    @staticmethod
    def enter(graph: TowerGraph, tower: UserTower, z_VD: str, p_BD: str) -> tuple[str, str]:
        """Return interactions, profiles and constants in their places, and positions added."""
        return _enter_placed(graph, tower, z_VD, p_BD, [tower.sep_D, tower.cls_D])


class SideLayout(ServedLayout):
    """[CLS, z_1..z_T] with the profile concatenated to every token and projected."""

    before = 1

    @staticmethod
    def others(column_S: Places, length_B1: Places, start: int) -> Places:
        """Return the row of CLS in front, the row of zeros elsewhere."""
        return np.where(column_S == 0, start, np.full((len(length_B1), 1), start + 1))

    @staticmethod
    def inputs(place_BS: Places) -> Inputs:
        """Return the request of each place."""
        return {"request_BS": np.broadcast_to(np.arange(len(place_BS))[:, None], place_BS.shape).copy()}

    @staticmethod
    def enter(graph: TowerGraph, tower: UserTower, z_VD: str, p_BD: str) -> tuple[str, str]:
        """Return the sum of both halves of the projection."""
        norm, first = tower.input_norm, blocks_of(tower)[0].attention_norm
        normed_VD = graph.normed(z_VD, norm.weight, norm.bias, norm.eps)
        placed = _placed(graph, [normed_VD], [tower.cls_D], tower.position_TD)
        x_BSD = graph.product(graph("Add", *placed), centred(tower.side_token.weight))
        beside_BD = graph.product(p_BD, centred(tower.side_profile.weight))
        beside_BSD = graph("Gather", beside_BD, graph.indices("request_BS", "B", "S"))
        return graph.sum(x_BSD, beside_BSD, first, centred(tower.side_token.bias))


LAYOUTS: dict[Layout, type[ServedLayout]] = {"prefix": PrefixLayout, "cls": ClsLayout, "side": SideLayout}
"""Served form of every layout."""


def places(lengths: Sequence[int], layout: Layout, timed: bool = False) -> Inputs:
    """Return the inputs that say where everything stands, and perhaps when, for requests of so many interactions each."""
    lengths = tuple(lengths)
    # Of a few requests they are kept, which is most of what their inputs take to make: many histories are as long.
    return (_kept_places if len(lengths) <= _KEPT_REQUESTS else _places)(lengths, layout, timed)


@lru_cache(_KEPT_PLACES)
def _kept_places(lengths: tuple[int, ...], layout: Layout, timed: bool) -> Inputs:
    return _places(lengths, layout, timed)


def _places(lengths: tuple[int, ...], layout: Layout, timed: bool) -> Inputs:
    form = LAYOUTS[layout]
    length_B1 = np.array(lengths, np.int64)[:, None]
    column_S = np.arange(form.before + max(lengths) + form.behind)
    interaction_S = column_S - form.before
    is_interaction_BS = (interaction_S >= 0) & (interaction_S < length_B1)
    first_B1 = np.cumsum(length_B1)[:, None] - length_B1
    others_BS = form.others(column_S, length_B1, sum(lengths))
    place_BS = np.where(is_interaction_BS, first_B1 + interaction_S, others_BS)
    last_B1 = form.before + length_B1 + form.behind - 1
    return {
        "place_BS": place_BS,
        # -1 is where the positions end: none.
        "from_end_BS": np.where(is_interaction_BS, length_B1 - 1 - interaction_S, -1),
        "last_B11": last_B1[:, None],
        "seen_B11S": np.where(column_S <= last_B1, 0, -np.inf).astype(np.float32)[:, None, None],
        **form.inputs(place_BS),
        **({"moment_BS": _moments(interaction_S, length_B1, first_B1)} if timed else {}),
    }


def _moments(interaction_S: Places, length_B1: Places, first_B1: Places) -> Places:
    """Return the interaction with the time of each place [B, S]; where a place is none, the first or the last of the request.

    Of a request without interactions it is the number of all interactions.
    """
    moment_BS: Places = np.where(
        length_B1 > 0, first_B1 + np.clip(interaction_S, 0, np.maximum(length_B1 - 1, 0)), length_B1.sum()
    )
    return moment_BS


def _enter_placed(
    graph: TowerGraph, tower: UserTower, z_VD: str, p_BD: str, constants: list[Tensor]
) -> tuple[str, str]:
    norm, position_TD = tower.input_norm, tower.position_TD
    normed_VD = graph.normed(z_VD, norm.weight, centred(norm.bias), norm.eps)
    x_BSD, position_BSD = _placed(
        graph,
        [normed_VD, graph.centred(p_BD)],
        [centred(each) for each in constants],
        position_TD - position_TD.mean(1, keepdim=True),
    )
    return graph.sum(x_BSD, position_BSD, blocks_of(tower)[0].attention_norm)


def _placed(graph: TowerGraph, rows: list[str], constants: list[Tensor], position_TD: Tensor) -> tuple[str, str]:
    """Return everything in its place [B, S, D], and the positions to be added, which only interactions have."""
    nothing_1D = torch.zeros(1, position_TD.shape[1])
    constant_CD = graph.weight(torch.cat([*(each[None] for each in constants), nothing_1D]))
    x_BSD = graph("Gather", graph("Concat", *rows, constant_CD, axis=0), graph.indices("place_BS", "B", "S"))
    positions = graph.weight(torch.cat([position_TD, nothing_1D]))
    return x_BSD, graph("Gather", positions, graph.indices("from_end_BS", "B", "S"))
