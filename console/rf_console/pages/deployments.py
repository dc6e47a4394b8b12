"""What is served, what stands beside it, how the two compare, and changing it after the checks of the commands."""

from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple

from rf_console.web.routes import Change, Done, Page, Question
from rf_console.web.visit import Visit
from rf_platform import registry as deployments
from rf_platform.errors import RfError, UsageError
from rf_platform.features.spec import FeatureSpec
from rf_platform.registry import BundleRecord, check_bundle, check_spec, features_now, fetched
from rf_platform.skew.gate import check_skew
from rf_serving.deployment.rehearsal import Rehearsal
from rf_serving.server.rpc import Role

_BACK = "/deployments"
_TAKEN_OVER = "running servers take it over within seconds"
_HEADLINES = ("recall@20", "ndcg@20", "mrr")


def read(visit: Visit) -> Mapping[str, Any]:
    """Return the plan, how the bundles compare, what can be promoted, and the history."""
    registry = visit.console.registry
    plan, wanted = registry.traffic.plan(), visit.value("q").lower()
    bundles = [
        each
        for each in reversed(registry.bundles())
        if each.removed_at is None and wanted in f"{each.name} {each.run}".lower()
    ]
    beside = {each.name for each in (plan.active, plan.challenger, plan.shadow) if each is not None}
    served, problem = _served(visit) if plan.active is not None else (None, "")
    return {
        "plan": plan,
        "bundles": [(each, _headlines(each)) for each in bundles],
        "headlines": _HEADLINES,
        "beside": beside,
        "served": served,
        "problem": problem,
        "experiment": registry.experiments.running(),
        "target": _target(visit),
        "history": registry.deployments()[::-1],
        "traffic": registry.traffic.now(),
    }


def _served(visit: Visit) -> tuple[Any, str]:
    """Return what the server says of its bundles, or why it says nothing."""
    if not visit.may(Role.ADMIN):
        return None, "what the server says of its bundles is shown to the role admin"
    try:
        return visit.client.deployment(), ""
    except RfError as error:
        return None, str(error)


def _headlines(bundle: BundleRecord) -> list[float | None]:
    """Return the metrics that are shown of a bundle: of the test split where it was evaluated, or else of validation."""
    test = bundle.metrics.get("test") or {}
    model = next((row for row in reversed(test.get("results", [])) if row.get("seen") == "excluded"), None)
    measured = bundle.metrics.get("validation") or bundle.metrics
    found = {name: value["value"] for name, value in model["metrics"].items()} if model is not None else measured
    return [value if isinstance(value := found.get(name), int | float) else None for name in _HEADLINES]


def _target(visit: Visit) -> BundleRecord | None:
    try:
        return visit.console.registry.rollback_target()
    except UsageError:
        return None


class _Checks(NamedTuple):
    """What `rf promote` looks at: the feature store, read once, and a rehearsal on the live catalog."""

    current_spec: Callable[[], FeatureSpec]
    rehearse: Rehearsal

    @classmethod
    def of(cls, visit: Visit) -> "_Checks":
        settings = visit.console.settings
        return cls(cache(partial(features_now, settings)), Rehearsal(settings))

    def run(self, record: BundleRecord, signed_by: Path | None) -> list[str]:
        """Check a bundle, and return what was found, in words.

        Raises:
            RfError: it cannot be served.
        """
        manifest = check_bundle(record, self.current_spec, self.rehearse, signed_by=signed_by)
        size = f"{manifest.total_bytes / 2**20:,.1f} MiB"
        return [
            f"{len(manifest.files)} files, {size}: all have their checksums",
            "the feature store offers all that it reads",
            *check_spec(record, self.current_spec()).notes,
            "the live catalog and the policy in effect fit it",
            *self.rehearse.notes,
        ]


def _skew(visit: Visit) -> list[str]:
    """Return what a replay of the last requests says, as far as RF_SKEW_GATE asks for it, see :func:`check_skew`."""
    settings = visit.console.settings
    return [] if settings.skew_gate == "off" else check_skew(settings, settings.skew_gate)


