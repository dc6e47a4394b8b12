"""``rf query --similar-to``: what is like some items."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.markup import escape
from rich.table import Table

from rf_platform.cli.console import out_console, print_json, say
from rf_platform.errors import UsageError
from rf_protos.v1.filter_pb2 import Filter
from rf_protos.v1.retrieval_pb2 import SearchPlan, SimilarItemsRequest, SimilarItemsResponse
from rf_serving.client import RetrievalClient
from rf_serving.commands.query_output import AnswerItems, short_name, text_of
from rf_serving.wire.json_lines import feature_value, read_objects

_OF_ANSWERS = ("item_id", "score", "explanation", "sequence", "cold")
"""Keys of items in answers that are no features."""


@dataclass(frozen=True)
class SimilarOptions:
    """Options of the command."""

    similar_to: str
    k: int
    filter: Filter | None
    address: str
    as_json: bool
    share: float | None
    """Of co-occurrence."""
    placement: str


def ask_for_similar(options: SimilarOptions, of_users: Mapping[str, Any]) -> None:
    """Ask a server for similar items, and show them.

    Args:
        options: of the command.
        of_users: options that say something of a user, by name; None where they are not given.

    Raises:
        UsageError: one of these is given, the items cannot be read, or the server refuses the request.
    """
    if given := [name for name, value in of_users.items() if value is not None]:
        raise UsageError(
            f"{given[0]} says something of a user, and --similar-to asks about none; leave one of the two out"
        )
    request = SimilarItemsRequest(
        k=options.k, filter=options.filter, co_occurrence_share=options.share, placement=options.placement
    )
    _ask_about(request, options.similar_to)
    with RetrievalClient(options.address) as client:
        response = client.similar(request)
        items = AnswerItems.named(client, (item.item_id for item in response.items))
    (_print_json if options.as_json else _print)(response, items, options.similar_to)


def _ask_about(request: SimilarItemsRequest, similar_to: str) -> None:
    if not similar_to.startswith("@"):
        request.item_ids.extend(text.strip() for text in similar_to.split(",") if text.strip())
        if not request.item_ids:
            raise UsageError("--similar-to has no item id; give some with commas")
        return
    (where, item), *others = [*read_objects(Path(similar_to[1:]))] or [(similar_to, {})]
    if others or not item:
        raise UsageError(
            f"--similar-to {similar_to}: the file has to have one item, and it has {len(others) + bool(item)}"
        )
    for name, value in item.items():
        if name not in _OF_ANSWERS:
            request.features[name].CopyFrom(feature_value(value, f"{where}: {name}"))
    if not request.features:
        raise UsageError(f"{where}: it has no features; give some by full name, view__field")


def _print_json(response: SimilarItemsResponse, items: AnswerItems, similar_to: str) -> None:
    print_json(
        {
            "bundle": response.bundle,
            "spec_hash": response.spec_hash,
            "catalog_sequence": response.catalog_sequence,
            "absent": list(response.absent),
            "co_occurrence_share": response.co_occurrence_share,
            "placement": response.placement or None,
            "policy_version": response.policy_version or None,
            "yielded_caps": list(response.yielded_caps),
            "plan": {
                "strategy": SearchPlan.Strategy.Name(response.plan.strategy).lower(),
                "eligible": response.plan.eligible,
            },
            "milliseconds": {t.stage: round(t.milliseconds, 3) for t in response.timings},
            "items": [
                {
                    **items.fields.get(item.item_id, {}),
                    "item_id": item.item_id,
                    "score": item.score,
                    "cosine": item.cosine,
                    "co_occurrence": item.co_occurrence,
                    **({"source": item.source, "propensity": item.propensity} if item.source else {}),
                }
                for item in response.items
            ],
        }
    )


def _print(response: SimilarItemsResponse, items: AnswerItems, similar_to: str) -> None:
    names = items.columns
    total = sum(t.milliseconds for t in response.timings)
    stages = " · ".join(f"{t.stage} {t.milliseconds:.2f}" for t in response.timings)
    caption = f"bundle {escape(response.bundle)} · of {response.plan.eligible:,} eligible items\n{stages} · {total:.2f} ms in all"
    table = Table(title=f"like {escape(similar_to)}", title_justify="left", caption=caption)
    table.add_column("#", justify="right")
    table.add_column("item")
    for name in names:
        table.add_column(short_name(name))
    mixed = response.co_occurrence_share > 0
    table.add_column("score", justify="right")
    for name in ("cosine", "same users") if mixed else ():
        table.add_column(name, justify="right")
    for rank, item in enumerate(response.items, 1):
        shown = [escape(text_of(items.fields.get(item.item_id, {}).get(name))) for name in names]
        parts = [f"{item.cosine:.3f}", f"{item.co_occurrence:.3f}"] if mixed else []
        table.add_row(str(rank), escape(item.item_id), *shown, f"{item.score:.3f}", *parts)
    out_console().print(table)
    if response.absent:
        say(f"the catalog has no {', '.join(response.absent)}")
