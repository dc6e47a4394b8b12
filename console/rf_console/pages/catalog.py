"""The catalog: search, the card of an item, and changes of items."""

import json
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode

from starlette.responses import Response

from rf_console.catalog_index import CatalogIndex, Found
from rf_console.item_map import HEIGHT, WIDTH, places
from rf_console.web.routes import Change, Done, Endpoint, Page, Question
from rf_console.web.visit import Visit
from rf_platform.errors import NotFoundError, RfError, UsageError
from rf_platform.features.spec import FeatureSpec, FieldSpec
from rf_platform.registry import BundleRecord
from rf_protos.v1.catalog_pb2 import CatalogItem, DeleteStatus, Item, UpsertStatus
from rf_protos.v1.retrieval_pb2 import SimilarItemsRequest
from rf_serving.server.rpc import Role
from rf_serving.wire.values import given_value

_PAGE, _DEEPEST = 50, 1000
_NEIGHBOURS, _ON_THE_MAP = 12, 40


def read(visit: Visit) -> Mapping[str, Any]:
    """Return the items that a search finds."""
    record, index = visit.catalog
    text, page = visit.value("q"), visit.whole("page", 1, most=_DEEPEST // _PAGE)
    filters = [_filter(each, index) for each in visit.values("where")]
    found = index.find(text, filters, start=(page - 1) * _PAGE, count=_PAGE)
    return {
        "bundle": record.name,
        "index": index,
        "found": found,
        "q": text,
        "filters": filters,
        "page": page,
        "pages": min(-(-found.count // _PAGE), _DEEPEST // _PAGE),
        "columns": [
            name for name in index.display if not any(name.endswith(end) for end in ("__image", "__image_url"))
        ],
        "image": lambda item: _image(visit, index, item),
        "without": lambda pair: _query(text, [each for each in filters if each != pair]),
    }


def read_item(visit: Visit) -> Mapping[str, Any]:
    """Return everything that is known of an item."""
    item_id = visit.needed("id")
    record, index = visit.catalog
    found = index.of([item_id]).get(item_id)
    item, similar, problem = _asked(visit, item_id)
    if found is None and item is None:
        raise NotFoundError(f"the catalog has no item {item_id[:100]!r}; search for another one, or add it")
    near = index.of([each.item_id for each in similar])
    change = visit.console.catalogs.journal.find(item.sequence) if item is not None and item.sequence else None
    values = dict(found.shown) if found is not None else {}
    if item is not None:
        values = {name: given_value(value) for name, value in item.item.features.items()}
    return {
        "id": item_id,
        "heading": index.title(found) if found is not None else item_id,
        "image_url": _image(visit, index, found) if found is not None else "",
        "values": [(each, values.get(each.name)) for each in fields_of(index.spec)],
        "item": item,
        "problem": problem,
        "record": record,
        "changed": datetime.fromtimestamp(change.changed_us / 1e6, UTC) if change is not None else None,
        "similar": [(each, near.get(each.item_id)) for each in similar[:_NEIGHBOURS]],
        "points": _map(record, index, found, near),
        "index": index,
        "size": (WIDTH, HEIGHT),
    }


def _asked(visit: Visit, item_id: str) -> tuple[CatalogItem | None, list[Any], str]:
    """Ask the server for an item and for those similar to it at once; returns why it does not answer, too."""
    request = SimilarItemsRequest(item_ids=[item_id], k=_ON_THE_MAP)
    with ThreadPoolExecutor(1) as beside:
        similar, item = beside.submit(visit.client.similar, request), None
        try:
            item = next(iter(visit.client.items([item_id]).items), None)
            return item, list(similar.result().items) if item is not None else [], ""
        except RfError as error:
            return item, [], str(error)


def read_image(visit: Visit) -> Response:
    """Return the image of an item that is a file."""
    item_id, (_, index) = visit.needed("id"), visit.catalog
    found = index.of([item_id]).get(item_id)
    image = visit.console.images.read(index.image(found) if found is not None else "")
    return Response(image.content, media_type=image.media_type, headers={"cache-control": "private, max-age=300"})


def read_form(visit: Visit) -> Mapping[str, Any]:
    """Return the fields of an item that is changed, or added."""
    item_id, new = visit.value("id"), visit.value("new") == "yes" or not visit.value("id")
    _, index = visit.catalog
    values = {} if new else _values(visit, item_id)
    filled = dict(visit.form)
    fields = [
        (each, filled.get(f"field:{each.name}", written(values.get(each.name)))) for each in fields_of(index.spec)
    ]
    return {"id": item_id, "new": new, "fields": fields}


def ask_save(visit: Visit) -> Question:
    """Say what a changed or new item would become, as the server checks it."""
    item, names = _item(visit)
    back = f"/item/edit?{urlencode({'id': item.item_id})}" if item.update_mask else "/item/new"
    if not names:
        return Question(text=f"Nothing differs from item {item.item_id}", problem="change a field first", back=back)
    (status,) = visit.client.upsert([item], validate_only=True)
    outcome = UpsertStatus.Outcome.Name(status.outcome)
    verb = "Change" if item.update_mask else "Add"
    if outcome == "REJECTED":
        return Question(text=f"{verb} item {item.item_id}?", problem=status.message, back=back)
    notes = [f"{name}: {item.features[name].string_value if name in item.features else 'missing'}" for name in names]
    notes += [status.message] if status.message else []
    if outcome == "CHANGED" and not item.update_mask:
        notes.append("there is an item of this id already; it is replaced as a whole")
    return Question(text=f"{verb} item {item.item_id}?", notes=notes, back=back)


def make_save(visit: Visit) -> Done:
    """Change or add an item."""
    item, names = _item(visit)
    if not names:
        raise UsageError("nothing differs; change a field first")
    (status,) = visit.client.upsert([item])
    if status.outcome == UpsertStatus.REJECTED:
        raise UsageError(status.message)
    outcome = UpsertStatus.Outcome.Name(status.outcome).lower()
    visit.catalog[1].look()
    return Done(text=f"Item {item.item_id}: {outcome}", location=_card(item.item_id))


def ask_delete(visit: Visit) -> Question:
    """Ask before an item is deleted."""
    item_id = visit.needed("id")
    index = visit.catalog[1]
    title = index.titles([item_id])[item_id]
    notes = ["it is not returned any more, by any server and any later bundle, until it is added anew"]
    return Question(text=f"Delete item {item_id}: {title}?", notes=notes, back=_card(item_id))


def make_delete(visit: Visit) -> Done:
    """Delete an item."""
    item_id = visit.needed("id")
    (status,) = visit.client.delete([item_id])
    if status.outcome == DeleteStatus.REJECTED:
        raise UsageError(status.message)
    visit.catalog[1].look()
    return Done(text=f"Item {item_id}: {DeleteStatus.Outcome.Name(status.outcome).lower()}", location="/catalog")


def fields_of(spec: FeatureSpec) -> list[FieldSpec]:
    """Return the fields that people see and change, those for people first."""
    carried = [each for each in spec.carried("item") if each.role != "label"]
    return sorted(carried, key=lambda each: (each.role != "display", each.name))


def written(value: Any) -> str:
    """Return a value as it is written in files."""
    if value is None or value == []:
        return ""
    return json.dumps(value, ensure_ascii=False) if isinstance(value, list) else str(value)


def _values(visit: Visit, item_id: str) -> dict[str, Any]:
    found = visit.client.items([item_id])
    if not found.items:
        raise NotFoundError(f"the catalog has no item {item_id[:100]!r}; add it")
    return {name: given_value(value) for name, value in found.items[0].item.features.items()}


def _item(visit: Visit) -> tuple[Item, list[str]]:
    """Return the item of a form, and the names of the fields that it says something new of."""
    given = {name.removeprefix("field:"): value.strip() for name, value in visit.form if name.startswith("field:")}
    item = Item(item_id=visit.needed("id"))
    before: dict[str, Any] = {}
    if visit.value("new") != "yes":
        before = _values(visit, item.item_id)
    names = [name for name, value in given.items() if value != written(before.get(name))]
    if visit.value("new") != "yes":
        item.update_mask.extend(names)
    for name in names:
        if given[name]:
            item.features[name].string_value = given[name]
    return item, names


def _filter(text: str, index: CatalogIndex) -> tuple[str, str]:
    name, sign, value = text.partition("=")
    full = [each for each in index.filters if name in (each, each.partition("__")[2])]
    if not sign or not full:
        known = ", ".join(index.filters[:20])
        raise UsageError(f"where={text[:100]!r} is no filter; write FEATURE=VALUE with one of {known}")
    return full[0], value


def _image(visit: Visit, index: CatalogIndex, item: Found) -> str:
    """Return the address of an image that the browser may load; empty: there is none."""
    address = index.image(item)
    if visit.console.images.find(address) is not None:
        return f"/item/image?{urlencode({'id': item.id})}"
    return address if address.startswith(tuple(f"{each}/" for each in visit.console.options.image_origins)) else ""


def _map(
    record: BundleRecord, index: CatalogIndex, item: Found | None, near: Mapping[str, Found]
) -> list[tuple[Found, Any, str]]:
    """Return the items of the map: each with its place and its title, the item itself last."""
    shown = [each for each in [*near.values(), item] if each is not None and each.row is not None]
    if len(shown) < 3:
        return []
    points = places(record, [each.row for each in shown if each.row is not None])
    return [(each, point, index.title(each)) for each, point in zip(shown, points, strict=True)]


def _card(item_id: str) -> str:
    return f"/item?{urlencode({'id': item_id})}"


def _query(text: str, filters: list[tuple[str, str]]) -> str:
    pairs = [*([("q", text)] if text else []), *(("where", f"{name}={value}") for name, value in filters)]
    return f"/catalog?{urlencode(pairs)}"


_FORM = Page(
    path="/item/edit", title="Change an item", template="item_form.html", read=read_form, role=Role.WRITE, listed=False
)
ROUTES: tuple[Page | Change | Endpoint, ...] = (
    Page(path="/catalog", title="Catalog", template="catalog.html", read=read),
    Page(path="/item", title="Item", template="item.html", read=read_item, listed=False),
    Endpoint(path="/item/image", answer=read_image),
    _FORM,
    replace(_FORM, path="/item/new", title="Add an item"),
    Change(
        path="/item/save",
        action="upsert item",
        role=Role.WRITE,
        ask=ask_save,
        make=make_save,
        button="Save",
        back="/catalog",
        form=_FORM,
    ),
    Change(
        path="/item/delete",
        action="delete item",
        role=Role.WRITE,
        ask=ask_delete,
        make=make_delete,
        button="Delete",
        back="/catalog",
    ),
)
