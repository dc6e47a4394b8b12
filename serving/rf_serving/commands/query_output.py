"""An answer of a server, for people and as JSON."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from rich.markup import escape
from rich.table import Table

from rf_platform.bundle import check_name, files
from rf_platform.cli.console import out_console, print_json, say
from rf_platform.features.spec import FeatureSpec
from rf_platform.settings import get_settings
from rf_protos.v1.explanation_pb2 import Explanation, FeatureCause, Reason
from rf_protos.v1.retrieval_pb2 import (
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
from rf_serving.ranking.policy import name_of

_SHOWN_HISTORY = 10
_SHOWN_FEATURES = 2
_SHOWN_REASONS = 3
_SHORT = 40
_REASONS: dict["DegradedReason", str] = {
    DEGRADED_STORE_SILENT: "the online store did not answer in time; {subject} is answered without features",
    DEGRADED_STORE_BEHIND: "the online store lost events, which are applied again; what is known of {subject} may lack some",
    DEGRADED_STORE_UNLOADED: "the online store lost what was materialised, and has to be loaded again",
    DEGRADED_STORE_FOREIGN: "the online store does not fit the event log; `rf doctor` says what to do",
}
_ORDERS = {RERANK_EXACT: "ordered by exact dot products", RERANK_LIME: "ordered by the re-ranker"}


class BundleItems:
    """Display fields and features of a bundle's items."""

    def __init__(self, spec: FeatureSpec, table: pa.Table) -> None:
        self._key, self._table = spec.item.join_key, table
        self.display = [f.name for f in spec.carried("item") if f.role == "display"]
        """Full names of the fields that are made for people."""
        self.features = [f.name for f in spec.inputs("item")]
        """Full names of the model's features."""

    @classmethod
    def open(cls, directory: Path) -> "BundleItems":
        """Read the items of a bundle."""
        return cls(FeatureSpec.load(directory / files.SPEC), pq.read_table(directory / files.ITEMS))

    def describe(self, ids: Iterable[str]) -> dict[str, dict[str, Any]]:
        """Return the fields of the given items, by id, as they are written in replies."""
        texts = self._table[self._key].cast(pa.string())
        chosen = self._table.filter(pc.is_in(texts, value_set=pa.array(set(ids), pa.string())))
        return {
            str(row[self._key]): row for row in chosen.select([self._key, *self.display, *self.features]).to_pylist()
        }


def print_answer_json(response: RetrieveResponse) -> None:
    """Print everything that an answer says, with the fields of items where their bundle is in this workspace."""
    _, fields = _described(response)
    items = []
    for item in response.items:
        row = {**fields.get(item.item_id, {}), "item_id": item.item_id, "score": item.score}
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
            "milliseconds": {t.stage: round(t.milliseconds, 3) for t in response.timings},
            "history": [{**fields.get(item, {}), "item_id": item} for item in response.history],
            "items": items,
        }
    )


def print_answer(response: RetrieveResponse, subject: str, *, explained: bool) -> None:
    """Print an answer: the latest history, the items, and how they were found.

    Args:
        response: the answer.
        subject: name of the subject.
        explained: reasons were asked for.
    """
    items, fields = _described(response)
    _print_history(response, items, fields, subject)
    names = _columns(items, fields)
    table = Table(title=f"for {escape(subject)}", title_justify="left", caption=_caption(response))
    table.add_column("#", justify="right")
    table.add_column("item")
    for name in names:
        table.add_column(_short_name(name))
    table.add_column("score", justify="right")
    if explained:
        table.add_column("because of")
    for rank, item in enumerate(response.items, 1):
        shown = [escape(_text(fields.get(item.item_id, {}).get(name))) for name in names]
        why = []
        if explained:
            reasons = item.explanation.reasons[:_SHOWN_REASONS]
            why = [
                ", ".join(_reason(reason, items, fields) for reason in reasons) if reasons else "[dim]not explained[/]"
            ]
        table.add_row(str(rank), escape(item.item_id), *shown, f"{item.score:.3f}", *why)
    out_console().print(table)
    for line in _notes(response, explained):
        say(line)


