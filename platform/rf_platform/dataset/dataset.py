"""Dataset version on disk, opened for reading: its events, its training counts, the fingerprint of its content."""

import hashlib
import io
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from rf_platform.dataset.array_file import data_bytes
from rf_platform.dataset.aside import Aside
from rf_platform.dataset.protocols.event_log import HISTORY, TEST, TRAIN, VALIDATION
from rf_platform.dataset.user_chunks import release, user_chunks
from rf_platform.errors import CorruptError, NotFoundError
from rf_platform.failures import read_json, reading
from rf_platform.features.encode import FeatureEncoder
from rf_platform.features.spec import ITEM_ID_DOMAIN, FeatureSpec
from rf_platform.features.vocabulary import FIRST_ID
from rf_platform.sql import identifier, pattern_literal

if TYPE_CHECKING:
    from rf_platform.registry import DatasetRecord, Registry


@dataclass(frozen=True, kw_only=True, eq=False)
class TrainingCounts:
    """Training events, counted in one pass over the log that holds some users at a time."""

    of_user: npt.NDArray[np.int64]
    """``[users]``; they come first among the user's events."""
    of_item: npt.NDArray[np.int64]
    """``[items]``"""

    @classmethod
    def of(
        cls,
        offsets: npt.NDArray[np.int64],
        item: npt.NDArray[np.int32],
        split: npt.NDArray[np.int8],
        n_items: int,
    ) -> "TrainingCounts":
        """Count the training events of a log.

        Args:
            offsets: ``[users + 1]``: user ``u`` owns the events ``offsets[u]`` to ``offsets[u + 1]``.
            item: ``[events]``: item row.
            split: ``[events]``: code of the split.
            n_items: size of the catalog.
        """
        of_user, of_item = np.zeros(len(offsets) - 1, np.int64), np.zeros(n_items, np.int64)
        for chunk in user_chunks(offsets):
            train = np.asarray(split[chunk.events]) == TRAIN
            upto = np.concatenate([[0], np.cumsum(train)])
            bounds = np.asarray(offsets[chunk.users.start : chunk.users.stop + 1]) - chunk.events.start
            of_user[chunk.users] = np.diff(upto[bounds])
            of_item += np.bincount(np.asarray(item[chunk.events])[train], minlength=n_items)
            release(item, split)
        return cls(of_user=of_user, of_item=of_item)


__all__ = ["FORMAT", "HISTORY", "TEST", "TRAIN", "VALIDATION", "Dataset", "Sequences"]

FORMAT = 1
_REBUILD = "build it again with `rf dataset build`"


@dataclass(frozen=True)
class Sequences:
    """All wanted events, memory-mapped, ordered by user, time and input order."""

    offsets: np.ndarray
    """int64 [users + 1]: user ``u`` owns the events ``offsets[u]`` to ``offsets[u + 1]``."""
    item: np.ndarray
    """int32 [events]: row in :attr:`Dataset.item_ids`."""
    item_version: np.ndarray
    """int32 [events]: row in :attr:`Dataset.items`, the item's features as they were known just before the event."""
    user_version: np.ndarray
    """int32 [events]: row in :attr:`Dataset.users`, the user's features as they were known just before the event."""
    context: np.ndarray
    """int32 [events]: row in :attr:`Dataset.contexts`, the categorical context of the interaction itself."""
    context_numbers: np.ndarray
    """float32 [events, numeric context features], raw; timestamps are absent here, see :attr:`timestamp`."""
    timestamp: np.ndarray
    """int64 [events]: microseconds since 1970, UTC."""
    split: np.ndarray
    """int8 [events]: 0 training, 1 validation target, 2 test target, 3 in the history of a target but not trained on.

    A user's training events come first; after them there is at most one validation and then at most one test target.
    """
    aside: Aside | None = None
    """Events that are in no history; None where all events are wanted."""
    hidden: np.ndarray | None = None
    """bool [items]: items that are not recommendable, which no ranking has; None where there are none."""

    @classmethod
    def open(cls, directory: Path) -> "Sequences":
        """Memory-map the arrays of a dataset version."""
        with reading(directory, _REBUILD):
            names = [name for name in cls.__dataclass_fields__ if name not in ("aside", "hidden")]
            arrays = {name: np.load(directory / f"{name}.npy", mmap_mode="r") for name in names}
            return cls(**arrays, aside=Aside.open(directory))


