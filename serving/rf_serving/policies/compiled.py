"""A policy held against the features of a bundle: every condition checked, every id read."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from rf_platform.errors import ConfigError, UsageError
from rf_platform.features.compared import filterable
from rf_platform.features.spec import FeatureSpec
from rf_platform.policies import AllOf, AnyOf, Boost, Condition, ListDefinition, Not, Placement, Policy, read_policy
from rf_platform.policies.sources import SIMILAR
from rf_platform.registry.records import PolicyRecord
from rf_platform.text import shown
from rf_protos.v1.filter_pb2 import Predicate
from rf_serving.event_counts import CountOf, FirstOf
from rf_serving.lists import ListQuery
from rf_serving.search.condition import Clause
from rf_serving.search.filter_reader import FilterLimits, FilterReader
from rf_serving.search.written import predicate_of
from rf_serving.wire.ids import parse_id
from rf_serving.wire.values import suggestion

Where = frozenset[Clause]
"""Clauses that hold together."""
_LIMITS = FilterLimits(conditions=1000)


@dataclass(frozen=True, eq=False, kw_only=True)
class CompiledPlacement:
    """A placement in the terms of one bundle: its conditions and ids."""

    name: str
    version: int
    """Of the policy; 0: there is none."""
    placement: Placement
    eligibility: Where = frozenset()
    boosts: Sequence[tuple[Boost, Where]] = ()
    pins: Sequence[tuple[int | str, int]] = ()
    """Items with their places, 1 is the first; by place."""
    among: Where | None = None
    """Items that exploration draws from; None: those without an event when the bundle was trained."""
    lists: Mapping[str, ListQuery] = field(default_factory=dict)
    """All lists of the policy."""

    @property
    def reorders(self) -> bool:
        """Whether candidates beyond the items asked for can come into the answer."""
        return bool(self.boosts or self.placement.caps or self.placement.diversity)

    @property
    def counts(self) -> set[CountOf | FirstOf]:
        """Counts that the lists of its sources are made of."""
        named = {each.source for each in self.placement.sources.use} | {self.placement.without_user}
        return {each for name, listed in self.lists.items() if name in named for each in listed.counts}

    def co_occurrence(self, share: float) -> float:
        """Return the share of co-occurrence in the source of similar items; 0: none, or no such source.

        Args:
            share: of the deployment.
        """
        given = [each.co_occurrence for each in self.placement.sources.use if each.source == SIMILAR]
        return (share if given[0] is None else given[0]) if given else 0.0

    def wanted(self, k: int) -> int:
        """Return how many items are to be found for an answer of ``k``."""
        return max(k, self.placement.candidates if self.reorders else k) + len(self.pins)


NO_RULES = CompiledPlacement(name="", version=0, placement=Placement())
"""Rules of a request without a placement."""


@dataclass(frozen=True, eq=False, kw_only=True)
class CompiledPolicy:
    """A policy in the terms of one bundle."""

    version: int
    policy: Policy
    placements: Mapping[str, CompiledPlacement] = field(default_factory=dict)
    lists: Mapping[str, ListQuery] = field(default_factory=dict)

    @property
    def counts(self) -> set[CountOf | FirstOf]:
        """Counts that its lists are made of."""
        return {each for listed in self.lists.values() for each in listed.counts}

    @classmethod
    def of(cls, record: PolicyRecord, bundle: str, spec: FeatureSpec, goals: Sequence[str] = ()) -> "CompiledPolicy":
        """Compile a version of the registry for a bundle.

        Args:
            record: the version.
            bundle: name of the bundle, for messages.
            spec: features of the bundle.
            goals: goals of its model; empty without any.

        Raises:
            ConfigError: it does not fit the bundle, or this version of the code cannot read it; the message names the fields.
        """
        try:
            return cls.compile(read_policy(record.text, record.name), spec, record.version, goals)
        except UsageError as error:
            raise ConfigError(
                f"{record.name} does not fit bundle '{bundle}': {error}; change it and run `rf policy apply`"
            ) from error

    @classmethod
    def compile(
        cls, policy: Policy, spec: FeatureSpec, version: int = 0, goals: Sequence[str] = ()
    ) -> "CompiledPolicy":
        """Hold a policy against the features of a bundle, and the goals of its model.

        Raises:
            UsageError: a condition, a feature, a goal or an id does not fit; the message begins with its path.
        """
        compiler = _Compiler(spec, version, goals)
        lists = {name: compiler.listed(name, each) for name, each in policy.lists.items()}
        placements = {name: compiler.placement(name, each, lists) for name, each in policy.placements.items()}
        return cls(version=version, policy=policy, placements=placements, lists=lists)

    def placement(self, name: str) -> CompiledPlacement | None:
        """Return the rules of a request; None: there are none.

        Args:
            name: placement that the request asks for; empty: the policy's default one.

        Raises:
            UsageError: there is no such placement.
        """
        name = name or self.policy.default or ""
        if not name:
            return None
        if (found := self.placements.get(name)) is None:
            raise unknown_placement(name, self.placements)
        return found


def unknown_placement(name: str, known: Mapping[str, object]) -> UsageError:
    """Return the error of a placement that there is not."""
    there = f"known are {', '.join(sorted(known))}" if known else "no policy is served that has placements"
    return UsageError(f"placement: there is no {shown(name)}; {there}")


class _Compiler:
    def __init__(self, spec: FeatureSpec, version: int, goals: Sequence[str]) -> None:
        self._spec, self._version, self._goals = spec, version, goals
        self._reader, self._features = FilterReader(spec, _LIMITS), filterable(spec)

    def placement(self, name: str, given: Placement, lists: Mapping[str, ListQuery]) -> CompiledPlacement:
        path = f"placements.{name}"
        for goal in given.goals:
            if not self._goals:
                raise UsageError(
                    f"{path}.goals: the model has none; leave them out, or train one with model.goals=true"
                )
            if goal not in self._goals:
                raise UsageError(
                    f"{path}.goals: {shown(goal)} is no goal of the model; {suggestion(goal, self._goals)}"
                )
        for i, cap in enumerate(given.caps):
            self._check_feature(f"{path}.caps[{i}].feature", cap.feature)
        id_type = self._spec.item.id_type
        pins = [(parse_id(pin.item, id_type, f"{path}.pins[{i}].item"), pin.place) for i, pin in enumerate(given.pins)]
        explores = given.exploration is not None and given.exploration.among
        return CompiledPlacement(
            name=name,
            version=self._version,
            placement=given,
            eligibility=self._where(f"{path}.eligibility", given.eligibility),
            boosts=[
                (each, self._where(f"{path}.boosts[{i}].where", each.where)) for i, each in enumerate(given.boosts)
            ],
            pins=sorted(pins, key=lambda pin: pin[1]),
            among=self._where(f"{path}.exploration.among", explores) if explores else None,
            lists=lists,
        )

    def listed(self, name: str, given: ListDefinition) -> ListQuery:
        path = f"lists.{name}"
        for field_name, feature in (("feature", given.feature), ("by", given.by)):
            if feature is not None:
                self._check_feature(f"{path}.{field_name}", feature)
        if (time := given.feature) is not None and (self._features[time].is_list or not self._features[time].is_time):
            raise UsageError(f"{path}.feature: {time} is {self._features[time]}; name one that holds a time")
        where = self._where(f"{path}.where", given.where)
        return ListQuery(definition=given, where=where, weights=self._spec.weights)

    def _where(self, path: str, conditions: Sequence[Condition]) -> Where:
        predicates = [predicate(each, f"{path}[{i}]") for i, each in enumerate(conditions)]
        return self._reader.clauses(path, predicates)

    def _check_feature(self, path: str, name: str) -> None:
        dtype = self._features.get(name)
        if dtype is None:
            raise UsageError(
                f"{path}: {shown(name)} is no feature or display field of items; {suggestion(name, self._features)}"
            )
        if dtype.is_list and dtype.is_float:
            raise UsageError(f"{path}: {name} is {dtype}, a vector; name a feature with values that items share")


def predicate(condition: Condition, path: str) -> Predicate:
    """Return the predicate of a policy's condition.

    Raises:
        UsageError: it cannot be read; the message begins with ``path``.
    """
    if isinstance(condition, AnyOf):
        return Predicate(any=[predicate(each, f"{path}.any[{i}]") for i, each in enumerate(condition.any)])
    if isinstance(condition, AllOf):
        return Predicate(all=[predicate(each, f"{path}.all[{i}]") for i, each in enumerate(condition.all)])
    if isinstance(condition, Not):
        return Predicate(all=[predicate(condition.negated, f"{path}.not")], negate=True)
    return predicate_of(condition, path)