def _described(response: RetrieveResponse) -> tuple[BundleItems | None, dict[str, dict[str, Any]]]:
    """Return the items of the bundle that answered, if it is in this workspace, and the fields of those in the answer."""
    directory = get_settings().workspace.bundles / check_name("bundle", response.bundle)
    if not directory.is_dir():
        return None, {}
    items = BundleItems.open(directory)
    causes = [r.event.item_id for i in response.items for r in i.explanation.reasons if r.HasField("event")]
    return items, items.describe([*response.history, *(item.item_id for item in response.items), *causes])


def _print_history(
    response: RetrieveResponse, items: BundleItems | None, fields: dict[str, dict[str, Any]], subject: str
) -> None:
    if response.degraded:
        text = _REASONS.get(response.degraded_reason, "").format(subject=escape(subject))
        out_console().print(f"[bold red]degraded:[/] {text}", highlight=False)
    latest = list(response.history)[: -_SHOWN_HISTORY - 1 : -1]
    if latest:
        named = ", ".join(_title(items, fields.get(item, {})) or item for item in latest)
        more = f" and {len(response.history) - len(latest)} more" if len(response.history) > len(latest) else ""
        out_console().print(f"[bold]latest of {escape(subject)}:[/] {escape(named)}{more}", highlight=False)
    elif response.degraded_reason != DEGRADED_STORE_SILENT:
        say(f"{subject} has no history here: a cold answer")


def _caption(response: RetrieveResponse) -> str:
    total = sum(t.milliseconds for t in response.timings)
    stages = " · ".join(f"{t.stage} {t.milliseconds:.2f}" for t in response.timings)
    return f"bundle {escape(response.bundle)} · {_found(response)}\n{stages} · {total:.2f} ms in all"


def _found(response: RetrieveResponse) -> str:
    """Return the search plan and the order of the items, in words."""
    eligible = f"{response.plan.eligible:,} eligible items"
    how = {
        SearchPlan.EXACT: f"all {eligible} scored",
        SearchPlan.APPROXIMATE: f"approximate search for the best of {eligible}",
        SearchPlan.POPULAR: f"the most popular of {eligible}",
    }.get(response.plan.strategy, eligible)
    return f"{how} · {_ORDERS[response.rerank]}" if response.rerank in _ORDERS else how


def _notes(response: RetrieveResponse, explained: bool) -> list[str]:
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
        else:
            cause = {"feature": reason.feature.name, "side": FeatureCause.Side.Name(reason.feature.side).lower()}
        reasons.append({**cause, "contribution": reason.contribution})
    return reasons


def _reason(reason: Reason, items: BundleItems | None, fields: dict[str, dict[str, Any]]) -> str:
    if reason.HasField("event"):
        item = reason.event.item_id
        cause = _title(items, fields.get(item, {})) or f"item {item}"
    else:
        side = "its" if reason.feature.side == FeatureCause.ITEM else "the user's"
        cause = f"{side} {_short_name(reason.feature.name)}"
    return f"{escape(cause)} [{'green' if reason.contribution > 0 else 'red'}]{reason.contribution:+.3f}[/]"


def _columns(items: BundleItems | None, fields: dict[str, dict[str, Any]]) -> list[str]:
    """Return the display fields, and a few features that are short in all rows shown."""
    if items is None:
        return []
    short = [f for f in items.features if all(len(_text(row[f])) <= _SHORT for row in fields.values())]
    return [*items.display, *short[:_SHOWN_FEATURES]]


def _short_name(name: str) -> str:
    return name.rpartition("__")[2].replace("_", " ")


def _title(items: BundleItems | None, row: dict[str, Any]) -> str:
    return _text(row.get(items.display[0])) if items is not None and items.display else ""


def _text(value: Any) -> str:
    if value is None:
        return ""
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
