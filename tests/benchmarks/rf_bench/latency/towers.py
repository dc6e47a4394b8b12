"""A RetrievalFormer for the synthetic world, trained for a moment, and what it makes of items and users.

Shapes: N items, B users, T interactions, D width.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional as F

from rf_bench.latency.world import Histories, World, feature_encoder
from rf_platform.cli.console import track
from rf_platform.features.jagged import EncodedTable
from rf_training.loss import info_nce
from rf_training.model.config import ModelConfig
from rf_training.model.inputs import FeatureTensors
from rf_training.model.retrievalformer import RetrievalFormer
from rf_training.model.storage import load_model, save_model
from rf_training.model_scorer import encode_vectors
from rf_training.tensors import weights_file

HISTORY = 20
TRAINING_ITEMS = 131_072
TRAINING_USERS = 65_536
BATCH = 256
NEGATIVES = 1024
"""Uniform negatives of a batch, beside the other users' positives."""
LEARNING_RATE = 2e-3
TEMPERATURE = 0.07
QUERIES_AT_ONCE = 256


def trained_towers(world: World, dim: int, steps: int, directory: Path) -> RetrievalFormer:
    """Train both towers on users of ``world``, or read them from ``directory`` if they were trained before.

    The item's id is no feature, so that one item tower encodes catalogs of any size.
    """
    encoder = feature_encoder()
    if weights_file(directory).is_file():
        return load_model(directory, encoder)
    torch.manual_seed(world.seed)
    model = RetrievalFormer(ModelConfig(dim=dim, item_id=False, max_history=HISTORY, dropout=0.1), encoder)
    catalog = world.items(0, TRAINING_ITEMS)
    histories = world.histories(catalog, min(TRAINING_USERS, steps * BATCH), HISTORY, seed=0)
    optimizer = torch.optim.AdamW(model.parameters(), LEARNING_RATE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=steps)
    draw = np.random.default_rng([world.seed, 3])
    with track("training the towers", steps) as progress:
        for _ in range(steps):
            loss = _loss(model, catalog, histories, draw.integers(0, len(histories.next_U), BATCH), draw)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
            progress.advance(note=f"loss {loss.item():.3f}")
    save_model(directory, model)
    return model.eval()


def item_vectors(model: RetrievalFormer, world: World, items: int, chunk: int) -> Iterator[npt.NDArray[np.float32]]:
    """Yield the vectors of the first ``items`` rows [up to ``chunk``, D], in order."""
    for start in range(0, items, chunk):
        table = world.items(start, min(start + chunk, items))
        yield encode_vectors(model, table, torch.zeros(table.rows, dtype=torch.bool)).numpy()


@torch.inference_mode()
def query_vectors(model: RetrievalFormer, world: World, items: int, users: int) -> npt.NDArray[np.float32]:
    """Return the query vectors [B, D] of users that training did not see, with histories from the catalog's first rows."""
    catalog = world.items(0, min(items, TRAINING_ITEMS))
    histories = world.histories(catalog, users, HISTORY, seed=1)
    found = []
    for start in range(0, users, QUERIES_AT_ONCE):
        rows_BT = histories.rows_UT[start : start + QUERIES_AT_ONCE]
        h_VD = model.encode_items(FeatureTensors.from_encoded(catalog.take(rows_BT.reshape(-1))))
        found.append(model.query_vectors(_users(model, h_VD, rows_BT)).numpy())
    return np.concatenate(found)


def _loss(
    model: RetrievalFormer, catalog: EncodedTable, histories: Histories, users: np.ndarray, draw: np.random.Generator
) -> torch.Tensor:
    rows_BT, next_B = histories.rows_UT[users], histories.next_U[users]
    candidates, target_B = np.unique(
        np.concatenate([next_B, draw.integers(0, catalog.rows, NEGATIVES)]), return_inverse=True
    )
    known, place = np.unique(np.concatenate([rows_BT.reshape(-1), candidates]), return_inverse=True)
    h_ND = model.encode_items(FeatureTensors.from_encoded(catalog.take(known)))
    cut = rows_BT.size
    x_BD = F.normalize(_users(model, h_ND[torch.from_numpy(place[:cut])], rows_BT), dim=-1)
    y_CD = F.normalize(h_ND[torch.from_numpy(place[cut:])], dim=-1)
    target_Q = torch.from_numpy(target_B[: len(users)])
    hit_QC = F.one_hot(target_Q, len(candidates)).bool()
    return info_nce(x_BD, y_CD, None, target_Q, hit_QC, torch.zeros(len(candidates)), TEMPERATURE)


def _users(model: RetrievalFormer, h_VD: torch.Tensor, rows_BT: np.ndarray) -> torch.Tensor:
    """Return the user tower's output [B, D] for items in histories, encoded in the order of ``rows_BT``."""
    users, length = rows_BT.shape
    empty = FeatureTensors(len(h_VD), {}, {}, {})
    z_VD = model.encode_interactions(h_VD, empty)
    profile_B1D = model.encode_profiles(FeatureTensors(users, {}, {}, {}))[:, None]
    return model.encode_users(z_VD, torch.full((users,), length), profile_B1D)[:, 0]
