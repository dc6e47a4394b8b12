"""Fit of a model and a feature store: whether the store still offers all that the model reads.

A model is bound to the fields it reads and not to the definitions as a whole: what was added since it was trained changes
nothing for it. Without this, one new feature view would stop servers from starting, and every rollback, until a model is trained
with it.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from rf_platform.features.meanings import MeaningRule, newly_wanted
from rf_platform.features.spec import DomainSpec, FeatureSpec, FieldSpec

_STORED: tuple[str, ...] = ("side", "dtype")
"""Attributes that decide the values of a field that the store no longer gives to models."""


@dataclass(frozen=True, kw_only=True)
class SpecFit:
    """Differences between the specification a model was built from and that of the feature store now."""

    unmet: tuple[str, ...] = ()
    """Fields that the model reads and the store no longer offers as they were, one phrase each; empty if the two fit."""
    added: tuple[str, ...] = ()
    """Full names of fields that came since: a model gets them from the next dataset."""
    changed: tuple[str, ...] = ()
    """Other differences that the model does not notice, one phrase each."""

    @classmethod
    def of(cls, built: FeatureSpec, now: FeatureSpec, max_history: int | None = None) -> "SpecFit":
        """Compare two specifications.

        Fields that the model reads have to be there with the same meaning: side, kind, role, dtype, embedding domain and its
        policy. A feature that is no longer given to models (another role now) still has its values online, so its dtype is
        enough; a history field is kept up by its role, so that has to stay. A history may have fewer kinds of events than when
        the model was built, and no others: what was unwanted then must not be read as a wish now. Fields that are only shown
        or kept beside the data are not read from the store. Neither is the name of the service.

        Args:
            built: what the model was built from.
            now: what the store offers.
            max_history: how many of the latest interactions the model reads; default: as many as the store kept when it was
                built.
        """
        current = {f.name: f for f in now.fields}
        unmet: list[str] = []
        changed: list[str] = []
        if built.service != now.service:
            changed.append(f"feature service {built.service!r} -> {now.service!r}")
        for was, entity in ((built.user, now.user), (built.item, now.item)):
            unmet += _phrase(f"entity {was.name}", asdict(was), asdict(entity))
        domains: dict[str, DomainSpec] = {}
        for f in built.read:
            if (found := current.get(f.name)) is None:
                unmet.append(f"field {f.name} is gone")
            elif f.role == "feature" and found.role not in ("feature", "history"):
                if stored := _phrase(f"field {f.name}", _some(f, _STORED), _some(found, _STORED)):
                    unmet += stored
                else:
                    changed.append(f"field {f.name} is {found.role} now, and still read as a feature")
            elif other := _phrase(f"field {f.name}", asdict(f), asdict(found)):
                unmet += other
            elif f.domain is not None:
                domains[f.domain] = now.domain(f.domain)
        for name, domain in sorted(domains.items()):
            unmet += _phrase(f"domain {name}", _meaning(built.domain(name)), _meaning(domain))
        if built.history:
            needed = min(built.history_length, max_history or built.history_length)
            length = f"history_length {built.history_length} -> {now.history_length}"
            if now.history_length < needed:
                unmet.append(f"{length}, and the model reads {needed} interactions")
            elif now.history_length != built.history_length:
                changed.append(length)
        if built.semantic != now.semantic:
            changed.append(f"semantic ids {_semantic(built)} -> {_semantic(now)}")
        if built.weights != now.weights:
            changed.append(f"weights of events {built.weights or 'none'} -> {now.weights or 'none'}")
        if built.meanings != now.meanings:
            example = newly_wanted(built.meanings, now.meanings) if built.history else None
            if example is not None:
                unmet.append(f"meanings of events changed: {example}, and are in the history now")
            else:
                changed.append(f"meanings of events {_listed(built.meanings)} -> {_listed(now.meanings)}")
        return cls(unmet=tuple(unmet), added=tuple(_added(built, now)), changed=tuple(changed))

    @property
    def notes(self) -> list[str]:
        """The differences that do no harm, as sentences for people; empty if there are none."""
        notes = list(self.changed)
        if self.added:
            notes.insert(0, f"new since it was built, and used from the next dataset on: {', '.join(self.added)}")
        return notes


def _added(built: FeatureSpec, now: FeatureSpec) -> Iterator[str]:
    known, read = {f.name for f in built.fields if f.role != "ignore"}, {f.name for f in built.read}
    reads_now = {f.name for f in now.read}
    for f in now.fields:
        if f.role != "ignore" and (f.name not in known or (f.name in reads_now and f.name not in read)):
            yield f.name


def _semantic(spec: FeatureSpec) -> str:
    return "none" if spec.semantic is None else f"{spec.semantic.levels}x{spec.semantic.codes}"


def _listed(meanings: tuple[MeaningRule, ...]) -> str:
    return f"[{', '.join(map(str, meanings))}]"


def _some(f: FieldSpec, names: tuple[str, ...]) -> dict[str, Any]:
    return {name: getattr(f, name) for name in names}


def _meaning(domain: DomainSpec) -> dict[str, Any]:
    return {"values": domain.value_type, "vocabulary": domain.policy}


def _phrase(what: str, was: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """Return one phrase, or none where nothing has changed."""
    changes = [f"{name} {value!r} -> {now[name]!r}" for name, value in was.items() if now[name] != value]
    return [f"{what} changed: {', '.join(changes)}"] if changes else []
