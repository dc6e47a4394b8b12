"""Statistics of the training split: vocabularies, means and deviations without outliers, vector widths, counts."""

import math
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import duckdb
import numpy as np
import pyarrow as pa

from rf_platform.errors import ConfigError, DataError
from rf_platform.features.dtype import MISSING_STRING
from rf_platform.features.encode import FeatureEncoder, NumericStats
from rf_platform.features.semantic_ids import NO_CODE, learn_semantic_ids
from rf_platform.features.spec import ITEM_ID_DOMAIN, DomainSpec, FeatureSpec, FieldSpec, SemanticSpec
from rf_platform.features.vocabulary import Vocabulary, arrow_type
from rf_platform.sql import identifier, pattern_literal
from rf_platform.text import byte_size
from rf_platform.texts.feature import TextFeature, learn_text

_NO_DEVIATION = 1e-12
"""Share of the mean up to which a deviation is rounding: a 64-bit float has sixteen digits."""
_TEXTS_AT_ONCE = 100_000
_ITEMS_A_CODE = 256
"""Most items that codebooks are learned on, as a multiple of the codes of a level: more say little that is new."""
_SQL_VALUE = {"int64": "BIGINT", "string": "VARCHAR"}


def learn_encoder(
    db: duckdb.DuckDBPyConnection, spec: FeatureSpec, content: Path, warnings: list[str]
) -> FeatureEncoder:
    """Learn vocabularies and statistics from the training events of a dataset under ``content``.

    Every value weighs as often as a training event saw it, so ids fall with the frequency the model will meet. A sentence is
    added to ``warnings`` for each feature with mean and deviation dominated by a few outliers.

    Raises:
        DataError: vectors of one feature differ in width.
        ConfigError: the sentence encoder of a text is not here.
    """
    db.execute(
        f"""CREATE OR REPLACE TEMP VIEW train AS
        SELECT * FROM read_parquet({pattern_literal(content / "events.parquet")}) WHERE split = 0"""
    )
    for side in ("item", "user"):
        db.execute(
            f"""CREATE OR REPLACE TEMP VIEW train_{side} AS
            SELECT t.*, n FROM read_parquet({pattern_literal(content / f"{side}s.parquet")}) t
            JOIN (SELECT {side}_version AS version, count(*) AS n FROM train GROUP BY 1) USING (version)"""
        )
    db.execute("CREATE OR REPLACE TEMP VIEW train_context AS SELECT *, 1 AS n FROM train")
    fields = [f for side in ("item", "user", "context") for f in spec.inputs(side)]
    vocabularies = {
        d.name: _vocabulary(db, spec, d, fields) for d in spec.embedding_domains if d not in spec.semantic_domains
    }
    texts = {f.name: _text(db, f, content, warnings) for f in fields if f.kind == "text"}
    encoder = FeatureEncoder(
        spec=spec,
        vocabularies=vocabularies,
        numeric={
            f.name: _numeric(db, f, warnings)
            for f in fields
            if f.kind == "numeric" or (f.kind == "timestamp" and f.side != "context")
        },
        widths={f.name: _width(db, f, content) for f in fields if f.kind == "vector"}
        | {name: text.whitening.width for name, text in texts.items()},
        texts=texts,
    )
    return encoder if spec.semantic is None else _with_semantic_ids(db, encoder, spec.semantic)


def _vocabulary(
    db: duckdb.DuckDBPyConnection, spec: FeatureSpec, domain: DomainSpec, fields: list[FieldSpec]
) -> Vocabulary:
    if domain.buckets is not None:
        return Vocabulary.hashed(domain)
    value_type = _SQL_VALUE[domain.value_type]
    parts = []
    for f in (f for f in fields if f.domain == domain.name):
        value = f"unnest({identifier(f.name)})" if f.kind == "multi" else identifier(f.name)
        parts.append(f"SELECT CAST({value} AS {value_type}) AS value, n FROM train_{f.side}")
    if domain.name == ITEM_ID_DOMAIN:
        parts.append(f"SELECT CAST({identifier(spec.item.join_key)} AS {value_type}) AS value, n FROM train_item")
    missing = f" AND value <> '{MISSING_STRING}'" if domain.value_type == "string" else ""
    table = db.execute(
        f"""SELECT value, sum(n)::BIGINT AS count FROM ({" UNION ALL ".join(parts)})
        WHERE value IS NOT NULL{missing} GROUP BY value ORDER BY count DESC, value"""
    ).to_arrow_table()
    values = table["value"].combine_chunks().cast(arrow_type(domain.value_type))
    return Vocabulary(domain, values, table["count"].to_numpy())


