"""Types of the events of a dataset, by the code of each."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from rf_platform.dataset import Dataset
from rf_platform.features.meanings import EVENT_TYPE

NO_TYPE = "no type"


@dataclass(frozen=True, eq=False)
class EventTypes:
    """Type of every event of a dataset."""

    names: tuple[str, ...]
    """Types, by their code."""
    code_of_context: npt.NDArray[np.int64]
    """``[contexts]``: code of the type in each distinct context."""
    context: npt.NDArray[np.integer[Any]]
    """``[events]``: context of each event; may be memory-mapped."""

    @classmethod
    def of(cls, dataset: Dataset) -> "EventTypes | None":
        """Return those of a dataset; None where its feature service has no history of event types."""
        name = next((f.name for f in dataset.spec.inputs("context") if f.of == EVENT_TYPE), None)
        if name is None or name not in dataset.contexts.column_names:
            return None
        types = [str(value) if value else NO_TYPE for value in dataset.contexts[name].to_pylist()]
        names, codes = np.unique(np.array(types, dtype=object), return_inverse=True)
        return cls(tuple(names.tolist()), codes.astype(np.int64), dataset.sequences.context)

    def codes(self, events: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Return the codes of the types of some events."""
        return self.code_of_context[np.asarray(self.context[events])]
