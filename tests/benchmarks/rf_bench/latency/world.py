"""A synthetic catalog of any size, and users with a taste, for a real item tower and a real user tower to encode.

Attributes are skewed as in shops: topics, and brands and tags within a topic, follow Zipf's law. The text vector is what makes
items of one topic and brand differ: it lies around the centre of its topic, as embeddings of titles do.

Every row is a function of the seed and its number alone: the first rows of a large catalog are the small catalog, and no
attributes need to be kept.

Shapes: N items, U users, T interactions, W width of the text vector.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from rf_platform.features.encode import FeatureEncoder, NumericStats
from rf_platform.features.jagged import EncodedTable, Jagged
from rf_platform.features.spec import DomainSpec, EntitySpec, FeatureSpec, FieldSpec
from rf_platform.features.vocabulary import FIRST_ID, Vocabulary

TOPICS = 4000
BRANDS = 20_000
TAGS = 5000
BRANDS_OF_TOPIC = 40
TAGS_OF_TOPIC = 12
TAGS_OF_ITEM = 3
TEXT_WIDTH = 32
TOPIC_SKEW = 0.8
"""Exponent of Zipf's law over topics: the largest holds about 4% of the catalog."""
BRAND_SKEW = 1.0
TEXT_NOISE = 0.9
"""Length of what is an item's own in its text vector, beside the unit vector of its topic and half of one of its brand."""
CHUNK = 65_536
"""Rows that are drawn together."""
INTERESTS = 3
"""Topics that a user's history comes from."""
CHOICES = 20
"""Items of a topic that a user looks at to take the one closest to the own taste."""

_TOPIC, _BRAND, _TAGS, _PRICE, _TEXT = ("item__topic", "item__brand", "item__tags", "item__price", "item__text")


@dataclass(frozen=True, eq=False)
class Histories:
    """Histories of users, oldest first, all of one length."""

    rows_UT: npt.NDArray[np.int64]
    """Rows of the catalog."""
    next_U: npt.NDArray[np.int64]
    """The row that each user takes after them."""


