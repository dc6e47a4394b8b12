"""The catalog of a bundle as the journal has changed it since, and the thread that follows the journal."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from threading import Event, RLock, Thread
from time import perf_counter
from weakref import WeakValueDictionary

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import structlog

from rf_platform.errors import RfError
from rf_platform.registry.journal import CatalogJournal, Entry
from rf_serving.bundle.served import ServedBundle
from rf_serving.catalog.base_segment import BaseSegment
from rf_serving.catalog.compaction.compacted import CompactedCatalogs
from rf_serving.catalog.compaction.compactor import Compaction, Compactor
from rf_serving.catalog.first_users import FirstUsers
from rf_serving.catalog.item_encoder import EncodedItems, ItemEncoder
from rf_serving.catalog.item_schema import Parsed
from rf_serving.catalog.mem_segment import LiveItems
from rf_serving.catalog.snapshot import CatalogSnapshot
from rf_serving.catalog.state import CatalogState
from rf_serving.threads import use_one_thread
from rf_serving.wire.ids import id_of

_AT_ONCE = 4096
_SAME = 1e-5
"""Largest difference of a vector that is the same, encoded in another batch."""
_NAMED = 20
"""Items that are named, at most: by a line of the log, and of all that do not fit."""


@dataclass(frozen=True, eq=False)
class PreparedItem:
    """Encoding of an item that is about to be recorded, by the item tower and the re-ranker behind it."""

    vector: npt.NDArray[np.float32]
    token: npt.NDArray[np.float32]
    item_state: npt.NDArray[np.floating]
    """Item state of the re-ranker."""


class LiveCatalog:
    """Follows the journal; ``snapshot`` is replaced by a newer one with every change, and no request ever waits for that.

    Changes are applied in the order of the journal, in every process alike. The newest change of an item decides what it is,
    whatever the bundle has.
    """

    snapshot: CatalogSnapshot
    """The newest one; safe from any thread."""

    def __init__(self, bundle: ServedBundle, journal: CatalogJournal, base: BaseSegment) -> None:
        self.bundle = bundle
        self.schema, self.encoder = base.schema, ItemEncoder(bundle)
        self.prepared: WeakValueDictionary[tuple[str, str], PreparedItem] = WeakValueDictionary()
        """By id and features as the journal has them; the call that encoded an item holds it until it is recorded."""
        self.unfit = 0
        """Items that were taken from the journal without some of their values, which do not fit the bundle, or not at all."""
        self.unfit_named: dict[str, str] = {}
        """Faults of the first of them, by id."""
        self.prepare: Callable[[CatalogSnapshot], None] = _nothing
        """Called in the background with a compacted catalog, before requests see it."""
        self._journal, self._lock = journal, RLock()
        self._log = structlog.get_logger("rf_serving").bind(bundle=bundle.name)
        self._state, self._sequence = CatalogState(bundle, base), base.sequence
        self._built = base if base.sequence == 0 else BaseSegment.of(bundle)
        self._store: CompactedCatalogs | None = None
        self._compactor: Compactor | None = None
        self._follower: Follower | None = None
        self.first_users: FirstUsers | None = None
        """Evidence that moves the vectors of its items; None where there is none to follow."""
        self._stale: set[str] = set()
        """Items that are to be moved by their first users, as text."""
        self._apply(journal.newest(base.sequence), self._put)
        self.snapshot = self._state.snapshot(self._sequence)

    @classmethod
    def open(
        cls,
        bundle: ServedBundle,
        journal: CatalogJournal,
        cache: Path | None = None,
        *,
        device: str = "cpu",
        compaction: Compaction | None = None,
    ) -> "LiveCatalog":
        """Return the catalog of a bundle with all changes of the journal, encoded by the bundle's item tower.

        Args:
            bundle: has the catalog.
            journal: what to follow.
            cache: where compacted catalogs lie; None, or where it cannot be written: the catalog is never compacted.
            device: what searches compacted catalogs, ``RF_INDEX_DEVICE``.
            compaction: when to compact.

        Raises:
            UnavailableError: the journal cannot be read.
        """
        begin = perf_counter()
        store, base = _foundation(bundle, journal, cache, device)
        catalog = cls(bundle, journal, base)
        if store is not None:
            catalog._store = store
            catalog._compactor = Compactor(store, journal, compaction or Compaction())
        catalog._log.info(
            "catalog ready",
            items=catalog.snapshot.alive,
            sequence=catalog.snapshot.sequence,
            compacted=base.sequence,
            seconds=round(perf_counter() - begin, 3),
        )
        return catalog

    def catch_up(self) -> int:
        """Apply all changes that are recorded by now, and return the number of the last one.

        An item that cannot be encoded is left out, named by the log and counted: it keeps no other change away.

        Raises:
            UnavailableError: the journal cannot be read.
        """
        with self._lock:
            before = self._sequence
            try:
                self._apply(self._journal.read(before), self._take)
            finally:
                if self._sequence != before:
                    self.snapshot = self._state.snapshot(self._sequence)
            return self._sequence

    def learn_from(self, first_users: FirstUsers) -> None:
        """Move the items' vectors by their first users, now and with :meth:`learn`."""
        with self._lock:
            self.first_users = first_users
        self.learn()

    def learn(self) -> int:
        """Move the vectors of items with new first users; return how many have moved.

        Raises:
            UnavailableError: the registry cannot be read.
        """
        with self._lock:
            if self.first_users is None:
                return 0
            self._stale |= self.first_users.catch_up()
            due = sorted(self._stale)
        moved = 0
        for start in range(0, len(due), _AT_ONCE):
            with self._lock:  # changes are not to wait for all of them
                some = due[start : start + _AT_ONCE]
                moved += (now := self._move(some))
                self._stale.difference_update(some)
                if now:
                    if self._state.crowded:
                        self._state = self._state.tidied()
                    self.snapshot = self._state.snapshot(self._sequence)
        return moved

    def reach(self, sequence: int) -> None:
        """Bring the snapshot up to the change of a number; reads the journal only if the snapshot lacks it.

        Raises:
            UnavailableError: the journal cannot be read.
        """
        if self.snapshot.sequence < sequence:
            self.catch_up()

    def follow(self) -> None:
        """Start following changes of other processes, and compacting the catalog when due."""
        assert self._follower is None
        self._follower = Follower(self, self._compactor)

    def close(self) -> None:
        """Stop following; the snapshot stays usable."""
        if self._follower is not None:
            self._follower.close()
        if self._store is not None:
            self._store.close()
        # Both hold this catalog: nothing but its users keeps it, and its open files, from now on.
        self._follower, self.prepare = None, _nothing

    def swap_base(self, base: BaseSegment) -> None:
        """Swap in a compacted catalog as base segment; its last change is in this catalog, later ones are carried over."""
        self.prepare(CatalogState(self.bundle, base).snapshot(base.sequence))
        with self._lock:
            assert base.sequence <= self._sequence
            if self.first_users is not None:  # the base may be older than what moved since
                self._stale |= self.first_users.items
            self._state = self._state.moved_to(base)
            self.snapshot = self._state.snapshot(self._sequence)

    def _apply(self, entries: Iterable[Entry], put: Callable[[Mapping[int | str, Entry]], None]) -> None:
        rest = iter(entries)
        while some := list(islice(rest, _AT_ONCE)):
            newest = {entry.item_id: entry for entry in some}
            if self.first_users is not None:  # also of those that came back at once
                self.first_users.forget(entry.item_id for entry in some if entry.features is None)
            ids = {text: self._id(text) for text in newest}
            # The journal may go back to a spec with item ids of another type.
            self._report("item ids of another type", {text: () for text, item in ids.items() if item is None})
            known = {item: newest[text] for text, item in ids.items() if item is not None}
            upserts = {item: entry for item, entry in known.items() if entry.features is not None}
            if upserts:
                put(upserts)
            deleted = {item: entry.sequence for item, entry in known.items() if entry.features is None}
            self._state.remove(deleted)
            self._sequence = some[-1].sequence

    def _id(self, text: str) -> int | str | None:
        return id_of(text, self.bundle.spec.item.id_type)

    def _take(self, upserts: Mapping[int | str, Entry]) -> None:
        """Put items, one by one where one of them breaks the others; what cannot be encoded at all is removed."""
        try:
            self._put(upserts)
        except Exception:
            if len(upserts) > 1:
                for item, entry in upserts.items():
                    self._take({item: entry})
                return
            self._log.exception("encoding failed", item_ids=[str(item) for item in upserts])
            self._report("items cannot be encoded", dict.fromkeys(upserts, ()))
            self._state.remove({item: entry.sequence for item, entry in upserts.items()})

    def _put(self, upserts: Mapping[int | str, Entry]) -> None:
        items, entries = list(upserts), list(upserts.values())
        parsed = [self.schema.parse(entry.features or "{}") for entry in entries]
        self._complete(items, parsed)
        table = self.schema.table(items, [each.values for each in parsed])
        encoded = self._encode(entries, table)
        self._report(
            "values do not fit", {item: each.unfit for item, each in zip(items, parsed, strict=True) if each.unfit}
        )
        rows = np.flatnonzero(encoded.usable_N)
        self._put_rows(rows, items, [entry.sequence for entry in entries], table, encoded, self._moved(items, encoded))
        # Checked when they were recorded, but by another bundle's item tower.
        unusable = {items[row]: entries[row].sequence for row in np.flatnonzero(~encoded.usable_N).tolist()}
        self._report("items without a usable vector", dict.fromkeys(unusable, ()))
        self._state.remove(unusable)

    def _moved(self, items: Sequence[int | str], encoded: EncodedItems) -> npt.NDArray[np.float32]:
        vectors_ND = encoded.vectors_ND
        return vectors_ND if self.first_users is None else self.first_users.moved(items, vectors_ND)

    def _move(self, texts: Sequence[str]) -> int:
        """Put items again where their first users have moved them; what they are stays."""
        snapshot = self._state.snapshot(self._sequence)
        names = [item for item in map(self._id, texts) if item is not None]
        rows = snapshot.rows_of(names)
        there = np.flatnonzero(snapshot.live(rows))
        if not len(there):
            return 0
        items, rows = [names[place] for place in there.tolist()], rows[there]
        table = self.schema.table(items, snapshot.values(rows))
        encoded = self.encoder.encode(table)
        moved_ND = self._moved(items, encoded)
        other_N = np.abs(moved_ND - snapshot.vectors(rows)).max(axis=1) > _SAME
        chosen = np.flatnonzero(encoded.usable_N & other_N)
        if len(chosen):
            self._put_rows(chosen, items, snapshot.sequences(rows), table, encoded, moved_ND)
        return len(chosen)

    def _put_rows(
        self,
        rows: npt.NDArray[np.int64],
        items: Sequence[int | str],
        sequences: Sequence[int],
        table: pa.Table,
        encoded: EncodedItems,
        vectors_ND: npt.NDArray[np.float32],
    ) -> None:
        self._state.put(
            LiveItems(
                ids=[items[row] for row in rows.tolist()],
                sequences=[sequences[row] for row in rows.tolist()],
                table=table.take(rows),
                vectors=vectors_ND[rows],
                tokens=encoded.tokens_NE[rows],
                item_states=encoded.item_states_NW[rows],
            )
        )

    def _complete(self, items: Sequence[int | str], parsed: Sequence[Parsed]) -> None:
        """Fill fields that came after a change with the values that the bundle was built with."""
        row_of = self.bundle.row_of_item
        partly = [place for place, each in enumerate(parsed) if each.unsaid and items[place] in row_of]
        if partly:
            rows = np.array([row_of[items[place]] for place in partly], np.int64)
            for place, built in zip(partly, self._built.values(rows), strict=True):
                values, _, unsaid = parsed[place]
                values.update({name: value for name, value in built.items() if name in unsaid})

    def _report(self, event: str, unfit: Mapping[int | str, Sequence[str]]) -> None:
        """Count items that are not taken in as they were recorded, and name some."""
        if not unfit:
            return
        self.unfit += len(unfit)
        for item, names in islice(unfit.items(), _NAMED - len(self.unfit_named)):
            self.unfit_named[str(item)] = f"{event}: {', '.join(names)}" if names else event
        fields = sorted({name for names in unfit.values() for name in names})
        named = [str(item) for item in islice(unfit, _NAMED)]
        self._log.warning(event, items=len(unfit), item_ids=named, **({"fields": fields} if fields else {}))

    def _encode(self, entries: Sequence[Entry], table: pa.Table) -> EncodedItems:
        ready = [self.prepared.get((entry.item_id, entry.features or "")) for entry in entries]
        if any(found is None for found in ready):
            return self.encoder.encode(table)
        items = [found for found in ready if found is not None]
        vectors, tokens = np.stack([item.vector for item in items]), np.stack([item.token for item in items])
        return EncodedItems(
            vectors, tokens, np.stack([item.item_state for item in items]), np.ones(len(items), np.bool_)
        )


