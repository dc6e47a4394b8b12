"""An answer of a server, for people and as JSON."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.markup import escape
from rich.table import Table

from rf_platform.cli.console import out_console, print_json, say
from rf_protos.v1.explanation_pb2 import Explanation, FeatureCause, Reason, RuleCause
from rf_protos.v1.retrieval_pb2 import (
    DEGRADED_INDEX_SILENT,
    DEGRADED_STORE_BEHIND,
    DEGRADED_STORE_FOREIGN,
    DEGRADED_STORE_SILENT,
    DEGRADED_STORE_UNLOADED,
    RERANK_EXACT,
    RERANK_LIME,
    DegradedReason,
    RetrieveResponse,
    SearchPlan,
)
from rf_serving.client import RetrievalClient
from rf_serving.ranking.policy import name_of
from rf_serving.wire.values import given_value

_SHOWN_HISTORY = 10
_SHOWN_FEATURES = 2
_SHOWN_REASONS = 3
_SHORT = 40
_REASONS: dict["DegradedReason", str] = {
    DEGRADED_STORE_SILENT: "the online store did not answer in time; {subject} is answered without features",
    DEGRADED_STORE_BEHIND: "the online store lost events, which are applied again; what is known of {subject} may lack some",
    DEGRADED_STORE_UNLOADED: "the online store lost what was materialised, and has to be loaded again",
    DEGRADED_INDEX_SILENT: "the search engine does not answer; these are the most popular items",
    DEGRADED_STORE_FOREIGN: "the online store does not fit the event log; `rf doctor` says what to do",
}
_ORDERS = {RERANK_EXACT: "ordered by exact dot products", RERANK_LIME: "ordered by the re-ranker"}


@dataclass(frozen=True)
class AnswerItems:
    """Items of an answer as the server has them now, upserted ones included."""

    display: Sequence[str]
    """Full names of the fields that are made for people."""
    fields: Mapping[str, Mapping[str, Any]]
    """Features and display fields by id; an item that is not in the catalog any more is not there."""

    @classmethod
    def of(cls, client: RetrievalClient, response: RetrieveResponse) -> "AnswerItems":
        """Ask a server for the items of its answer: those found, those of the history, and those that explain the scores."""
        return cls.named(client, cls.ids_of(response))

    @staticmethod
    def ids_of(response: RetrieveResponse) -> list[str]:
        """Return the ids of these items, each once."""
        causes = [r.event.item_id for i in response.items for r in i.explanation.reasons if r.HasField("event")]
        like = (RuleCause.SIMILAR, RuleCause.CO_OCCURRENCE)
        causes += [r.rule.name for i in response.items for r in i.explanation.reasons if r.rule.kind in like]
        return list(dict.fromkeys([*(item.item_id for item in response.items), *response.history, *causes]))

    @classmethod
    def named(cls, client: RetrievalClient, item_ids: Iterable[str]) -> "AnswerItems":
        """Ask a server for items."""
        ids = list(dict.fromkeys(item_ids))
        found = client.items(ids)
        fields = {
            each.item.item_id: {n: given_value(v) for n, v in sorted(each.item.features.items())}
            for each in found.items
        }
        return cls(list(found.display_fields), fields)

    def title(self, item: str) -> str:
        """Return the first display field that an item has, or its id."""
        values = self.fields.get(item, {})
        return next((text_of(values[name]) for name in self.display if values.get(name) is not None), item)

    @property
    def columns(self) -> list[str]:
        """Names of the display fields, and of a few features that are short in all items."""
        names = dict.fromkeys(name for values in self.fields.values() for name in values if name not in self.display)
        short = [n for n in names if all(len(text_of(values.get(n))) <= _SHORT for values in self.fields.values())]
        return [*self.display, *short[:_SHOWN_FEATURES]]


def print_answer_json(response: RetrieveResponse, known: AnswerItems) -> None:
    """Print everything that an answer says, with the fields of its items."""
    fields, items = known.fields, []
    for item in response.items:
        row: dict[str, Any] = {**fields.get(item.item_id, {}), "item_id": item.item_id, "score": item.score}
        if item.source:
            row["source"] = item.source
        if item.propensity:
            row["propensity"] = item.propensity
        if item.HasField("explanation"):
            row["explanation"] = _explanation(item.explanation, lime=response.rerank == RERANK_LIME)
        items.append(row)
    print_json(
        {
            "bundle": response.bundle,
            "spec_hash": response.spec_hash,
            "catalog_sequence": response.catalog_sequence,
            "cold": response.cold,
            "degraded": response.degraded,
            "degraded_reason": DegradedReason.Name(response.degraded_reason).lower() if response.degraded else None,
            "plan": {
                "strategy": SearchPlan.Strategy.Name(response.plan.strategy).lower(),
                "eligible": response.plan.eligible,
            },
            "rerank": name_of(response.rerank),
            **_followed(response),
            "milliseconds": {t.stage: round(t.milliseconds, 3) for t in response.timings},
            "unknown_items": list(response.unknown_items),
            "history": [{**fields.get(item, {}), "item_id": item} for item in response.history],
            "items": items,
        }
    )


def _followed(response: RetrieveResponse) -> dict[str, Any]:
    """Return which rules an answer follows, if any."""
    if not response.placement:
        return {}
    return {
        "placement": response.placement,
        "policy_version": response.policy_version,
        "yielded_caps": list(response.yielded_caps),
    }


def print_answer(response: RetrieveResponse, items: AnswerItems, subject: str, *, explained: bool) -> None:
    """Print an answer: the latest history, the items, and how they were found.

    Args:
        response: the answer.
        items: its items.
        subject: name of the subject.
        explained: reasons were asked for.
    """
    _print_history(response, items, subject)
    names = items.columns
    table = Table(title=f"for {escape(subject)}", title_justify="left", caption=_caption(response))
    table.add_column("#", justify="right")
    table.add_column("item")
    for name in names:
        table.add_column(short_name(name))
    table.add_column("score", justify="right")
    if response.placement:
        table.add_column("source")
    if explained:
        table.add_column("because of")
    for rank, item in enumerate(response.items, 1):
        shown = [escape(text_of(items.fields.get(item.item_id, {}).get(name))) for name in names]
        why = [escape(item.source)] if response.placement else []
        if explained:
            reasons = item.explanation.reasons[:_SHOWN_REASONS]
            why += [", ".join(_reason(reason, items) for reason in reasons) if reasons else "[dim]not explained[/]"]
        table.add_row(str(rank), escape(item.item_id), *shown, f"{item.score:.3f}", *why)
    out_console().print(table)
    for line in _notes(response, explained):
        say(line)


def _print_history(response: RetrieveResponse, items: AnswerItems, subject: str) -> None:
    if response.degraded:
        text = _REASONS.get(response.degraded_reason, "").format(subject=escape(subject))
        out_console().print(f"[bold red]degraded:[/] {text}", highlight=False)
    latest = list(response.history)[: -_SHOWN_HISTORY - 1 : -1]
    if latest:
        named = ", ".join(map(items.title, latest))
        more = f" and {len(response.history) - len(latest)} more" if len(response.history) > len(latest) else ""
        out_console().print(f"[bold]latest of {escape(subject)}:[/] {escape(named)}{more}", highlight=False)
    elif response.degraded_reason != DEGRADED_STORE_SILENT:
        say(f"{subject} has no history here: a cold answer")


def _caption(response: RetrieveResponse) -> str:
    total = sum(t.milliseconds for t in response.timings)
    stages = " · ".join(f"{t.stage} {t.milliseconds:.2f}" for t in response.timings)
    rules = (
        f"placement {escape(response.placement)} of policy version {response.policy_version}\n"
        if response.placement
        else ""
    )
    return f"{rules}bundle {escape(response.bundle)} · {found_by(response)}\n{stages} · {total:.2f} ms in all"


def found_by(response: RetrieveResponse) -> str:
    """Return the search plan and the order of the items, in words."""
    eligible = f"{response.plan.eligible:,} eligible items"
    how = {
        SearchPlan.EXACT: f"all {eligible} scored",
        SearchPlan.APPROXIMATE: f"approximate search for the best of {eligible}",
        SearchPlan.POPULAR: f"the most popular of {eligible}",
        SearchPlan.LISTED: f"a list, since nothing is known of the user; of {eligible}",
    }.get(response.plan.strategy, eligible)
    return f"{how} · {_ORDERS[response.rerank]}" if response.rerank in _ORDERS else how


def _notes(response: RetrieveResponse, explained: bool) -> list[str]:
    notes = [f"a cap could not be kept, since too few other items are eligible: {cap}" for cap in response.yielded_caps]
    if unknown := list(response.unknown_items):
        more = ", …" if len(unknown) > _SHOWN_HISTORY else ""
        notes.append(
            f"left out of the history, since the catalog has no such items: {', '.join(unknown[:_SHOWN_HISTORY])}{more}"
        )
    return [*notes, *_unexplained(response, explained)]


def _unexplained(response: RetrieveResponse, explained: bool) -> list[str]:
    if not explained or not response.items:
        return []
    if all(item.HasField("explanation") for item in response.items):
        return []
    count = sum(item.HasField("explanation") for item in response.items)
    return [f"{count} of {len(response.items)} items are explained; the others come too far down, or time was up"]


def _explanation(explanation: Explanation, lime: bool) -> list[dict[str, Any]]:
    reasons: list[dict[str, Any]] = []
    for reason in explanation.reasons:
        if reason.HasField("event"):
            cause: dict[str, Any] = {"event": reason.event.item_id, "position": reason.event.position}
            if lime:
                cause["link_attention"] = reason.link_attention
        elif reason.HasField("rule"):
            cause = {"rule": RuleCause.Kind.Name(reason.rule.kind).lower()}
            cause |= {"name": reason.rule.name} if reason.rule.name else {}
            if reason.rule.place:
                cause["place_by_score" if reason.rule.kind == RuleCause.REORDERED else "place"] = reason.rule.place
        else:
            cause = {"feature": reason.feature.name, "side": FeatureCause.Side.Name(reason.feature.side).lower()}
        reasons.append({**cause, "contribution": reason.contribution})
    return reasons


_PLAIN = (RuleCause.REORDERED, RuleCause.PIN, RuleCause.EXPLORATION, RuleCause.LIST, RuleCause.CALLER)
"""Rules and sources that contribute no number."""


def _reason(reason: Reason, items: AnswerItems) -> str:
    cause = escape(cause_of(reason, items))
    if reason.HasField("rule") and reason.rule.kind in _PLAIN:
        return cause
    return f"{cause} [{'green' if reason.contribution > 0 else 'red'}]{reason.contribution:+.3f}[/]"


def cause_of(reason: Reason, items: AnswerItems) -> str:
    """Return the cause of a score in words: an event by the title of its item, a feature, a rule, or a source."""
    if reason.HasField("rule"):
        return _rule(reason.rule, items)
    if reason.HasField("event"):
        return items.title(reason.event.item_id)
    side = "its" if reason.feature.side == FeatureCause.ITEM else "the user's"
    return f"{side} {short_name(reason.feature.name)}"


def _rule(rule: RuleCause, items: AnswerItems) -> str:
    if rule.kind == RuleCause.SIMILAR:
        return f"like {items.title(rule.name)}"
    if rule.kind == RuleCause.CO_OCCURRENCE:
        return f"users of {items.title(rule.name)}"
    named = f" {rule.name}" if rule.name else ""
    by = " by score" if rule.kind == RuleCause.REORDERED else ""
    place = f" (place {rule.place}{by})" if rule.place else ""
    return f"{RuleCause.Kind.Name(rule.kind).lower()}{named}{place}"


def short_name(name: str) -> str:
    """Return a field's name without its view, in words."""
    return name.rpartition("__")[2].replace("_", " ")


def text_of(value: Any) -> str:
    """Return a value of a field as tables show it."""
    if value is None:
        return ""
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