class World:
    """Topics, brands and tags, and the items made of them."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        draw = np.random.default_rng([seed, 0])
        self._topic_share = _zipf(TOPICS, TOPIC_SKEW)
        self._brand_share = _zipf(BRANDS_OF_TOPIC, BRAND_SKEW)
        self._brands = draw.integers(0, BRANDS, (TOPICS, BRANDS_OF_TOPIC))
        self._tags = draw.integers(0, TAGS, (TOPICS, TAGS_OF_TOPIC))
        self._topic_text = _unit(draw.standard_normal((TOPICS, TEXT_WIDTH)).astype(np.float32))
        self._brand_text = _unit(draw.standard_normal((BRANDS, TEXT_WIDTH)).astype(np.float32)) / 2
        self._topic_price = draw.standard_normal(TOPICS)

    def items(self, start: int, stop: int) -> EncodedTable:
        """Return the features of rows ``start`` to ``stop``, encoded as the item tower takes them."""
        parts = []
        for chunk in range(start // CHUNK, -(-stop // CHUNK)):
            first = chunk * CHUNK
            parts.append(
                self._chunk(chunk).take(np.arange(max(start, first) - first, min(stop, first + CHUNK) - first))
            )
        return parts[0] if len(parts) == 1 else _concatenate(parts)

    def histories(self, catalog: EncodedTable, users: int, length: int, seed: int) -> Histories:
        """Draw users who choose from ``catalog``, the first rows of this world.

        Every user has some topics of interest and a taste, a direction in the space of texts: of a few random items of the topic,
        the user takes the one that lies closest to it.

        Args:
            catalog: as :meth:`items` returns it from row 0.
            users: how many.
            length: interactions of each, the next one not counted.
            seed: of the users; others have other tastes.
        """
        draw = np.random.default_rng([self.seed, 1, seed])
        topic_N, text_NW = catalog.ids[_TOPIC].values - FIRST_ID, catalog.vectors[_TEXT]
        by_topic = np.argsort(topic_N, kind="stable")
        counts = np.bincount(topic_N, minlength=TOPICS)
        starts = np.cumsum(counts) - counts
        share = self._topic_share * (counts > 0)
        interest_UI = draw.choice(TOPICS, (users, INTERESTS), p=share / share.sum())
        topic_UT = np.take_along_axis(interest_UI, draw.integers(0, INTERESTS, (users, length + 1)), axis=1)
        taste_UW = _unit(draw.standard_normal((users, TEXT_WIDTH)).astype(np.float32))
        taken_UT = np.empty((users, length + 1), np.int64)
        for column, topic_U in enumerate(topic_UT.T):
            place_UC = (draw.random((users, CHOICES)) * counts[topic_U, None]).astype(np.int64)
            row_UC = by_topic[starts[topic_U, None] + place_UC]
            liking_UC = np.einsum("ucw,uw->uc", text_NW[row_UC], taste_UW)
            taken_UT[:, column] = row_UC[np.arange(users), liking_UC.argmax(axis=1)]
        return Histories(taken_UT[:, :-1], taken_UT[:, -1])

    def _chunk(self, number: int) -> EncodedTable:
        draw = np.random.default_rng([self.seed, 2, number])
        rows = np.arange(CHUNK)
        topic = draw.choice(TOPICS, CHUNK, p=self._topic_share)
        brand = self._brands[topic, draw.choice(BRANDS_OF_TOPIC, CHUNK, p=self._brand_share)]
        tags = self._tags[
            topic[:, None], draw.random((CHUNK, TAGS_OF_TOPIC)).argpartition(TAGS_OF_ITEM)[:, :TAGS_OF_ITEM]
        ]
        own = draw.standard_normal((CHUNK, TEXT_WIDTH), np.float32) * (TEXT_NOISE / TEXT_WIDTH**0.5)
        one = np.ones(CHUNK, np.int32)
        return EncodedTable(
            rows=len(rows),
            ids={
                _TOPIC: Jagged(topic + FIRST_ID, one),
                _BRAND: Jagged(brand + FIRST_ID, one),
                _TAGS: Jagged(tags.reshape(-1) + FIRST_ID, one * TAGS_OF_ITEM),
            },
            numbers={_PRICE: ((self._topic_price[topic] + draw.standard_normal(CHUNK)) / 2**0.5).astype(np.float32)},
            vectors={_TEXT: _unit(self._topic_text[topic] + self._brand_text[brand] + own)},
        )


def feature_encoder() -> FeatureEncoder:
    """Return the encoder of the world's features: what the towers are built from."""
    domains = {_TOPIC: ("topic", TOPICS), _BRAND: ("brand", BRANDS), _TAGS: ("tag", TAGS)}
    kinds = {_TOPIC: "categorical", _BRAND: "categorical", _TAGS: "multi", _PRICE: "numeric", _TEXT: "vector"}
    types = {_TAGS: "Array(Int64)", _PRICE: "Float64", _TEXT: "Array(Float32)"}
    fields = tuple(
        FieldSpec(
            view="item",
            field=name.partition("__")[2],
            side="item",
            kind=kind,  # type: ignore[arg-type]  # a literal of the table above
            role="feature",
            dtype=types.get(name, "Int64"),
            domain=domains[name][0] if name in domains else None,
        )
        for name, kind in kinds.items()
    )
    spec = FeatureSpec(
        service="synthetic",
        user=EntitySpec(name="user", join_key="user_id", id_type="int64"),
        item=EntitySpec(name="item", join_key="item_id", id_type="int64"),
        fields=tuple(sorted(fields, key=lambda f: f.name)),
        domains=tuple(DomainSpec(name=name, value_type="int64") for name, _ in sorted(domains.values())),
        history_length=50,
    )
    sizes = {**dict(domains.values()), "item_id": 0}
    return FeatureEncoder(
        spec=spec,
        vocabularies={domain.name: _vocabulary(domain, sizes[domain.name]) for domain in spec.embedding_domains},
        numeric={_PRICE: NumericStats(0.0, 1.0)},
        widths={_TEXT: TEXT_WIDTH},
    )


def _vocabulary(domain: DomainSpec, size: int) -> Vocabulary:
    return Vocabulary(domain, pa.array(range(size), pa.int64()), np.zeros(size, np.int64))


def _zipf(count: int, exponent: float) -> npt.NDArray[np.float64]:
    weight = np.arange(1, count + 1) ** -exponent
    share: npt.NDArray[np.float64] = weight / weight.sum()
    return share


def _unit(rows: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    unit: npt.NDArray[np.float32] = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return unit


def _concatenate(parts: list[EncodedTable]) -> EncodedTable:
    return EncodedTable(
        rows=sum(part.rows for part in parts),
        ids={
            name: Jagged(
                np.concatenate([part.ids[name].values for part in parts]),
                np.concatenate([part.ids[name].lengths for part in parts]),
            )
            for name in parts[0].ids
        },
        numbers={name: np.concatenate([part.numbers[name] for part in parts]) for name in parts[0].numbers},
        vectors={name: np.concatenate([part.vectors[name] for part in parts]) for name in parts[0].vectors},
    )