def _asked(visit: Visit) -> BundleRecord:
    """Return the bundle that is meant, with its files here."""
    registry = visit.console.registry
    return fetched(registry, registry.bundle(visit.needed("bundle")), visible=False)


def _ends_experiment(visit: Visit) -> list[str]:
    running = visit.console.registry.experiments.running()
    return [f"experiment {running.name} is running, and ends without a verdict"] if running is not None else []


def ask_promote(visit: Visit) -> Question:
    """Check a bundle, and ask whether all users get it."""
    record, plan = _asked(visit), visit.console.registry.traffic.plan()
    question = f"Promote {record.name} to all users?"
    if plan.active is not None and plan.active.name == record.name and plan.challenger is None:
        return Question(text=question, problem="it is the served bundle already", back=_BACK)
    follows = [
        f"{plan.active.name} is served now" if plan.active else "nothing is served now",
        *_ends_experiment(visit),
    ]
    if plan.challenger is not None:
        follows.append(f"the split with {plan.challenger.name} ends")
    checked = [*_Checks.of(visit).run(record, visit.console.registry.signed_by), *_skew(visit)]
    return _question(question, checked, follows)


def promote(visit: Visit) -> Done:
    """Make a bundle the served one."""
    _skew(visit)
    done = deployments.promote(
        visit.console.registry, visit.needed("bundle"), note=_note(visit), **_Checks.of(visit)._asdict()
    )
    return Done(text=f"{done.bundle} is promoted; {_TAKEN_OVER}", location=_BACK)


def ask_split(visit: Visit) -> Question:
    """Check a bundle, and ask whether a part of the users gets it."""
    record, percent = _asked(visit), visit.number("percent", 0.0, 100.0)
    question = f"Let {record.name} answer {percent:g}% of the users?"
    plan = visit.console.registry.traffic.plan()
    follows = ["always the same users; raise the percentage by the same form again"]
    if plan.challenger is not None and plan.challenger.name != record.name:
        follows.append(f"the split with {plan.challenger.name} ends")
    problem = ""
    if not 0 < percent < 100:
        problem = "give more than 0 and less than 100; promote the bundle to give it to all"
    elif plan.active is None or plan.active.name == record.name:
        problem = "it needs a served bundle that is another one"
    elif (running := visit.console.registry.experiments.running()) is not None:
        problem = f"experiment {running.name} is running, and another split would spoil it"
    return _question(
        question, [] if problem else _Checks.of(visit).run(record, visit.console.registry.signed_by), follows, problem
    )


def split(visit: Visit) -> Done:
    """Give a bundle a part of the users."""
    _skew(visit)
    percent = visit.number("percent", 0.0, 100.0)
    done = deployments.split(
        visit.console.registry, visit.needed("bundle"), percent, note=_note(visit), **_Checks.of(visit)._asdict()
    )
    return Done(text=f"{done.challenger} answers {done.percent:g}% of the users; {_TAKEN_OVER}", location=_BACK)


def ask_shadow(visit: Visit) -> Question:
    """Check a bundle, and ask whether it answers unseen."""
    record, percent = _asked(visit), visit.number("percent", 0.0, 100.0)
    question = f"Let {record.name} answer {percent:g}% of the requests unseen?"
    plan = visit.console.registry.traffic.plan()
    problem = "" if percent > 0 else "give more than 0"
    if plan.active is None or plan.active.name == record.name:
        problem = "it needs a served bundle that is another one"
    follows = ["callers get the served bundle's answers, no later than before"]
    if plan.shadow is not None and plan.shadow.name != record.name:
        follows.append(f"the shadow {plan.shadow.name} ends")
    return _question(
        question, [] if problem else _Checks.of(visit).run(record, visit.console.registry.signed_by), follows, problem
    )


def shadow(visit: Visit) -> Done:
    """Let a bundle answer unseen."""
    share = visit.number("percent", 0.0, 100.0) / 100
    done = deployments.shadow(
        visit.console.registry, visit.needed("bundle"), share, note=_note(visit), **_Checks.of(visit)._asdict()
    )
    return Done(text=f"{done.shadow} answers {100 * done.share:g}% of the requests unseen", location=_BACK)