def _numeric(db: duckdb.DuckDBPyConnection, f: FieldSpec, warnings: list[str]) -> NumericStats:
    value = (
        f"epoch_us({identifier(f.name)}) / 1e6" if f.kind == "timestamp" else f"CAST({identifier(f.name)} AS DOUBLE)"
    )
    # One thread: the sum must not depend on the order in which threads add up, or equal inputs would not give an equal
    # fingerprint.
    threads = db.execute("SELECT current_setting('threads')").fetchone()
    db.execute("SET threads = 1")
    numbers = f"SELECT v, n FROM (SELECT {value} AS v, n FROM train_{f.side}) WHERE v IS NOT NULL AND isfinite(v)"
    mean, std, reach, left_out = usual_moments(db, numbers)
    db.execute(f"SET threads = {threads[0] if threads else 1}")
    if left_out:
        warnings.append(f"{f.view}.{f.field}: {left_out}")
    if std <= _NO_DEVIATION * abs(mean):
        return NumericStats(mean=float(f"{mean:.9g}"), std=1.0, reach=sys.float_info.max)
    # The mean to a billionth of the deviation: nine digits of a time of today are a second.
    digits = 9 + max(0, math.ceil(math.log10(abs(mean) / std))) if mean else 9
    rounded = None if reach is None else float(f"{reach:.9g}")
    return NumericStats(mean=float(f"{mean:.{digits}g}"), std=float(f"{std:.9g}"), reach=rounded)


def _width(db: duckdb.DuckDBPyConnection, f: FieldSpec, content: Path) -> int:
    widths = db.execute(
        f"""SELECT DISTINCT len({identifier(f.name)}) FROM read_parquet({pattern_literal(content / f"{f.side}s.parquet")})
        WHERE len({identifier(f.name)}) > 0 ORDER BY 1"""
    ).fetchall()
    if len(widths) > 1:
        raise DataError(
            f"{f.view}.{f.field} holds vectors of {widths[0][0]} and of {widths[1][0]} numbers; a dense vector needs one width"
        )
    return int(widths[0][0]) if widths else 1


def _text(db: duckdb.DuckDBPyConnection, f: FieldSpec, content: Path, warnings: list[str]) -> TextFeature:
    """Learn a text's whitening on what training saw, every text once, and encode the texts of all states of items."""
    name = identifier(f.name)
    trained = f"SELECT DISTINCT {name} AS text FROM train_item WHERE {name} IS NOT NULL"
    everything = f"SELECT DISTINCT {name} AS text FROM read_parquet({pattern_literal(content / 'items.parquet')})"
    others = f"SELECT text FROM ({everything}) WHERE text IS NOT NULL AND text NOT IN ({trained})"

    def texts(query: str) -> Iterator[str]:
        for batch in db.execute(f"{query} ORDER BY text").to_arrow_reader(_TEXTS_AT_ONCE):
            yield from batch["text"].to_pylist()

    try:
        learned = learn_text(f.name, texts(trained), texts(others))
    except ConfigError as error:
        raise ConfigError(f"{f.view}.{f.field} has kind=text: {error}") from error
    cache = learned.source().cache
    if cache.crowded:
        warnings.append(
            f"{f.view}.{f.field}: the vectors of its texts do not fit the cache of {byte_size(cache.bound)}, so training encodes "
            f"them again; raise RF_TEXT_CACHE_MB"
        )
    return learned


def _with_semantic_ids(
    db: duckdb.DuckDBPyConnection, encoder: FeatureEncoder, semantic: SemanticSpec
) -> FeatureEncoder:
    """Learn codebooks on the newest state of every item that training saw, and the prefixes that occur in training."""
    inputs, domains = encoder.spec.inputs("item"), encoder.spec.semantic_domains
    newest = "SELECT * FROM train_item QUALIFY row_number() OVER (PARTITION BY item ORDER BY version DESC) = 1"
    count = db.execute(f"SELECT count(*) FROM ({newest})").fetchone()
    step = 1 + (count[0] if count else 0) // (_ITEMS_A_CODE * semantic.codes)
    spread = f"SELECT * FROM ({newest}) QUALIFY (row_number() OVER (ORDER BY item) - 1) % {step} = 0 ORDER BY item"
    learned = learn_semantic_ids(semantic, encoder.encode(db.execute(spread).to_arrow_table(), inputs))
    counts: list[Counter[int]] = [Counter() for _ in domains]
    for batch in db.execute("SELECT * FROM train_item ORDER BY version").to_arrow_reader(_TEXTS_AT_ONCE):
        states = pa.Table.from_batches([batch])
        for counter, prefix_N in zip(counts, learned.prefixes(encoder.encode(states, inputs)), strict=True):
            for prefix, events in zip(prefix_N.tolist(), states["n"].to_pylist(), strict=True):
                counter[prefix] += events
    vocabularies = dict(encoder.vocabularies)
    for domain, counter in zip(domains, counts, strict=True):
        del counter[NO_CODE]
        ranked = sorted(counter.items(), key=lambda entry: (-entry[1], entry[0]))
        values = pa.array([prefix for prefix, _ in ranked], pa.int64())
        vocabularies[domain.name] = Vocabulary(domain, values, np.array([n for _, n in ranked], np.int64))
    return replace(encoder, vocabularies=vocabularies, semantic=learned)


