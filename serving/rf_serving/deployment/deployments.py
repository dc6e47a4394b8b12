"""Deployments of a server process, kept as the registry says; compacted catalogs of bundles that are not served any more go."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Event, Lock, Thread
from time import monotonic, perf_counter

import structlog

from rf_platform.errors import RfError, UnavailableError, UsageError
from rf_platform.redaction import without_secrets
from rf_platform.registry import BundleRecord, PolicyRecord, Registry, ServingPlan
from rf_serving.catalog.compaction.cache_directory import GRACE_SECONDS, directory_name, remove_unused
from rf_serving.deployment.loader import BundleLoader, Loaded
from rf_serving.deployment.metrics import DeploymentMetrics
from rf_serving.deployment.policies import PolicyFit
from rf_serving.deployment.shadow import Shadow
from rf_serving.retrieval.retriever import Retriever
from rf_serving.retrieval.routing import Route, Routing
from rf_serving.threads import start_background

SWEEP_SECONDS = 60.0


class CacheSweep:
    """Looks now and then for what no bundle needs that is served, stands beside it, or is what a rollback returns to.

    Servers of other bundles (``rf serve --bundle``) keep theirs, because they use it: see
    :mod:`rf_serving.catalog.compaction.cache_directory`.
    """

    def __init__(self, cache: Path, registry: Registry) -> None:
        self._cache, self._registry = cache, registry
        self._log = structlog.get_logger("rf_serving")
        self._due = 0.0

    def step(self, plan: ServingPlan) -> None:
        """Sweep if it is time to; what goes wrong is logged, and changes nothing else."""
        if monotonic() < self._due:
            return
        self._due = monotonic() + SWEEP_SECONDS
        try:
            for removed in remove_unused(self._cache, self._needed(plan), GRACE_SECONDS):
                self._log.info("unused catalog removed", directory=removed.name, bytes=removed.bytes)
        except UnavailableError:  # the registry has just gone; the follower says so
            pass
        except Exception:
            self._log.exception("unused catalogs are not removed")

    def _needed(self, plan: ServingPlan) -> set[str]:
        bundles = [plan.active, plan.challenger, plan.shadow]
        with suppress(UsageError):  # nothing was served before
            bundles.append(self._registry.rollback_target())
        return {directory_name(each.name, each.manifest_sha256) for each in bundles if each is not None}


POLL_SECONDS = 1.0
_RETRY_SECONDS = 30.0
_MOST_RETRY_SECONDS = 600.0
_CLOSE_SECONDS = 5.0


@dataclass(frozen=True, kw_only=True)
class Serving:
    """Bundles in service at one moment."""

    active: Loaded
    challenger: Loaded | None = None
    percent: float = 0.0
    shadow: Shadow | None = None
    refused: str = ""
    """Reason for a refused bundle; empty if all is as the registry says."""
    swaps: int = 1
    """Bundles that took over as the active one, the first included."""
    policy: PolicyRecord | None = None
    """Policy that all of them answer by; None: there is none."""


@dataclass(frozen=True)
class _Refusal:
    reason: str
    again_at: float
    wait: float


class Deployments:
    """Follows the registry: loads what is to be served, checks it, and lets it take over between two requests.

    A bundle that is not fit is refused, and what was served goes on; it is tried again from time to time, since a damaged
    copy may be replaced. A registry that cannot be read changes nothing.
    """

    pause_seconds = 5.0
    """Until a swap that failed at its last step is tried again."""

    def __init__(
        self,
        retriever: Retriever,
        loader: BundleLoader,
        first: Loaded,
        metrics: DeploymentMetrics,
        busy: Callable[[], bool] = lambda: False,
        policies: Sequence[PolicyRecord] = (),
    ) -> None:
        """Serve the first bundle.

        Args:
            retriever: answers by the routing that it is given.
            loader: loads bundles.
            first: the bundle that is served first.
            metrics: told about everything.
            busy: whether the server has so much to do that a shadow should pause.
            policies: versions of the policy, oldest first: the newest one that fits is followed.
        """
        self._retriever, self._loader, self._metrics, self._busy = retriever, loader, metrics, busy
        self._log = structlog.get_logger("rf_serving")
        self._refusals: dict[str, _Refusal] = {}
        self._changing = Lock()
        self._stop = Event()
        self._thread: Thread | None = None
        self._fit = PolicyFit(metrics)
        reasons: list[str] = []
        _, policy = self._fit.first([*((first, each) for each in reversed(policies)), (first, None)], reasons)
        self.serving = Serving(active=first, policy=policy, refused="; ".join(reasons))
        """Bundles in service; replaced as a whole."""
        self._route(ServingPlan.of(first.record), self.serving)

    def follow(self, registry: Registry, poll_seconds: float = POLL_SECONDS) -> None:
        """Poll the registry in the background, until :meth:`close`."""
        self._thread = start_background("rf-deployments", lambda: self._follow(registry, poll_seconds))

    def close(self) -> None:
        """Stop following and let go of all bundles."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(_CLOSE_SECONDS)
        serving = self.serving
        if serving.shadow is not None:
            serving.shadow.close()
        for loaded in _loaded(serving).values():
            loaded.close()

    def apply(self, plan: ServingPlan) -> None:
        """Serve what a plan says, as far as it is fit to be served. Blocks while bundles are loaded."""
        with self._changing:
            before = self.serving
            held = _loaded(before)
            reasons: list[str] = []
            active = self._get(plan.active, held, reasons) or before.active
            challenger = self._get(plan.challenger, held, reasons)
            shadowing = self._get(plan.shadow, held, reasons)
            pairs = [(a, p) for a in (active, before.active) for p in (plan.policy, before.policy)]
            active, policy = self._fit.first(list(dict.fromkeys(pairs)), reasons)
            challenger, shadowing = (self._fitting(each, policy, reasons) for each in (challenger, shadowing))
            shadow = self._shadow(before.shadow, shadowing, plan.traffic.share)
            after = Serving(
                active=active,
                challenger=challenger,
                percent=plan.traffic.percent if challenger is not None else 0.0,
                shadow=shadow,
                refused="; ".join(reasons),
                swaps=before.swaps + (active is not before.active),
                policy=policy,
            )
            for name, loaded in held.items():
                if name not in _loaded(before) and name not in _loaded(after):  # it does not fit the policy
                    loaded.close()
            try:
                self._take_over(plan, before, after)
            except BaseException:
                for name, loaded in _loaded(after).items():
                    if name not in _loaded(before):
                        loaded.close()
                if shadow is not None and shadow is not before.shadow:
                    shadow.close()
                raise

    def due(self) -> bool:
        """Whether a bundle that was refused should be tried again."""
        return any(refusal.again_at <= monotonic() for refusal in self._refusals.values())

    def _get(self, record: BundleRecord | None, held: dict[str, Loaded], reasons: list[str]) -> Loaded | None:
        """Return a bundle that is loaded already or can be; otherwise add the reason."""
        if record is None:
            return None
        if (loaded := held.get(record.name)) is not None:
            self._refusals.pop(record.name, None)
            return loaded
        refusal = self._refusals.get(record.name)
        if refusal is None or refusal.again_at <= monotonic():
            begin = perf_counter()
            try:
                held[record.name] = self._loader.load(record, self._retriever.routing.active)
            except Exception as error:
                refusal = self._refuse(record.name, error, refusal)
            else:
                self._refusals.pop(record.name, None)
                seconds = perf_counter() - begin
                self._metrics.load_seconds.observe(seconds)
                self._log.info("bundle loaded", bundle=record.name, seconds=round(seconds, 3))
                return held[record.name]
        reasons.append(refusal.reason)
        return None

    def _fitting(self, loaded: Loaded | None, policy: PolicyRecord | None, reasons: list[str]) -> Loaded | None:
        """Return a bundle if the policy fits it; otherwise add the reason."""
        if loaded is None or (fault := self._fit.fault(loaded, policy)) is None:
            return loaded
        reasons.append(fault)
        return None

    def _refuse(self, name: str, error: Exception, before: _Refusal | None) -> _Refusal:
        if isinstance(error, RfError):
            reason = without_secrets(str(error))
        else:
            self._log.exception("bundle cannot be loaded", bundle=name)
            reason = f"bundle '{name}' cannot be loaded ({type(error).__name__}); the server's log has the details"
        wait = min(2 * before.wait, _MOST_RETRY_SECONDS) if before else _RETRY_SECONDS
        self._metrics.refusals.inc()
        self._log.error("bundle refused", bundle=name, reason=reason, again_in_seconds=wait)
        self._refusals[name] = _Refusal(reason, monotonic() + wait, wait)
        return self._refusals[name]

    def _shadow(self, before: Shadow | None, loaded: Loaded | None, share: float) -> Shadow | None:
        if loaded is None:
            return None
        if before is not None and before.loaded is loaded and before.share == share:
            return before
        return Shadow(loaded, share, self._metrics, self._busy)

    def _take_over(self, plan: ServingPlan, before: Serving, after: Serving) -> None:
        kept = _loaded(after)
        wanted = {record.name for record in (plan.active, plan.challenger, plan.shadow) if record is not None}
        self._refusals = {name: refusal for name, refusal in self._refusals.items() if name in wanted}
        for name, loaded in kept.items():
            if name not in _loaded(before):
                loaded.catalog.catch_up()
        with self._retriever.switching:
            # An acknowledgement waits for the bundles that answer: not for one that is about to, be it new or a shadow so far.
            for loaded in kept.values():
                loaded.catalog.catch_up()
            self._route(plan, after)
            self.serving = after  # told only when requests are answered so
        if after.policy != before.policy:
            self._log.info("policy took over", version=after.policy and after.policy.version)
        if after.swaps != before.swaps:
            self._metrics.swaps.inc()
            self._log.info("bundle took over", bundle=after.active.name, before=before.active.name)
        if before.shadow is not None and before.shadow is not after.shadow:
            before.shadow.close()
        for name, loaded in _loaded(before).items():
            if kept.get(name) is not loaded:
                loaded.close()
                self._log.info("bundle let go", bundle=name)

    def _route(self, plan: ServingPlan, serving: Serving) -> None:
        challenger = serving.challenger
        if serving.shadow is not None:
            serving.shadow.route = self._by_policy(serving.shadow.loaded, serving)
        self._retriever.routing = Routing(
            active=self._by_policy(serving.active, serving),
            challenger=self._by_policy(challenger, serving)
            if challenger is not None and challenger is not serving.active
            else None,
            percent=serving.percent,
            salt=plan.traffic.salt,
            shadow=serving.shadow,
        )
        roles = {
            "active": serving.active,
            "challenger": challenger,
            "shadow": serving.shadow.loaded if serving.shadow is not None else None,
        }
        self._metrics.set_bundles(
            {role: (each.name, each.record.spec_hash) for role, each in roles.items() if each is not None}
        )
        self._metrics.refused.set(bool(serving.refused))
        self._metrics.policy_version.set(serving.policy.version if serving.policy is not None else 0)

    def _by_policy(self, loaded: Loaded, serving: Serving) -> Route:
        """Return the route of a bundle with the policy that it answers by."""
        return replace(loaded.route, policy=self._fit.compiled(loaded, serving.policy))

    def _follow(self, registry: Registry, poll_seconds: float) -> None:
        seen: tuple[int, int, int] | None = None
        down = False
        sweep = CacheSweep(self._loader.cache, registry)
        while not self._stop.wait(poll_seconds):
            try:
                plan = registry.traffic.plan()
            except RfError as error:
                self._metrics.registry_up.set(0)
                if not down:
                    self._log.warning("registry cannot be read", serving=self.serving.active.name, error=str(error))
                down = True
                continue
            if down:
                self._log.info("registry can be read again")
                down = False
            self._metrics.registry_up.set(1)
            if plan.revision != seen or self.due():
                try:
                    self.apply(plan)
                    seen = plan.revision
                except Exception as error:
                    # Such as a journal that cannot be read at the moment of the swap; what was loaded is let go again.
                    report = self._log.warning if isinstance(error, RfError) else self._log.exception
                    report("failed to follow the registry", serving=self.serving.active.name, error=str(error))
                    self._stop.wait(max(poll_seconds, self.pause_seconds))
                    continue
            sweep.step(plan)


def _loaded(serving: Serving) -> dict[str, Loaded]:
    """Return all bundles in use by name."""
    shadow = serving.shadow.loaded if serving.shadow is not None else None
    return {each.name: each for each in (serving.active, serving.challenger, shadow) if each is not None}
