"""Upserts and deletes on their way through the journal into the catalog.

First :class:`Upsert` or :class:`Delete` checks what is asked for; then ``changes`` are recorded and taken into all catalogs that
answer; then ``reply`` shows what became of them.

Shapes: T items, B queries, D width.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from rf_platform.errors import UsageError
from rf_platform.registry.journal import Change, Recorded, canonical_json
from rf_platform.text import shown
from rf_protos.v1.catalog_pb2 import (
    DeleteItemsResponse,
    DeleteStatus,
    Item,
    Neighbour,
    UpsertItemsResponse,
    UpsertStatus,
)
from rf_serving.catalog.item_schema import ItemSchema, Values
from rf_serving.catalog.live import LiveCatalog, PreparedItem
from rf_serving.catalog.snapshot import CatalogSnapshot
from rf_serving.index.vector_index import NO_ROW
from rf_serving.wire.ids import parse_id, typed
from rf_serving.wire.values import suggestion

MAX_NEIGHBOURS = 100
FOUND_WITHIN = 100
"""An item is searchable if a search with its own vector has it among this many."""
MAX_ID_BYTES = 1000
_QUERIES_AT_ONCE = 64


class Upsert:
    """Items to be added or changed; those that cannot be do not keep the others out."""

    def __init__(
        self,
        catalog: LiveCatalog,
        items: Sequence[Item],
        neighbours: int,
        offered: ItemSchema | None = None,
        beside: Sequence[LiveCatalog] = (),
    ) -> None:
        """Check and encode.

        Args:
            catalog: what is changed.
            items: to be put into it.
            neighbours: how many of the nearest items are wanted.
            offered: fields of items that the feature store has; those that the catalog's bundle does not know are recorded for
                bundles that do.
            beside: catalogs of other bundles that answer; what one of them has otherwise is recorded, also if nothing changes
                in ``catalog``.

        Raises:
            UsageError: ``neighbours`` is out of range.
        """
        if not 0 <= neighbours <= MAX_NEIGHBOURS:
            raise UsageError(f"neighbours: {neighbours} is not possible; ask for 0 to {MAX_NEIGHBOURS}")
        self._catalog, self._neighbours = catalog, neighbours
        self._statuses = [UpsertStatus(item_id=item.item_id) for item in items]
        self._prepared: list[PreparedItem] = []
        names = _Names(catalog)
        given: dict[int, tuple[int | str, Values]] = {}
        for place, item in enumerate(items):
            try:
                name = names.read(item.item_id, f"items[{place}].item_id")
                given[place] = name, self._read(item, offered, f"items[{place}]", place)
            except UsageError as error:
                self._reject(place, str(error))
        changes = self._changes(items, given, beside)
        self._encode(changes, {place: values for place, (_, values) in given.items() if place in changes})
        self._accepted = {place: given[place][0] for place in changes if not self._statuses[place].outcome}
        self.changes = [changes[place] for place in self._accepted]
        """To be recorded."""

    def reply(self, recorded: Sequence[Recorded]) -> UpsertItemsResponse:
        """Return what became of the changes, which the catalog has by now."""
        self._tell(recorded)
        self._probe(self._catalog.snapshot)
        return self._response

    def foreseen(self) -> UpsertItemsResponse:
        """Return what would become of the changes if they were recorded now."""
        self._tell([Recorded(0, each.built, fresh=each.merged(each.built) != each.built) for each in self.changes])
        return self._response

    @property
    def _response(self) -> UpsertItemsResponse:
        return UpsertItemsResponse(statuses=self._statuses, bundle=self._catalog.bundle.name)

    def _tell(self, recorded: Sequence[Recorded]) -> None:
        for place, change, done in zip(list(self._accepted), self.changes, recorded, strict=True):
            if change.partial and done.before is None:  # deleted since it was checked
                del self._accepted[place]
                self._reject(place, _absent(place))
                continue
            status = self._statuses[place]
            status.sequence = done.sequence
            status.outcome = UpsertStatus.CHANGED if done.before is not None else UpsertStatus.ADDED
            if not done.fresh:
                status.outcome = UpsertStatus.UNCHANGED

    def _changes(
        self, items: Sequence[Item], given: dict[int, tuple[int | str, Values]], beside: Sequence[LiveCatalog]
    ) -> dict[int, Change]:
        """Return the change of each item, by its place; an item that has to be there and is not is rejected."""
        schema, ids = self._catalog.schema, [name for name, _ in given.values()]
        built, *others = (_texts(each, ids) for each in (self._catalog, *beside))
        changes: dict[int, Change] = {}
        for row, (place, (name, values)) in enumerate(given.items()):
            mask = items[place].update_mask
            if mask and built[row] is None:
                self._reject(place, _absent(place))
                continue
            changes[place] = Change(
                item_id=str(name),
                features=canonical_json({n: values.get(n) for n in mask}) if mask else schema.text(values),
                partial=bool(mask),
                built=built[row],
                agreed=all(texts[row] == built[row] for texts in others),
            )
        return changes

    def _reject(self, place: int, message: str) -> None:
        self._statuses[place].outcome, self._statuses[place].message = UpsertStatus.REJECTED, message

    def _read(self, item: Item, offered: ItemSchema | None, path: str, place: int) -> Values:
        """Return the values of an item; what only the feature store knows is in its status too."""
        known, others = set(self._catalog.schema.names), set(offered.names if offered is not None else ())
        _check_mask(item, known | others, path)
        path += ".features"
        later = {name: value for name, value in item.features.items() if name not in known and name in others}
        values = self._catalog.schema.read({n: v for n, v in item.features.items() if n not in later}, path)
        if offered is not None and later:
            values |= offered.read(later, path)
            self._statuses[place].message = (
                f"{path}: bundle '{self._catalog.bundle.name}' is older than {', '.join(sorted(later))}; recorded for bundles "
                f"that know it"
            )
        return values

    def _encode(self, changes: dict[int, Change], values: dict[int, Values]) -> None:
        """Encode the items as the changes make them; what gets no usable vector is rejected."""
        if not changes:
            return
        schema = self._catalog.schema
        texts = {place: str(change.merged(change.built)) for place, change in changes.items()}
        whole = [
            schema.parse(texts[place]).values if change.partial else values[place] for place, change in changes.items()
        ]
        id_type = self._catalog.bundle.spec.item.id_type
        table = schema.table([typed(change.item_id, id_type) for change in changes.values()], whole)
        encoded = self._catalog.encoder.encode(table)
        for row, (place, change) in enumerate(changes.items()):
            if encoded.usable_N[row]:
                prepared = PreparedItem(encoded.vectors_ND[row], encoded.tokens_NE[row], encoded.item_states_NW[row])
                self._prepared.append(prepared)
                self._catalog.prepared[change.item_id, texts[place]] = prepared
            else:
                self._reject(
                    place,
                    f"items[{place}].features: they give no usable vector; give at least one feature that the model knows",
                )

    def _probe(self, snapshot: CatalogSnapshot) -> None:
        """Search with every item's own vector, as requests do, for what lies nearest to it."""
        rows_T = snapshot.rows_of(list(self._accepted.values()))
        there = np.flatnonzero(snapshot.live(rows_T))  # it may have been deleted meanwhile
        places = np.array(list(self._accepted), np.int64)[there]
        for start in range(0, len(there), _QUERIES_AT_ONCE):
            some = slice(start, start + _QUERIES_AT_ONCE)
            self._probe_some(snapshot, rows_T[there][some], places[some])

    def _probe_some(
        self, snapshot: CatalogSnapshot, rows: npt.NDArray[np.int64], places: npt.NDArray[np.int64]
    ) -> None:
        queries_BD = snapshot.vectors(rows).copy()
        if self._catalog.bundle.model.biased:
            queries_BD[:, -1] = 0  # the items' bias is no part of their likeness
        found = snapshot.search(queries_BD, max(FOUND_WITHIN, self._neighbours + 1))
        for row, place, rows_K, scores_K in zip(rows, places, found.rows, found.scores, strict=True):
            status = self._statuses[place]
            status.searchable = bool((rows_K == row).any())
            others = np.flatnonzero((rows_K != row) & (rows_K != NO_ROW))[: self._neighbours]
            status.neighbours.extend(
                Neighbour(item_id=text, similarity=similarity)
                for text, similarity in zip(snapshot.texts(rows_K[others]), scores_K[others].tolist(), strict=True)
            )