def split_counts(db: duckdb.DuckDBPyConnection) -> dict[str, int]:
    """Return the numbers of users, items and events, and of events per split."""
    counts = {}
    for name, sql in (
        ("users", "SELECT count(*) FROM user_index"),
        ("items", "SELECT count(*) FROM item_index"),
        ("items_in_training", "SELECT count(DISTINCT item) FROM log WHERE split = 0"),
        ("events", "SELECT count(*) FROM log"),
        ("train", "SELECT count(*) FROM log WHERE split = 0"),
        ("validation", "SELECT count(*) FROM log WHERE split = 1"),
        ("test", "SELECT count(*) FROM log WHERE split = 2"),
        ("history", "SELECT count(*) FROM log WHERE split = 3"),
        ("user_versions", "SELECT count(*) FROM versions_user"),
        ("item_versions", "SELECT count(*) FROM versions_item"),
    ):
        row = db.execute(sql).fetchone()
        counts[name] = int(row[0]) if row else 0
    return counts


_RANGES = ((0.25, 0.75), (0.1, 0.9), (0.05, 0.95), (0.01, 0.99))
"""Shares of the values below the ends of the middle; the first range that holds more than one value counts."""
_FENCE = 100
"""Largest distance of a usual value from the middle, in widths of it."""
_DOMINATED = 100
"""Least ratio of the deviation of all values to that of the usual ones, at which outliers decide it."""
_LARGEST = 1e150
"""Squares of larger numbers overflow."""


class Moments(NamedTuple):
    """Mean and deviation of a feature's numbers."""

    mean: float
    std: float
    reach: float | None = None
    """If outliers were left out: the largest deviation of all numbers from the mean, in standard deviations."""
    left_out: str = ""
    """Left-out values, in words."""


def usual_moments(db: duckdb.DuckDBPyConnection, numbers: str) -> Moments:
    """Return mean and standard deviation, and what was left out of them.

    Both are those of all values, unless a few that lie far outside decide them: then ordinary values would all be the same small
    number of deviations to a model. Heavy tails, as prices have, are no outliers.

    Args:
        db: the database; its order of additions has to be fixed.
        numbers: a query for finite numbers ``v`` with weights ``n``.
    """
    plain = _moments(db, numbers)
    shares = sorted({share for pair in _RANGES for share in pair})
    quantiles = ", ".join(f"min(v) FILTER (upto >= {share} * total)" for share in shares)
    found = db.execute(
        f"""SELECT {quantiles} FROM (
            SELECT v, sum(n) OVER (ORDER BY v ROWS UNBOUNDED PRECEDING) AS upto, sum(n) OVER () AS total
            FROM (SELECT v, sum(n) AS n FROM ({numbers}) GROUP BY v))"""
    ).fetchone()
    assert found is not None
    quantile = dict(zip(shares, found, strict=True))
    middle = next(((quantile[a], quantile[b]) for a, b in _RANGES if quantile[a] != quantile[b]), None)
    if middle is None:
        return plain
    low, high = middle
    reach = _FENCE * (high - low)
    inside = f"v BETWEEN {low - reach!r} AND {high + reach!r}"
    usual = _moments(db, f"SELECT v, n FROM ({numbers}) WHERE {inside}")
    if plain.std <= _DOMINATED * usual.std:
        return plain
    count, least, largest = db.execute(
        f"SELECT count(DISTINCT v), min(v), max(v) FROM ({numbers}) WHERE NOT ({inside})"
    ).fetchall()[0]
    values = f"{least:g}" if count == 1 else f"{count:,} values from {least:g} to {largest:g}"
    return Moments(
        usual.mean,
        usual.std,
        max(abs(each - usual.mean) / usual.std for each in (least, largest)),
        f"mean and deviation leave out {values}: with them the deviation would be {plain.std:g} instead of {usual.std:g}; if "
        f"they mean that there is no value, leave them empty and import again",
    )


def _moments(db: duckdb.DuckDBPyConnection, numbers: str) -> Moments:
    """Return mean and deviation, 0 and 0 without values; around the smallest value, so that a large mean costs no digits."""
    row = db.execute(
        f"""WITH numbers AS (
            SELECT v, n, min(v) OVER () AS least
            FROM (SELECT greatest(least(v, {_LARGEST!r}), -{_LARGEST!r}) AS v, n FROM ({numbers}))
        ), centred AS (SELECT v, n, least + sum((v - least) * n) OVER () / sum(n) OVER () AS mean FROM numbers)
        SELECT min(mean), sqrt(sum((v - mean) ** 2 * n) / sum(n)) FROM centred"""
    ).fetchone()
    return Moments(0.0, 0.0) if row is None or row[0] is None else Moments(float(row[0]), float(row[1]))
