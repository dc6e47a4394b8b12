"""Stage "fetch" for an anonymous session: everything known comes with the request."""

from collections.abc import Mapping, Sequence
from itertools import compress
from typing import Any

import numpy as np
import numpy.typing as npt

from rf_platform.errors import UsageError
from rf_platform.features.dtype import Dtype
from rf_platform.features.field_rule import FieldRule, rules_of
from rf_platform.features.meanings import DEFAULT_TYPE, EVENT_TYPE, SEEN, Meaning, MeaningRule, columns_of, meaning_of
from rf_platform.features.spec import FeatureSpec
from rf_platform.text import shown
from rf_platform.time_units import mistaken_unit
from rf_protos.v1.retrieval_pb2 import Interaction, Session
from rf_serving.bundle.served import ServedBundle
from rf_serving.catalog.snapshot import CatalogSnapshot
from rf_serving.index.vector_index import NO_ROW
from rf_serving.user_features.features import SeenEvents, UserFeatures
from rf_serving.user_features.offered import OfferedFeatures
from rf_serving.wire.ids import parse_id
from rf_serving.wire.values import ValueReader


class SessionReader:
    """Checks a session against the bundle's FeatureSpec and catalog; of features that came after the bundle, the types alone."""

    def __init__(self, bundle: ServedBundle, offered: OfferedFeatures | None = None) -> None:
        self._bundle, now = bundle, offered or OfferedFeatures()
        spec, encoder = bundle.spec, bundle.encoder
        context = [f for f in spec.inputs("context") if f.kind != "timestamp"]  # these come as timestamp_us
        profile_rules, context_rules = (
            rules_of(fields, encoder.widths, encoder.numeric) for fields in (spec.inputs("user"), context)
        )
        self._profile = ValueReader(profile_rules, lambda: now.profile)
        # Closes over no reader, which would keep its bundle until a collection of cycles.
        self._meanings = meanings = _Meanings(spec, now)
        self._context = ValueReader(context_rules, lambda: {**meanings.unkept(), **now.context})

    def read(self, session: Session, catalog: CatalogSnapshot, *, events: bool = False) -> UserFeatures:
        """Return the session's features: in the history are the wanted interactions, those that were only seen beside it.

        Args:
            session: what came with the request.
            catalog: knows its items; others are unknown, or refused where the session is strict.
            events: whether types and times of what was seen are needed.

        Raises:
            UsageError: an id, a feature name, a value or the order of times is wrong; the message begins with the field's path,
                such as ``session.history[3].item_id``.
        """
        history = session.history
        items = [
            parse_id(each.item_id, self._bundle.spec.item.id_type, f"session.history[{i}].item_id")
            for i, each in enumerate(history)
        ]
        unknown = self._unknown(items, catalog, strict=session.strict)
        profile, timestamps = self._profile.values(session.profile, "session.profile"), _timestamps(list(history))
        context = self._context.columns([each.context for each in history], "session.history[{}].context")
        if not self._meanings.rules and not events:
            return UserFeatures(profile=profile, items=items, timestamps=timestamps, context=context, unknown=unknown)
        meanings = self._meanings.of(context, len(items))
        kept = [meaning == "wanted" for meaning in meanings]
        seen = [m in SEEN and (events or m != "wanted") for m in meanings]
        beside = list(compress(items, seen))
        ids = self._bundle.spec.item.id_type
        return UserFeatures(
            profile=profile,
            items=list(compress(items, kept)),
            timestamps=None if timestamps is None else timestamps[kept],
            context={name: list(compress(column, kept)) for name, column in context.items()},
            seen=np.array(beside, np.int64) if ids == "int64" else [str(item) for item in beside],
            seen_events=self._events(context, timestamps, seen) if events else None,
            unknown=unknown,
        )

    def _events(
        self, context: Mapping[str, Sequence[Any]], timestamps: npt.NDArray[np.int64] | None, seen: Sequence[bool]
    ) -> SeenEvents:
        types = [event[EVENT_TYPE] for event in self._meanings.events(context, len(seen))]
        seconds = np.zeros(len(seen), np.int64) if timestamps is None else timestamps // 1_000_000
        return SeenEvents(np.array(list(compress(types, seen)), object), seconds[np.array(seen, np.bool_)])

    def _unknown(self, items: Sequence[int | str], catalog: CatalogSnapshot, *, strict: bool) -> list[str]:
        """Return the ids of which the catalog never had an item, in order, each once."""
        unknown: dict[int | str, int] = {}
        for position, item in enumerate(items):
            if catalog.row_of(item) == NO_ROW:
                unknown.setdefault(item, position)
        if strict and unknown:
            item, position = next(iter(unknown.items()))
            raise UsageError(
                f"session.history[{position}].item_id: {shown(str(item))} is not an item of the catalog of bundle "
                f"'{self._bundle.name}'; without `strict` such interactions are left out"
            )
        return [str(item) for item in unknown]


class _Meanings:
    """Meanings of the interactions of a session, by the rules of the definitions now, which stored histories follow, too."""

    def __init__(self, spec: FeatureSpec, now: OfferedFeatures) -> None:
        self._spec, self._now, self._kept = spec, now, {f.name: str(f.of) for f in spec.history}

    @property
    def rules(self) -> tuple[MeaningRule, ...]:
        return self._spec.meanings if self._now.meanings is None else self._now.meanings

    @property
    def _columns(self) -> dict[str, str]:
        return {**self._kept, **self._now.columns}

    def unkept(self) -> dict[str, FieldRule]:
        """Return what columns may have that decide a meaning and are in no history, by their own names."""
        kept = self._columns.values()
        return {
            name: FieldRule(dtype=Dtype("String" if name == EVENT_TYPE else "Float64"))
            for name in columns_of(self.rules)
            if name not in kept
        }

    def of(self, context: Mapping[str, Sequence[Any]], count: int) -> list[Meaning]:
        """Return the meaning of each of ``count`` interactions, by the columns of their contexts."""
        rules = self.rules
        return [meaning_of(rules, event) for event in self.events(context, count)]

    def events(self, context: Mapping[str, Sequence[Any]], count: int) -> list[dict[str, Any]]:
        """Return the columns of each of ``count`` interactions, the type of event among them."""
        columns = self._columns
        events: list[dict[str, Any]] = [{} for _ in range(count)]
        for name, values in context.items():
            for event, value in zip(events, values, strict=True):
                if value is not None:
                    event[columns.get(name, name)] = value
        return [{EVENT_TYPE: DEFAULT_TYPE, **event} for event in events]


def _timestamps(history: list[Interaction]) -> npt.NDArray[np.int64] | None:
    times = np.array([each.timestamp_us for each in history], np.int64)
    if not times.any():
        return None
    if (wrong := np.flatnonzero(times <= 0)).size:
        value = int(times[wrong[0]])
        raise UsageError(
            f"session.history[{wrong[0]}].timestamp_us: {value} is given beside interactions with a time; give all of them "
            f"one, in microseconds since 1970, or none"
        )
    for place in (0, len(times) - 1):
        if unit := mistaken_unit(int(times[place])):
            raise UsageError(f"session.history[{place}].timestamp_us: {unit}")
    if (wrong := np.flatnonzero(np.diff(times) < 0)).size:
        raise UsageError(
            f"session.history[{wrong[0] + 1}].timestamp_us: {times[wrong[0] + 1]} is earlier than the interaction before it; "
            f"send the oldest first"
        )
    return times
