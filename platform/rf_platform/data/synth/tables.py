"""Write a synthetic catalog as an import would: tables of interactions, items and users, and ``import.json``.

With ``browsing`` there is one more, a state of users that changes with every event and tells what they choose next.
"""

from collections.abc import Iterable
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from rf_platform.cli.console import track
from rf_platform.data.importer import check_catalog, column_types
from rf_platform.data.replacing import replacing
from rf_platform.data.report import ImportReport
from rf_platform.data.specs import TABLES, EventTime
from rf_platform.data.synth.catalog import BRANDS_PER_CATEGORY, SynthCatalog, make_catalog
from rf_platform.data.synth.choices import EVENT_TYPES, SynthEvents, make_events
from rf_platform.data.synth.options import SynthOptions
from rf_platform.data.synth.users import AGE_GROUPS, ARCHETYPES, COUNTRIES, SynthUsers, activity, make_users, tastes
from rf_platform.data.write import TableWriter, sha256
from rf_platform.failures import writing
from rf_platform.workspace import Workspace

BROWSING = "browsing.parquet"
CATALOG = "synthetic"
"""Name of the catalog, and of the feature repository that comes with the platform for it."""
_TIME = pa.timestamp("us", tz="UTC")
_SECOND, _HOUR, _DAY = 1_000_000, 3_600_000_000, 86_400_000_000
_ITEMS_AT_ONCE = 131_072


def synthesise(options: SynthOptions, *, workspace: Workspace, replace: bool = False) -> ImportReport:
    """Write a synthetic catalog into ``workspace.tables``; memory does not grow with the number of events.

    Args:
        options: sizes and seed.
        workspace: receives the tables; on any error the earlier ones stay untouched.
        replace: allow to replace the tables of another catalog.

    Raises:
        UsageError: the workspace holds another catalog.
        UnavailableError: an import into this workspace is running, or the disk is full: an event takes about 15 bytes.
    """
    with replacing(workspace.tables) as fresh:
        check_catalog(workspace, CATALOG, replace)
        with writing(workspace.tables, "make fewer events or choose another disk with rf --home DIR"):
            report = _write(options, workspace.tables, fresh)
        report.save(fresh)
    return report


def _write(options: SynthOptions, tables: Path, fresh: Path) -> ImportReport:
    catalog = make_catalog(options)
    likes, events = tastes(options, catalog), activity(options)
    with track("synth", options.events) as progress:
        with TableWriter(fresh / "items.parquet") as items:
            for start in range(0, options.items, _ITEMS_AT_ONCE):
                stop = min(start + _ITEMS_AT_ONCE, options.items)
                items.write(_items(catalog, start, stop))
                progress.advance(0, note=f"{stop:,} items")
        first, last = np.iinfo(np.int64).max, 0
        with ExitStack() as stack:
            users_file = stack.enter_context(TableWriter(fresh / "users.parquet"))
            events_file = stack.enter_context(TableWriter(fresh / "interactions.parquet"))
            browsing_file = stack.enter_context(TableWriter(fresh / BROWSING)) if options.browsing else None
            for block in range(options.blocks):
                users = make_users(options, catalog, likes, events, block)
                made = make_events(options, catalog, users, block)
                users_file.write(_users(users))
                events_file.write(_interactions(made, before=events_file.rows))
                if browsing_file is not None:
                    browsing_file.write(_browsing(catalog, made))
                first, last = min(first, int(made.timestamp.min())), max(last, int(made.timestamp.max()))
                progress.advance(len(made.user), note=f"{events_file.rows:,} events")
        names = [f"{table}.parquet" for table in TABLES] + ([BROWSING] if options.browsing else [])
        assert events_file.rows == options.events
    return ImportReport(
        name=CATALOG,
        source="synth",
        path=str(tables.absolute()),
        feature_repo=CATALOG,
        time=EventTime.OBSERVED.value,
        counts={
            "interactions": options.events,
            "items": options.items,
            "users": options.users,
            "active_users": options.users,
            "quarantined": 0,
        },
        inputs=(),
        files={name: sha256(fresh / name) for name in names},
        columns={table: column_types(fresh / f"{table}.parquet") for table in TABLES},
        display=("title",),
        first_event=_iso(first),
        last_event=_iso(last),
        notes=(f"synthetic: made by `{options.describe()}`",),
        imported_at=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def _items(catalog: SynthCatalog, start: int, stop: int) -> pa.Table:
    rows = slice(start, stop)
    ids = pa.array(np.arange(start + 1, stop + 1))
    brands = (f"brand-{n:04d}" for n in range(catalog.categories * BRANDS_PER_CATEGORY))
    tags = np.sort(catalog.tags[rows], axis=1)
    distinct = np.diff(tags, axis=1, prepend=-1) > 0
    offsets = np.concatenate([[0], np.cumsum(distinct.sum(axis=1))]).astype(np.int32)
    names = _named((f"tag-{n:04d}" for n in range(catalog.tag_count)), tags[distinct])
    return pa.table(
        {
            "item_id": ids,
            "event_timestamp": pa.array(catalog.entry[rows], _TIME),
            "title": pc.binary_join_element_wise("Item", ids.cast(pa.string()), " "),
            "category": _categories(catalog, catalog.cell[rows]),
            "brand": _named(brands, catalog.brand[rows]),
            "tags": pa.ListArray.from_arrays(offsets, names),
            "price": pa.array(catalog.price[rows]),
        }
    )


def _users(users: SynthUsers) -> pa.Table:
    return pa.table(
        {
            "user_id": pa.array(np.arange(users.first + 1, users.first + len(users) + 1)),
            "event_timestamp": pa.array(users.joined, _TIME),
            "segment": _named((f"segment-{n:02d}" for n in range(ARCHETYPES)), users.segment),
            "age_group": _named(AGE_GROUPS, users.age_group),
            "country": _named(COUNTRIES, users.country),
        }
    )


def _interactions(events: SynthEvents, before: int) -> pa.Table:
    n = len(events.user)
    return pa.table(
        {
            "user_id": pa.array(events.user + 1),
            "item_id": pa.array(events.item + 1),
            "event_timestamp": pa.array(events.timestamp, _TIME),
            "event_type": _named(EVENT_TYPES, events.event_type),
            "rating": pa.nulls(n, pa.float32()),
            "hour": pa.array(events.timestamp // _HOUR % 24),
            "weekday": pa.array((events.timestamp // _DAY + 3) % 7),  # 1970 began on a Thursday
            "input_order": pa.array(np.arange(before, before + n)),
        }
    )


def _browsing(catalog: SynthCatalog, events: SynthEvents) -> pa.Table:
    """Return the category opened a second before each choice: that of the item chosen."""
    return pa.table(
        {
            "user_id": pa.array(events.user + 1),
            "event_timestamp": pa.array(events.timestamp - _SECOND, _TIME),
            "opened": _categories(catalog, catalog.cell[events.item]),
        }
    )


def _categories(catalog: SynthCatalog, cells: npt.NDArray[np.integer]) -> pa.Array:
    return _named((f"category-{n:03d}" for n in range(catalog.categories)), cells // catalog.styles)


def _named(names: Iterable[str], codes: npt.NDArray[np.integer]) -> pa.Array:
    return pa.array(list(names), pa.string()).take(pa.array(codes))


def _iso(microseconds: int) -> str:
    return datetime.fromtimestamp(microseconds // 1_000_000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