def _foundation(
    bundle: ServedBundle, journal: CatalogJournal, cache: Path | None, device: str
) -> tuple[CompactedCatalogs | None, BaseSegment]:
    if cache is not None:
        try:
            store = CompactedCatalogs(cache, bundle, device)
            return store, store.resume(journal) or store.bundle_base()
        except OSError as error:
            structlog.get_logger("rf_serving").warning(
                "catalog is not compacted",
                error=str(error),
                remedy=f"make {cache} writable; searches slow down with every change",
            )
    return None, BaseSegment.of(bundle)


def _nothing(_: CatalogSnapshot) -> None:
    pass


POLL_SECONDS = 0.15
"""A change is searchable everywhere within this time, and what it takes to encode it."""


class Follower:
    """Calls ``catch_up`` of a catalog again and again, and lets it be compacted; says once when the journal cannot be read."""

    def __init__(self, catalog: LiveCatalog, compactor: Compactor | None) -> None:
        self._catalog, self._compactor = catalog, compactor
        self._log = structlog.get_logger("rf_serving").bind(bundle=catalog.bundle.name)
        self._ended = Event()
        self._thread = Thread(target=self._run, name="rf-follow", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End the thread, and a compaction that is going on."""
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        use_one_thread()
        following = True
        while not self._ended.wait(POLL_SECONDS):
            try:
                self._catalog.catch_up()
                self._catalog.learn()
                if self._compactor is not None:
                    self._compactor.step(self._catalog)
                if not following:
                    self._log.info("journal is back", sequence=self._catalog.snapshot.sequence)
                following = True
            except RfError as error:
                if following:
                    self._log.warning(
                        "journal cannot be read", error=str(error), remedy="changes appear when it is back"
                    )
                following = False
            except Exception:
                if following:
                    self._log.exception("following the journal failed")
                following = False
        if self._compactor is not None:
            self._compactor.close()
