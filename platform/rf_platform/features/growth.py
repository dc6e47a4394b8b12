"""Id maps that grow: a newer dataset encoded so that a model trained before it still understands it.

Known values keep their ids, new ones are appended after them, and what was learned about numbers stays as it was. A model's
rows, wherever they are sharded to, therefore mean the same values as before, and vectors of known items are the same numbers.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from rf_platform.errors import ConfigError
from rf_platform.features.encode import FeatureEncoder, NumericStats
from rf_platform.features.spec import FeatureSpec, FieldSpec
from rf_platform.features.vocabulary import FIRST_ID, Vocabulary

_START_OVER = "train a new model instead: leave out --from"


@dataclass(frozen=True, kw_only=True)
class DomainGrowth:
    """Growth of one id map."""

    domain: str
    policy: str
    """``learned``, or ``hash:`` and the number of buckets; hashed values have no rows of their own, so all rows stay."""
    rows_before: int
    """Rows of the table before, padding and unknown among them; 0 for a domain that was not there."""
    rows: int
    """Rows of the table now."""
    kept: int
    """Values that were known and have a training event now."""
    new: int
    """Values with a training event now that were not known: they have the ids from ``rows_before`` on."""
    vanished: int
    """Values that were known and have no training event now: they keep their ids and what was learned about them."""


@dataclass(frozen=True, kw_only=True)
class StatisticDrift:
    """Drift of a numeric feature from the mean and deviation that it is still standardised by."""

    feature: str
    kept: NumericStats
    """Of the model's first training: in use."""
    now: NumericStats
    """Of the newer training split: for comparison only."""

    @property
    def shift(self) -> float:
        """Difference of the means, in deviations of the kept statistics."""
        return (self.now.mean - self.kept.mean) / self.kept.std

    @property
    def stretch(self) -> float:
        """Deviation now, in deviations of the kept statistics."""
        return self.now.std / self.kept.std


@dataclass(frozen=True, kw_only=True, eq=False)
class Growth:
    """A grown encoder and how it differs from the one before."""

    encoder: FeatureEncoder
    """For the newer dataset, with the ids of the older model."""
    domains: tuple[DomainGrowth, ...]
    drift: tuple[StatisticDrift, ...]
    """Of every numeric feature that was there before."""
    new_fields: tuple[str, ...]
    """Full names of inputs that the model has not seen yet."""
    gone_fields: tuple[str, ...]
    """Full names of inputs that the model had and the newer dataset has not."""


def grow(before: FeatureEncoder, dataset: FeatureEncoder) -> Growth:
    """Make the encoder of a newer dataset go on from that of a trained model.

    Args:
        before: the trained model's.
        dataset: learned on the newer dataset's training split.

    Raises:
        ConfigError: a feature or a domain means something else now, so that what was learned about it would be wrong.
    """
    old, new = _inputs(before.spec), _inputs(dataset.spec)
    for name in old.keys() & new.keys():
        _check_field(old[name], new[name])
    _check_domains(before.spec, dataset.spec)
    widths = dict(dataset.widths)
    texts = {name: before.texts.get(name, text) for name, text in dataset.texts.items()}
    for name, text in dataset.texts.items():
        if texts[name].identity != text.identity:
            raise ConfigError(
                f"{name} was encoded by the text encoder '{texts[name].encoder}' ({texts[name].identity[:12]}) when the model "
                f"was trained, and the dataset by '{text.encoder}' ({text.identity[:12]}); build the dataset with the first, or "
                f"{_START_OVER}"
            )
        widths[name] = texts[name].whitening.width
    for name in old.keys() & widths.keys() & before.widths.keys():
        if before.widths[name] != widths[name]:
            raise ConfigError(
                f"{name} has vectors of {widths[name]} numbers, and the model was trained with {before.widths[name]}; "
                f"{_START_OVER}, or give the new vectors another name"
            )
    semantic = dataset.semantic
    if before.semantic is not None and semantic is not None:
        if before.spec.semantic != dataset.spec.semantic:
            raise ConfigError(
                f"the semantic ids have other levels or codes than the model was trained with; {_START_OVER}"
            )
        semantic = before.semantic  # its codebooks, and so its prefixes: those of the dataset's own mean other items
    vocabularies, domains = {}, []
    for name, found in dataset.vocabularies.items():
        known = before.vocabularies.get(name)
        fixed = known is not None and dataset.spec.semantic is not None and name in dataset.spec.semantic.names
        vocabulary = known if fixed and known is not None else found
        vocabularies[name] = vocabulary if known is None else _append(known, vocabulary)
        domains.append(_growth(known, vocabulary, vocabularies[name]))
    numeric = {name: before.numeric[name] if name in old else stats for name, stats in dataset.numeric.items()}
    return Growth(
        encoder=FeatureEncoder(
            spec=dataset.spec, vocabularies=vocabularies, numeric=numeric, widths=widths, texts=texts, semantic=semantic
        ),
        domains=tuple(domains),
        drift=tuple(
            StatisticDrift(feature=name, kept=before.numeric[name], now=now)
            for name, now in dataset.numeric.items()
            if name in old
        ),
        new_fields=tuple(sorted(new.keys() - old.keys())),
        gone_fields=tuple(sorted(old.keys() - new.keys())),
    )


