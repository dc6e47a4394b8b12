"""First users of a bundle's items, encoded by its own user tower."""

from collections.abc import Sequence
from weakref import ref

import numpy as np
import numpy.typing as npt
import structlog

from rf_platform.errors import DataError
from rf_platform.registry.evidence import EvidenceJournal
from rf_platform.registry.journal import CatalogJournal
from rf_serving.catalog.first_users import FirstUsers
from rf_serving.catalog.live import LiveCatalog
from rf_serving.encoding import UserEncoder
from rf_serving.user_features.moment import read

_TOGETHER = 32


def first_users_of(catalog: LiveCatalog, journal: CatalogJournal) -> FirstUsers | None:
    """Return what moves the items of a catalog; None for a bundle without a rule, which a line of the log names."""
    bundle = catalog.bundle
    if bundle.fold_in is None:
        structlog.get_logger("rf_serving").info(
            "items do not learn from first events",
            bundle=bundle.name,
            remedy="it was built by an earlier version; build it again with `rf index build`",
        )
        return None
    encoder, width = UserEncoder(bundle), bundle.model.config.dim
    held = ref(catalog)  # which owns what is returned: a circle would keep its bundle until a collection

    def encode(texts: Sequence[str]) -> npt.NDArray[np.float32]:
        query_BD = np.full((len(texts), width), np.nan, np.float32)
        if (catalog := held()) is None:
            return query_BD
        for start in range(0, len(texts), _TOGETHER):
            snapshot = catalog.snapshot
            known = [read(text).known(snapshot) for text in texts[start : start + _TOGETHER]]
            for place, user in enumerate(encoder.encode_users(known, snapshot), start):
                if not isinstance(user, DataError) and not known[place - start].cold:
                    query_BD[place] = user.query_D[:width]
        return query_BD

    return FirstUsers(bundle, bundle.fold_in, EvidenceJournal(journal.engine), encode)
