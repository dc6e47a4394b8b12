"""The policy: what each placement shows, its versions, and applying another one."""

from collections.abc import Mapping
from typing import Any

from rf_console.web.routes import Change, Done, Page, Question
from rf_console.web.visit import Visit
from rf_platform.errors import UsageError
from rf_platform.policies import Policy, read_policy
from rf_serving.policies.check import check_with_all
from rf_serving.server.rpc import Role

_EXAMPLE = "default: home\nplacements:\n  home: {}\n"
_BACK = "/policies"


def read(visit: Visit) -> Mapping[str, Any]:
    """Return the versions of the policy, and one of them as it was written."""
    policies = visit.console.registry.policies
    history = policies.history()[::-1]
    number = visit.whole("version", 0, least=0)
    shown = policies.version(number) if number else (history[0] if history else None)
    return {
        "history": history,
        "shown": shown,
        "text": visit.value("text") or (shown.text if shown is not None else _EXAMPLE),
    }


def ask(visit: Visit) -> Question:
    """Check a policy as `rf policy apply` does, and ask."""
    policy, text, named = _given(visit)
    question = f"Put {named} into effect?"
    newest = visit.console.registry.policies.newest()
    if newest is not None and newest.text == text:
        return Question(text=question, problem="it says the same as the policy in effect", back=_BACK)
    bundles = check_with_all(policy, named, visit.console.registry, visit.console.catalogs.journal)
    checked = (
        f"checked against {' and '.join(bundles)}" if bundles else "no bundle is promoted, so features are not checked"
    )
    notes = [f"placements: {', '.join(policy.placements) or 'none, so no rules'}", checked]
    return Question(text=question, notes=[*notes, "running servers take it over within seconds"], back=_BACK)


def make(visit: Visit) -> Done:
    """Put a policy into effect."""
    policy, text, named = _given(visit)
    check_with_all(policy, named, visit.console.registry, visit.console.catalogs.journal)
    record = visit.console.registry.policies.apply(text, visit.value("note"))
    return Done(text=f"{record.name} is in effect", location=_BACK)


def _given(visit: Visit) -> tuple[Policy, str, str]:
    """Return the policy of a form: one that was written, or an earlier version."""
    if number := visit.whole("version", 0, least=0):
        record = visit.console.registry.policies.version(number)
        return read_policy(record.text, record.name), record.text, record.name
    text = next((value for name, value in visit.form if name == "text"), "").replace("\r\n", "\n")
    if not text.strip():
        raise UsageError("the policy is empty; write one, docs/policies.md has an example")
    return read_policy(text, "this policy"), text, "this policy"


_PAGE = Page(path="/policies", title="Policies", template="policies.html", read=read)
ROUTES: tuple[Page | Change, ...] = (
    _PAGE,
    Change(
        path="/policies/apply",
        action="apply policy",
        role=Role.WRITE,
        ask=ask,
        make=make,
        button="Apply",
        back=_BACK,
        form=_PAGE,
    ),
)
