"""Prometheus metrics of the catalog, read when they are asked for."""

from collections.abc import Callable, Iterator

from prometheus_client import Metric
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from rf_serving.catalog.live import LiveCatalog


class CatalogMetrics(Collector):
    """Sizes of the catalog that answers, and the last change that is in it; register it with a registry of metrics."""

    def __init__(self, catalog: Callable[[], LiveCatalog]) -> None:
        """``catalog``: returns the one that answers."""
        self._catalog = catalog

    def collect(self) -> Iterator[Metric]:
        """Read the newest snapshot."""
        catalog = self._catalog()
        snapshot = catalog.snapshot
        base = snapshot.base.rows
        yield GaugeMetricFamily("rf_catalog_items", "Items that can be returned.", snapshot.alive)
        yield GaugeMetricFamily("rf_catalog_sequence", "Last change that is taken into account.", snapshot.sequence)
        yield GaugeMetricFamily("rf_catalog_delta_rows", "Rows behind the base: scanned.", snapshot.rows - base)
        yield GaugeMetricFamily("rf_catalog_dead_rows", "Rows of the base that are dead.", base - snapshot.listed_base)
        learned = 0 if catalog.first_users is None else len(catalog.first_users.items)
        yield GaugeMetricFamily("rf_catalog_learned_items", "Items that their first users have moved.", learned)
        unfit = "Items that were not taken from the journal as they were recorded, since this bundle was loaded."
        yield GaugeMetricFamily("rf_catalog_unfit_items", unfit, catalog.unfit)