@dataclass(frozen=True)
class Dataset:
    """A dataset version: enriched events, item and user tables, vocabularies, spec, statistics and fingerprint."""

    path: Path
    manifest: dict[str, Any]
    spec: FeatureSpec
    grown_encoder: Path | None = None
    """Id maps and statistics that go on from an earlier model, to read the dataset with; None for the dataset's own."""

    @classmethod
    def open(cls, path: Path, grown_encoder: Path | None = None) -> "Dataset":
        """Open a dataset version; that of a run is opened by :func:`rf_platform.dataset.run_dataset.open_run_dataset`.

        Raises:
            NotFoundError: there is none at ``path``.
            CorruptError: its files do not belong together.
        """
        if not (path / "manifest.json").is_file():
            raise NotFoundError(f"no dataset at {path}; build one with `rf dataset build`")
        manifest = read_json(path / "manifest.json", _REBUILD)
        if manifest.get("format") != FORMAT:
            raise CorruptError(
                f"{path} has dataset format {manifest.get('format')}; this version reads {FORMAT}: rebuild it"
            )
        spec = FeatureSpec.load(path / "spec.json")
        if spec.hash != manifest["spec_hash"]:
            raise CorruptError(
                f"{path}/spec.json was changed after the dataset was built; rebuild it with `rf dataset build`"
            )
        return cls(path=path, manifest=manifest, spec=spec, grown_encoder=grown_encoder)

    @property
    def name(self) -> str:
        """Name of this version."""
        return str(self.manifest["name"])

    @property
    def fingerprint(self) -> str:
        """Hash of the content: equal inputs give an equal fingerprint."""
        return str(self.manifest["fingerprint"])

    @property
    def protocol(self) -> dict[str, Any]:
        """Name and parameters of the protocol that split the events, and what followed from them, such as the time of a cut."""
        found: dict[str, Any] = self.manifest.get("protocol", {"name": "leave-one-out"})  # the first datasets name none
        return found

    @property
    def n_items(self) -> int:
        """Size of the whole catalog, items never interacted with included."""
        return int(self.manifest["counts"]["items"])

    @cached_property
    def training_counts(self) -> TrainingCounts:
        """Numbers of training events of every user and every item."""
        log = self.sequences
        return TrainingCounts.of(log.offsets, log.item, log.split, self.n_items)

    @cached_property
    def trained_items(self) -> np.ndarray:
        """bool [items]: whether the item has a training event; the others are cold.

        With id maps that go on from an earlier model, an item that they know had one then, and is not cold either.
        """
        trained = self.training_counts.of_item > 0
        ids = self.encoder.vocabularies[ITEM_ID_DOMAIN]
        if self.grown_encoder is not None and ids.domain.buckets is None:
            trained |= ids.encode(pa.array(self.item_ids)) >= FIRST_ID
        return trained

    @cached_property
    def targets(self) -> dict[str, dict[str, int]]:
        """Held-out events: of ``validation`` and of ``test`` the number of ``warm`` and of ``cold`` ones."""
        log, trained = self.sequences, self.trained_items
        counts = {name: {"warm": 0, "cold": 0} for name in ("validation", "test")}
        for chunk in user_chunks(log.offsets):
            split, item = np.asarray(log.split[chunk.events]), log.item[chunk.events]
            for name, code in (("validation", VALIDATION), ("test", TEST)):
                warm = trained[item[split == code]]
                counts[name]["warm"] += int(np.count_nonzero(warm))
                counts[name]["cold"] += int(np.count_nonzero(~warm))
            release(log.split, log.item)
        return counts

    @cached_property
    def sequences(self) -> Sequences:
        """All events, memory-mapped."""
        return replace(Sequences.open(self.path / "sequences"), hidden=self._hidden_items())

    @cached_property
    def encoder(self) -> FeatureEncoder:
        """Vocabularies and statistics of the training split, or those that go on from an earlier model."""
        return FeatureEncoder.load(self.spec, self.grown_encoder or self.path / "encoder")

    @cached_property
    def items(self) -> pa.Table:
        """Item versions: ``item`` (row in :attr:`item_ids`), the id, ``current``, ``evaluation``, features by full name."""
        return self._table("items")

    @cached_property
    def users(self) -> pa.Table:
        """User versions: ``user`` (row in :attr:`user_ids`), the id, ``current``, ``evaluation``, features by full name."""
        return self._table("users")

    @cached_property
    def contexts(self) -> pa.Table:
        """Distinct combinations of the categorical context features, raw, by full name."""
        return self._table("contexts")

    @cached_property
    def current_items(self) -> np.ndarray:
        """int64 [items]: the newest version of each item, a row in :attr:`items`: what is indexed and served."""
        return _flagged(self._columns("items", "item", "current"), "item", "current")

    @cached_property
    def evaluation_items(self) -> np.ndarray:
        """int64 [items]: the version of each item to evaluate with, a row in :attr:`items`.

        The state that the item's latest training event saw, so that no feature tells of held-out events; for an item that
        training never met, its first state.
        """
        return _flagged(self._columns("items", "item", "evaluation"), "item", "evaluation")

    @cached_property
    def item_of_version(self) -> np.ndarray:
        """int32 [item versions]: the item of each row in :attr:`items`, as a row in :attr:`item_ids`."""
        items: np.ndarray = self._columns("items", "item")["item"].to_numpy()
        return items

    @cached_property
    def item_ids(self) -> np.ndarray:
        """[items]: ids of the whole catalog, items never interacted with included; sorted."""
        key = self.spec.item.join_key
        return _ids(self._columns("items", "item", "current", key), "item", key)

    @cached_property
    def user_ids(self) -> np.ndarray:
        """[users]: ids of all users with wanted events; sorted."""
        key = self.spec.user.join_key
        return _ids(self._columns("users", "user", "current", key), "user", key)

    def _hidden_items(self) -> np.ndarray | None:
        """Return which items are not recommendable, in the version to evaluate with; None where all are."""
        if (field := self.spec.recommendable) is None:
            return None
        versions = self._columns("items", "item", "evaluation", field.name)
        said = versions[field.name].cast(pa.int64()).fill_null(1).to_numpy()
        hidden: np.ndarray = said[_flagged(versions, "item", "evaluation")] == 0
        return hidden if hidden.any() else None

    def _columns(self, table: str, *columns: str) -> pa.Table:
        """Return some columns of the items or users; reading all can cost much more."""
        return self._table(table, columns)

    def _table(self, name: str, columns: Sequence[str] | None = None) -> pa.Table:
        path = self.path / f"{name}.parquet"
        with reading(path, _REBUILD):
            return pq.read_table(path, columns=None if columns is None else list(columns))

    def record(self, registry: "Registry") -> "DatasetRecord":
        """Record the version, just built or found again, in the registry.

        Raises:
            UsageError: runs were trained on a version of this name with another fingerprint, or the name is not usable.
        """
        return registry.record_dataset(
            name=self.name,
            version=self.manifest["version"],
            path=self.path,
            fingerprint=self.fingerprint,
            spec_hash=self.spec.hash,
            counts=self.manifest["counts"],
        )

    def enriched(self, limit: int | None = None) -> pa.Table:
        """Return the events joined with every feature as it was known just before them: one wide row per event."""
        spec, path = self.spec, self.path
        user, item = spec.user.join_key, spec.item.join_key
        features = [f"i.{identifier(f.name)}" for f in spec.carried("item")]
        features += [f"u.{identifier(f.name)}" for f in spec.carried("user")]
        with duckdb.connect() as connection:
            connection.execute("SET TimeZone = 'UTC'")
            events, items, users = (
                f"read_parquet({pattern_literal(path / f'{n}.parquet')})" for n in ("events", "items", "users")
            )
            return connection.execute(
                f"""SELECT u.{identifier(user)}, i.{identifier(item)}, e.event_timestamp, {", ".join([*features, "e.split"])}
                FROM (SELECT * FROM {events} ORDER BY event {f"LIMIT {limit}" if limit else ""}) e
                JOIN {items} i ON i.version = e.item_version
                JOIN {users} u ON u.version = e.user_version
                ORDER BY e.event"""
            ).to_arrow_table()


