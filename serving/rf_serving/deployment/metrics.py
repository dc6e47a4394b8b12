"""Prometheus metrics of what is served."""

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Metric
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0)
_LOADING = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0)
_SHARES = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 1.0)


class DeploymentMetrics:
    """Bundles, swaps, refusals, and the comparison with a shadow."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._bundles = _Bundles()
        registry.register(self._bundles)
        self.swaps = Counter("rf_bundle_swaps", "Bundles that took over.", registry=registry)
        self.refusals = Counter("rf_bundle_refusals", "Bundles that were not fit to be served.", registry=registry)
        self.refused = Gauge(
            "rf_bundle_refused", "1 while a bundle that should be served is refused.", registry=registry
        )
        self.policy_version = Gauge(
            "rf_policy_version", "Version of the policy that answers follow; 0: none.", registry=registry
        )
        self.skipped_rules = Counter(
            "rf_policy_skipped_rules",
            "Rules that answers did without, since the catalog has changed.",
            ["placement"],
            registry=registry,
        )
        self.load_seconds = Histogram(
            "rf_bundle_load_seconds", "Time to check and load a bundle.", buckets=_LOADING, registry=registry
        )
        self.registry_up = Gauge("rf_registry_up", "Whether the registry could be read last.", registry=registry)
        self.registry_up.set(1)
        self._shadow = Counter(
            "rf_shadow_requests",
            "Requests shown to the shadow: answered, failed, dropped while busy.",
            ["outcome"],
            registry=registry,
        )
        self._overlap = Histogram(
            "rf_shadow_overlap",
            "Share of the active bundle's items that the shadow returned too.",
            buckets=_SHARES,
            registry=registry,
        )
        self._compared = Histogram(
            "rf_shadow_seconds",
            "Time of one request without the feature read, in both bundles.",
            ["role"],
            buckets=_SECONDS,
            registry=registry,
        )

    def set_bundles(self, roles: dict[str, tuple[str, str]]) -> None:
        """Set the bundles in use: name and spec hash by role."""
        self._bundles.roles = roles

    def shadowed(self, outcome: str, *, overlap: float = 0.0, active: float = 0.0, shadow: float = 0.0) -> None:
        """Count what the shadow did with a request."""
        self._shadow.labels(outcome).inc()
        if outcome == "answered":
            self._overlap.observe(overlap)
            self._compared.labels("active").observe(active)
            self._compared.labels("shadow").observe(shadow)


class _Bundles(Collector):
    """``rf_bundle_info``: the bundles in use now, and no other."""

    def __init__(self) -> None:
        self.roles: dict[str, tuple[str, str]] = {}

    def collect(self) -> Iterator[Metric]:
        """Yield one sample a role."""
        info = GaugeMetricFamily(
            "rf_bundle_info",
            "A bundle in use; role is active, challenger or shadow.",
            labels=["bundle", "spec_hash", "role"],
        )
        for role, (bundle, spec_hash) in self.roles.items():
            info.add_metric([bundle, spec_hash, role], 1)
        yield info
