"""The frozen towers of a run, as a re-ranker sees them: histories, queries and item vectors.

Shapes: P positions in histories, V interactions, N items, D width of the towers.
"""

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from rf_platform.dataset import Dataset
from rf_training.loading.tables import EncodedSides, without_ids
from rf_training.loading.windows import ranges
from rf_training.model.inputs import FeatureTensors
from rf_training.model.retrievalformer import RetrievalFormer
from rf_training.model_scorer import HistoryTokens, ModelScorer, encode_context_rows
from rf_training.rerank.ranker import Histories

USERS_AT_ONCE = 64


@dataclass(frozen=True, kw_only=True)
class Noise:
    """Noise in the towers, under which they know positions they were trained on no better than new ones."""

    dropout: bool
    """Whether the user tower drops what it dropped in its own training."""
    unknown: float
    """Share of the interactions that lose their item id: features alone describe the item."""
    seed: int
    """Of what is dropped and lost."""


@dataclass(frozen=True)
class Positions:
    """Positions in histories: after the first ``length`` events of a user. Arrays are int64 [P]."""

    user: npt.NDArray[np.int64]
    """User row of the dataset."""
    length: npt.NDArray[np.int64]
    """Events before the place, which may be 0."""

    def __len__(self) -> int:
        return len(self.user)

    def take(self, rows: npt.NDArray[np.int64] | slice) -> "Positions":
        """Return the given places, in that order."""
        return Positions(self.user[rows], self.length[rows])


@dataclass(frozen=True)
class EncodedPositions:
    """Positions encoded by the towers: computed once, read by every re-ranker.

    Positions of one user share their interaction tokens, which makes a token of an event the same wherever it is read from.
    """

    tokens_VD: Tensor
    """Interaction tokens; those of a user one after the other."""
    start_P: Tensor
    """int64, the first of :attr:`tokens_VD` that a place reads."""
    length_P: Tensor
    """int64, how many it reads: at most the longest history of the towers."""
    user_PD: Tensor
    """Output of the user tower, not normalised."""
    query_PQ: Tensor
    """Query vectors, of the width of the searched vectors."""

    def __len__(self) -> int:
        return len(self.start_P)

    def take(self, rows: Tensor) -> "EncodedPositions":
        """Return some places; the tokens stay those of all."""
        return replace(
            self,
            start_P=self.start_P[rows],
            length_P=self.length_P[rows],
            user_PD=self.user_PD[rows],
            query_PQ=self.query_PQ[rows],
        )

    def histories(self, rows: Tensor) -> Histories:
        """Return the padded histories of some places."""
        length_B = self.length_P[rows]
        T = max(1, int(length_B.max()) if len(rows) else 0)
        column_T = torch.arange(T, device=length_B.device)
        real_BT = column_T < length_B[:, None]
        at_BT = torch.where(real_BT, self.start_P[rows][:, None] + column_T, 0)
        if len(self.tokens_VD) == 0:  # no place has any interaction
            return Histories(
                tokens_BTD=self.user_PD.new_zeros(len(rows), T, self.user_PD.shape[1]),
                length_B=length_B,
                user_BD=self.user_PD[rows],
            )
        tokens_BTD = self.tokens_VD[at_BT] * real_BT[:, :, None]
        return Histories(tokens_BTD=tokens_BTD, length_B=length_B, user_BD=self.user_PD[rows])