def _check_mask(item: Item, known: set[str], path: str) -> None:
    """Check that a mask names fields, and all that are given.

    Raises:
        UsageError: it does not; the message begins with the field path.
    """
    mask = item.update_mask
    for place, name in enumerate(mask):
        if name not in known:
            raise UsageError(
                f"{path}.update_mask[{place}]: there is no field {shown(name)}; {suggestion(name, sorted(known))}"
            )
    if mask and (beyond := sorted(item.features.keys() - set(mask))):
        raise UsageError(f"{path}.features: {shown(beyond[0])} is given and not in update_mask; name it there too")


def _absent(place: int) -> str:
    return f"items[{place}]: the catalog has no such item, and update_mask changes fields of one; send it as a whole"


class Delete:
    """Items to be removed."""

    def __init__(self, catalog: LiveCatalog, item_ids: Sequence[str]) -> None:
        self._catalog = catalog
        self._statuses = [DeleteStatus(item_id=text) for text in item_ids]
        names = _Names(catalog)
        self._accepted: dict[int, int | str] = {}
        for place, text in enumerate(item_ids):
            try:
                self._accepted[place] = names.read(text, f"item_ids[{place}]")
            except UsageError as error:
                self._statuses[place].outcome, self._statuses[place].message = DeleteStatus.REJECTED, str(error)
        built = _texts(catalog, list(self._accepted.values()))
        self.changes = [
            Change(item_id=str(name), features=None, built=before)
            for name, before in zip(self._accepted.values(), built, strict=True)
        ]
        """To be recorded."""

    def reply(self, recorded: Sequence[Recorded]) -> DeleteItemsResponse:
        """Return what became of the changes, which the catalog has by now."""
        for place, change in zip(self._accepted, recorded, strict=True):
            status = self._statuses[place]
            status.sequence = change.sequence
            status.outcome = DeleteStatus.ABSENT if change.before is None else DeleteStatus.DELETED
        return DeleteItemsResponse(statuses=self._statuses)