def _append(known: Vocabulary, found: Vocabulary) -> Vocabulary:
    """Return the known values in their order, and behind them the new ones by falling frequency, with today's counts."""
    if known.domain.buckets is not None:
        return known
    places = pc.index_in(known.values, value_set=found.values)
    here = places.is_valid().to_numpy(zero_copy_only=False)
    counts = np.zeros(len(known.values), np.int64)
    counts[here] = found.counts[pc.drop_null(places).to_numpy(zero_copy_only=False)]
    fresh = np.ones(len(found.values), bool)
    fresh[pc.drop_null(places).to_numpy(zero_copy_only=False)] = False
    return Vocabulary(
        domain=found.domain,
        values=pa.concat_arrays([known.values, found.values.filter(pa.array(fresh))]),
        counts=np.concatenate([counts, found.counts[fresh]]),
    )


def _growth(known: Vocabulary | None, found: Vocabulary, grown: Vocabulary) -> DomainGrowth:
    before = FIRST_ID if known is None else known.rows
    new = grown.rows - before
    kept = len(found.values) - new if found.domain.buckets is None else 0
    return DomainGrowth(
        domain=found.domain.name,
        policy=found.domain.policy,
        rows_before=0 if known is None else known.rows,
        rows=grown.rows,
        kept=kept,
        new=new if found.domain.buckets is None else 0,
        vanished=len(known.values) - kept if known is not None else 0,
    )


def _inputs(spec: FeatureSpec) -> dict[str, FieldSpec]:
    def fields() -> Iterator[FieldSpec]:
        for side in ("item", "user", "context"):
            yield from spec.inputs(side)

    return {f.name: f for f in fields()}


def _check_field(old: FieldSpec, new: FieldSpec) -> None:
    for what in ("side", "kind", "domain", "of"):
        was, now = getattr(old, what), getattr(new, what)
        if was != now:
            raise ConfigError(
                f"{new.view}.{new.field} has the {what} {now!r}, and the model was trained with {was!r}; {_START_OVER}, or "
                f"register the feature under another name"
            )


def _check_domains(old: FeatureSpec, new: FeatureSpec) -> None:
    known = {d.name: d for d in old.embedding_domains}
    for domain in new.embedding_domains:
        before = known.get(domain.name, domain)
        if before.value_type != domain.value_type:
            raise ConfigError(
                f"domain '{domain.name}' holds {domain.value_type} values, and the model was trained on {before.value_type} "
                f"values; {_START_OVER}"
            )
        if before.buckets != domain.buckets:
            raise ConfigError(
                f"domain '{domain.name}' is vocabulary={domain.policy}, and the model was trained with "
                f"vocabulary={before.policy}: its rows stand for other values; {_START_OVER}, or set the tag back"
            )