class Towers:
    """Encodes the catalog once and any places in histories, exactly as :class:`ModelScorer` does, or with noise.

    Args:
        model: of a completed run.
        dataset: the run's.
    """

    def __init__(self, model: RetrievalFormer, dataset: Dataset) -> None:
        self.model, self.dataset = model.eval(), dataset
        self.device = model.device
        """Device of all computation: that of the model."""
        sides = EncodedSides.of(dataset)
        self.scorer = ModelScorer(model, dataset, sides=sides)
        self.unit_ND = self.scorer.unit_vectors.contiguous()
        """The items' vectors of unit length, what a re-ranker's item side is made of."""
        self.vectors_NQ = self.scorer.vectors_ND
        """Vectors that are searched: unit vectors, with one more dimension where scores have a part of the item alone."""
        self._users = sides.users
        self._nameless: HistoryTokens | None = None
        if model.config.item_id:
            nameless = without_ids(sides, np.ones(sides.items.rows, np.bool_)).items
            self._nameless = HistoryTokens(model, nameless, dataset.evaluation_items)

    @property
    def n_items(self) -> int:
        """Size of the catalog."""
        return len(self.unit_ND)

    @torch.no_grad()
    def encode(self, places: Positions, noise: Noise | None = None) -> EncodedPositions:
        """Encode places, those of one user standing together and in the order of users.

        Args:
            places: where.
            noise: for places that the towers were trained on; None: as they are served.
        """
        model = self.model
        read = np.minimum(places.length, model.config.max_history)
        users, begin, count = np.unique(places.user, return_index=True, return_counts=True)
        assert (np.diff(places.user) >= 0).all(), "places must be in the order of users"
        tokens: list[Tensor] = []
        outputs: list[Tensor] = []
        starts: list[npt.NDArray[np.int64]] = []
        known = 0
        model.user_tower.train(noise is not None and noise.dropout)
        try:
            with torch.random.fork_rng(devices=[self.device] if self.device.type == "cuda" else []):
                torch.manual_seed(0 if noise is None else noise.seed)
                for chunk in range(0, len(users), USERS_AT_ONCE):
                    some = slice(chunk, chunk + USERS_AT_ONCE)
                    own = slice(begin[some][0], begin[some][-1] + count[some][-1])
                    first = np.minimum.reduceat(places.length[own] - read[own], begin[some] - begin[some][0])
                    last = np.maximum.reduceat(places.length[own], begin[some] - begin[some][0])
                    z_VD, seconds_V = self._tokens(users[some], first, last, noise)
                    base = np.cumsum(last - first) - (last - first)
                    start = np.repeat(base - first, count[some]) + places.length[own] - read[own]
                    outputs.append(self._outputs(z_VD, seconds_V, start, read[own], places.take(own)))
                    tokens.append(z_VD)
                    starts.append(start + known)
                    known += len(z_VD)
        finally:
            model.user_tower.eval()
        user_PD = torch.cat(outputs)
        return EncodedPositions(
            tokens_VD=torch.cat(tokens),
            start_P=torch.from_numpy(np.concatenate(starts)).to(self.device),
            length_P=torch.from_numpy(read).to(self.device),
            user_PD=user_PD,
            query_PQ=model.query_vectors(user_PD),
        )

    def _tokens(
        self,
        users: npt.NDArray[np.int64],
        first: npt.NDArray[np.int64],
        last: npt.NDArray[np.int64],
        noise: Noise | None,
    ) -> tuple[Tensor, Tensor | None]:
        """Return the tokens of the users' events ``first`` to ``last``, one user after the other, and the seconds before each."""
        sequences = self.dataset.sequences
        begin = np.asarray(sequences.offsets)[users]
        events, lengths = ranges(begin + first, begin + last), last - first
        oldest = np.zeros(len(events), bool)
        oldest[(np.cumsum(lengths) - lengths)[lengths > 0]] = True
        rows = encode_context_rows(self.dataset, events, oldest)
        context = FeatureTensors.from_encoded(rows).to(self.device)
        item_V = np.asarray(sequences.item[events], np.int64)
        h_VD = self.scorer.history_tokens(item_V)
        if noise is not None and noise.unknown and self._nameless is not None:
            lost_V = torch.rand(len(item_V), device=self.device) < noise.unknown
            h_VD = torch.where(lost_V[:, None], self._nameless(item_V), h_VD)
        return self.model.encode_interactions(h_VD, context), self.model.seconds(context)

    def _outputs(
        self,
        z_VD: Tensor,
        seconds_V: Tensor | None,
        start: npt.NDArray[np.int64],
        read: npt.NDArray[np.int64],
        places: Positions,
    ) -> Tensor:
        """Return the user tower's output at places with tokens in ``z_VD`` from ``start`` on."""
        sequences = self.dataset.sequences
        ends = np.asarray(sequences.offsets)
        # The profile known just before the event to predict; after a user's last event, the newest one.
        target = np.minimum(ends[places.user] + places.length, ends[places.user + 1] - 1)
        profiles = self._users.take(np.asarray(sequences.user_version[target]))
        p_PD = self.model.encode_profiles(FeatureTensors.from_encoded(profiles).to(self.device))
        order = np.argsort(read, kind="stable")  # histories of similar length together: little padding
        parts = []
        for rows in np.array_split(order, range(USERS_AT_ONCE, len(order), USERS_AT_ONCE)):
            own_V = torch.from_numpy(ranges(start[rows], start[rows] + read[rows])).to(self.device)
            length_B, place_B = (torch.from_numpy(each).to(self.device) for each in (read[rows], rows))
            u_BRD = self.model.encode_users(
                z_VD[own_V],
                length_B,
                p_PD[place_B][:, None],
                longest=int(read[rows].max(initial=0)),
                seconds_V=None if seconds_V is None else seconds_V[own_V],
            )
            parts.append(u_BRD[:, 0])
        found_PD = torch.cat(parts)
        return torch.empty_like(found_PD).index_copy_(0, torch.from_numpy(order).to(self.device), found_PD)