class _Names:
    """Reads the item ids of one request."""

    def __init__(self, catalog: LiveCatalog) -> None:
        self._type = catalog.bundle.spec.item.id_type
        self._places: dict[str, str] = {}

    def read(self, text: str, path: str) -> int | str:
        """Return an id in the catalog's type.

        Raises:
            UsageError: it is not usable, or given before; the message begins with ``path``.
        """
        name = parse_id(text, self._type, path)
        if len(str(name).encode()) > MAX_ID_BYTES:
            raise UsageError(f"{path}: {shown(text)} is longer than {MAX_ID_BYTES} bytes")
        if "\0" in text:
            raise UsageError(f"{path}: {shown(text)} has a NUL character, which no database keeps in a text")
        if (first := self._places.setdefault(str(name), path)) != path:
            raise UsageError(f"{path}: {shown(text)} is given before, as {first}; give each id once")
        return name


def _texts(catalog: LiveCatalog, names: list[int | str]) -> list[str | None]:
    """Return the features that items have now, in the journal's form; None for those that are not there."""
    snapshot = catalog.snapshot
    rows = snapshot.rows_of(names)
    there = np.flatnonzero(snapshot.live(rows))
    texts: list[str | None] = [None] * len(names)
    for place, values in zip(there.tolist(), snapshot.values(rows[there]), strict=True):
        texts[place] = catalog.schema.text(values)
    return texts
