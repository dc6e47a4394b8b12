"""Encoder of a bundle beside that of the data it was trained on: the same value has to become the same model input."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from rf_platform.bundle.files import ENCODER, SPEC
from rf_platform.dataset.run_dataset import open_run_dataset
from rf_platform.errors import RfError
from rf_platform.features.columns import PlainColumn
from rf_platform.features.encode import FeatureEncoder
from rf_platform.features.jagged import EncodedTable
from rf_platform.features.spec import FeatureSpec, FieldSpec
from rf_platform.registry import Registry


@dataclass(frozen=True, eq=False)
class EncoderPair:
    """Encoders of one bundle: the one it serves with, and the one that its model was trained with."""

    served: FeatureEncoder
    trained: FeatureEncoder
    _known: dict[tuple[str, Any], bool] = field(default_factory=dict)

    @classmethod
    def of(cls, registry: Registry, bundle: str) -> "EncoderPair | None":
        """Read both; None where they are the same, or the bundle, its run or its dataset is gone."""
        try:
            record = registry.bundle(bundle)
            served = FeatureEncoder.load(FeatureSpec.load(record.path / SPEC), record.path / ENCODER)
            trained = open_run_dataset(registry, registry.run(record.run)).encoder
        except RfError:
            return None
        return None if served.hash == trained.hash else cls(served, trained)

    def same(self, name: str, value: Any) -> bool:
        """Whether both make the same of a value, or of all elements of a history."""
        f = next((each for each in self.served.spec.read if each.name == name), None)
        if f is None or value is None or (f.kind == "timestamp" and f.role == "history"):
            return True
        if f.role == "history":
            return all(self._same(f, element) for element in value)
        return self._same(f, value)

    def _same(self, f: FieldSpec, value: Any) -> bool:
        key = (f.name, tuple(value) if isinstance(value, list) else value)
        if key not in self._known:
            inputs = [_input(encoder, f, value) for encoder in (self.served, self.trained)]
            self._known[key] = all(np.array_equal(a, b, equal_nan=True) for a, b in zip(*inputs, strict=True))
        return self._known[key]


def _input(encoder: FeatureEncoder, f: FieldSpec, value: Any) -> list[np.ndarray]:
    into = EncodedTable(rows=1)
    if f.of is not None and f.of == encoder.spec.item.join_key:  # its ids stand for items, not for values of a domain
        return []
    encoder.encode_column(f, PlainColumn([value]), into)
    return [
        *(each.values.astype(np.float64) for each in into.ids.values()),
        *into.numbers.values(),
        *into.vectors.values(),
    ]


def pairs_of(registry: Registry, bundles: Iterable[str]) -> dict[str, EncoderPair]:
    """Return the encoders of bundles that do not serve with those they were trained with, by name."""
    found = {name: EncoderPair.of(registry, name) for name in bundles}
    return {name: pair for name, pair in found.items() if pair is not None}
