"""The RPCs that change and show the catalog: parse, record, encode."""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import numpy as np

from rf_platform.errors import UsageError
from rf_platform.registry.group_commit import GroupCommit
from rf_platform.registry.journal import CatalogJournal, Change, Recorded
from rf_protos.v1 import catalog_pb2
from rf_protos.v1.catalog_pb2 import (
    CatalogItem,
    DeleteItemsRequest,
    DeleteItemsResponse,
    GetItemsRequest,
    GetItemsResponse,
    Item,
    ListItemsRequest,
    ListItemsResponse,
    UpsertItemsRequest,
    UpsertItemsResponse,
)
from rf_protos.v1.catalog_pb2_grpc import CatalogServiceServicer, add_CatalogServiceServicer_to_server
from rf_serving.catalog.edits import Delete, Upsert
from rf_serving.catalog.live import LiveCatalog
from rf_serving.retrieval.retriever import Retriever
from rf_serving.retrieval.routing import Route
from rf_serving.server.interceptor import annotate
from rf_serving.server.options import Limits
from rf_serving.server.rpc import Service
from rf_serving.threads import use_one_thread
from rf_serving.user_features.offered import OfferedFeatures
from rf_serving.wire.ids import parse_id

T = TypeVar("T")
MAX_PAGE = 10_000
"""Most ids of one page of ListItems."""
_PAGE = 1000
_THREADS = 2
"""One may be busy with a large batch while another one reads."""


class CatalogServicer(CatalogServiceServicer):
    """``retrievalformer.v1.CatalogService`` over the catalog that ``retriever`` answers from; nothing runs in the event loop."""

    def __init__(
        self, retriever: Retriever, journal: CatalogJournal, limits: Limits, offered: OfferedFeatures | None = None
    ) -> None:
        self._retriever, self._limits, self._offered = retriever, limits, offered or OfferedFeatures()
        self._commits = GroupCommit(journal)
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="rf-catalog", initializer=use_one_thread)

    async def UpsertItems(self, request: UpsertItemsRequest, context: Any) -> UpsertItemsResponse:  # noqa: N802 (gRPC's name)
        """Add items, replace the features of existing ones, or change some of them."""
        self._limits.check_batch("items", len(request.items))
        catalog, *beside = map(_live, self._retriever.routing.routes)
        offered = self._offered.items
        upsert = await self._in_thread(lambda: Upsert(catalog, request.items, request.neighbours, offered, beside))
        if request.validate_only:
            return upsert.foreseen()
        recorded = await self._record(upsert.changes, catalog)
        response = await self._in_thread(lambda: upsert.reply(recorded))
        annotate(items=len(request.items), recorded=sum(change.fresh for change in recorded))
        return response

    async def DeleteItems(self, request: DeleteItemsRequest, context: Any) -> DeleteItemsResponse:  # noqa: N802
        """Remove items."""
        self._limits.check_batch("item_ids", len(request.item_ids))
        catalog = self.catalog
        delete = await self._in_thread(lambda: Delete(catalog, request.item_ids))
        recorded = await self._record(delete.changes, catalog)
        response = await self._in_thread(lambda: delete.reply(recorded))
        annotate(items=len(request.item_ids), recorded=sum(change.fresh for change in recorded))
        return response

    async def GetItems(self, request: GetItemsRequest, context: Any) -> GetItemsResponse:  # noqa: N802
        """Return items as they are now."""
        self._limits.check_batch("item_ids", len(request.item_ids))
        catalog = self.catalog
        return await self._in_thread(lambda: get_items(catalog, request))

    async def ListItems(self, request: ListItemsRequest, context: Any) -> ListItemsResponse:  # noqa: N802
        """Return the ids of items, page by page."""
        catalog = self.catalog
        return await self._in_thread(lambda: list_items(catalog, request))

    def close(self) -> None:
        """Record what is on its way and stop the threads."""
        self._commits.close()
        self._threads.shutdown(wait=False, cancel_futures=True)

    @property
    def catalog(self) -> LiveCatalog:
        """The catalog of the active bundle."""
        return _live(self._retriever.routing.active)

    async def _record(self, changes: Sequence[Change], catalog: LiveCatalog) -> list[Recorded]:
        """Record changes and take them into ``catalog`` and all that answer by then; what is acknowledged later is visible.

        Raises:
            UnavailableError: the journal cannot be written, or not be read: then the changes are recorded, and appear when it
                can be.
        """
        if not changes:
            return []
        recorded = await asyncio.wrap_future(self._commits.submit(changes))
        await self._in_thread(lambda: self._show(max(change.sequence for change in recorded), catalog))
        return recorded

    def _show(self, sequence: int, catalog: LiveCatalog) -> None:
        catalog.reach(sequence)
        # A bundle that takes over has what was recorded before it did, or is among these.
        for route in self._retriever.settled().routes:
            _live(route).reach(sequence)

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)


def _live(route: Route) -> LiveCatalog:
    assert isinstance(route.engine.catalog, LiveCatalog)
    return route.engine.catalog


def get_items(catalog: LiveCatalog, request: GetItemsRequest) -> GetItemsResponse:
    """Return items of a catalog."""
    snapshot, id_type = catalog.snapshot, catalog.bundle.spec.item.id_type
    names = []
    for place, text in enumerate(request.item_ids):
        try:
            names.append(parse_id(text, id_type, f"item_ids[{place}]"))
        except UsageError:
            names.append("")  # no item has such an id
    rows = snapshot.rows_of(names)
    there = np.flatnonzero(snapshot.live(rows))
    found = rows[there]
    details = zip(
        there.tolist(),
        snapshot.values(found),
        snapshot.sequences(found),
        catalog.encoder.cold([names[place] for place in there]).tolist(),
        strict=True,
    )
    items = [
        CatalogItem(
            item=Item(item_id=str(names[place]), features=catalog.schema.message(values)),
            sequence=sequence,
            cold=cold,
        )
        for place, values, sequence, cold in details
    ]
    present = set(there.tolist())
    absent = [text for place, text in enumerate(request.item_ids) if place not in present]
    return GetItemsResponse(items=items, absent=absent, display_fields=catalog.schema.display)


def list_items(catalog: LiveCatalog, request: ListItemsRequest) -> ListItemsResponse:
    """Return a page of the ids of a catalog's items.

    Raises:
        UsageError: the size of the page, or the token, is none.
    """
    if not 0 <= request.page_size <= MAX_PAGE:
        raise UsageError(
            f"page_size: {request.page_size} is not possible; ask for 1 to {MAX_PAGE:,}, or 0 for {_PAGE:,}"
        )
    snapshot, after = catalog.snapshot, None
    if request.page_token:
        after = parse_id(request.page_token, catalog.bundle.spec.item.id_type, "page_token")
    size = request.page_size or _PAGE
    ids = [str(item) for item in snapshot.first_ids(after, size + 1, offered=request.recommendable)]
    more = len(ids) > size
    return ListItemsResponse(
        item_ids=ids[:size], next_page_token=ids[size - 1] if more else "", catalog_sequence=snapshot.sequence
    )


def catalog_service(servicer: CatalogServicer) -> Service:
    """Return ``CatalogService``."""
    return Service(
        descriptor=catalog_pb2.DESCRIPTOR.services_by_name["CatalogService"],
        servicer=servicer,
        add=add_CatalogServiceServicer_to_server,
    )