def _flagged(versions: pa.Table, index: str, flag: str) -> np.ndarray:
    flagged = versions[flag].to_numpy()
    rows = np.empty(np.count_nonzero(flagged), np.int64)
    rows[versions[index].to_numpy()[flagged]] = np.flatnonzero(flagged)
    return rows


def _ids(versions: pa.Table, index: str, key: str) -> np.ndarray:
    ids: np.ndarray = versions[key].to_numpy()[_flagged(versions, index, "current")]
    return ids


def fingerprint(content: Path, spec: FeatureSpec) -> str:
    """Return the SHA-256, in hex, over the spec, the arrays, the tables and the vocabularies under ``content``."""
    digest = hashlib.sha256(spec.hash.encode())
    for path in sorted(content.glob("sequences/*.npy")):
        digest.update(path.name.encode())
        for part in data_bytes(path):
            digest.update(part)
    tables = [content / "items.parquet", content / "users.parquet", content / "contexts.parquet"]
    for path in [*tables, *sorted(content.glob("encoder/*.parquet"))]:
        digest.update(path.name.encode())
        # Arrow's stream form depends on the values alone; a Parquet file's bytes depend on its writer.
        table = pq.read_table(path).combine_chunks().replace_schema_metadata(None)
        with pa.PythonFile(_Hashed(digest), "w") as sink, pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table, max_chunksize=100_000)
    digest.update((content / "encoder" / "numeric.json").read_bytes())
    return digest.hexdigest()


class _Hashed(io.RawIOBase):
    """A file that goes into a hash and nowhere else."""

    def __init__(self, digest: "hashlib._Hash") -> None:
        self._digest = digest

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._digest.update(data)
        return len(data)