def ask_withdraw(visit: Visit) -> Question:
    """Ask whether what stands beside the served bundle goes away."""
    name, part, plan = visit.needed("bundle"), visit.needed("part"), visit.console.registry.traffic.plan()
    question = f"End the shadow {name}?" if part == "shadow" else f"Withdraw {name}?"
    if part == "challenger" and plan.challenger is not None and plan.challenger.name == name:
        served = plan.active.name if plan.active else "nothing"
        return _question(question, [], [f"{served} answers all users again", *_ends_experiment(visit)])
    if part == "shadow" and plan.shadow is not None and plan.shadow.name == name:
        return _question(question, [], ["it answers no requests any more, and what was compared is forgotten"])
    return Question(text=question, problem="it does not stand beside the served bundle any more", back=_BACK)


def withdraw(visit: Visit) -> Done:
    """End the split or the shadow of a bundle."""
    name, part, traffic = visit.needed("bundle"), visit.needed("part"), visit.console.registry.traffic
    if part == "challenger" and name == traffic.now().challenger:
        traffic.end_split(_note(visit))
        return Done(text=f"{name} is withdrawn; {_TAKEN_OVER}", location=_BACK)
    if part == "shadow" and name == traffic.now().shadow:
        traffic.shadow(None, 0.0, _note(visit))
        return Done(text=f"{name} is no shadow any more; {_TAKEN_OVER}", location=_BACK)
    raise UsageError(f"'{name}' does not stand beside the served bundle any more; load the page again")


def ask_rollback(visit: Visit) -> Question:
    """Check the bundle that was served before, and ask."""
    registry, expected = visit.console.registry, visit.needed("bundle")
    record = fetched(registry, registry.rollback_target(), visible=False)
    question = f"Roll back to {expected}?"
    if record.name != expected:
        return Question(text=question, problem=f"a rollback leads to {record.name} by now", back=_BACK)
    follows, plan = _ends_experiment(visit), visit.console.registry.traffic.plan()
    if plan.challenger is not None:
        follows.append(f"the split with {plan.challenger.name} ends")
    return _question(question, _Checks.of(visit).run(record, visit.console.registry.signed_by), follows)


def roll_back(visit: Visit) -> Done:
    """Go back to the bundle that was served before."""
    registry, expected, checks = visit.console.registry, visit.needed("bundle"), _Checks.of(visit)
    check_bundle(fetched(registry, registry.bundle(expected), visible=False), *checks, signed_by=registry.signed_by)
    done = registry.rollback(_note(visit), expected=expected)
    return Done(text=f"{done.bundle} is served again; {_TAKEN_OVER}", location=_BACK)


def _question(text: str, checked: Sequence[str], follows: Sequence[str], problem: str = "") -> Question:
    notes = [*(f"checked: {each}" for each in checked), *follows, *([] if problem else [_TAKEN_OVER])]
    return Question(text=text, notes=notes, problem=problem, back=_BACK)


def _note(visit: Visit) -> str:
    """Return the reason in the history, with who gave it."""
    return f"{visit.value('note')} ({visit.caller.name}, console)".strip()


def _change(action: str, ask: Callable[[Visit], Question], make: Callable[[Visit], Done], button: str) -> Change:
    return Change(
        path=f"{_BACK}/{action}", action=action, role=Role.ADMIN, ask=ask, make=make, button=button, back=_BACK
    )


ROUTES: tuple[Page | Change, ...] = (
    Page(path=_BACK, title="Deployments", template="deployments.html", read=read),
    _change("promote", ask_promote, promote, "Promote"),
    _change("split", ask_split, split, "Split"),
    _change("shadow", ask_shadow, shadow, "Start the shadow"),
    _change("withdraw", ask_withdraw, withdraw, "Withdraw"),
    _change("rollback", ask_rollback, roll_back, "Roll back"),
)
