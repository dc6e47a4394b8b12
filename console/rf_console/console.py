"""What the pages read from: the workspace, its registry, and the server beside it."""

from collections import OrderedDict
from functools import cached_property, lru_cache
from threading import Lock

from rf_console.audit import AuditLog
from rf_console.bundles import Bundles
from rf_console.catalogs import Catalogs
from rf_console.feature_statistics import FeatureStatisticsReader
from rf_console.item_images import ItemImages
from rf_console.metrics import MetricsReader
from rf_console.options import ConsoleOptions
from rf_console.recent_users import RecentUsers
from rf_console.users import Users
from rf_platform.policies import read_policy
from rf_platform.registry import Registry
from rf_platform.settings import Settings
from rf_serving.client import RetrievalClient

_CLIENTS = 64
_CALL_SECONDS = 5.0


class Console:
    """The platform as the console sees it; safe from several threads.

    Args:
        settings: of the workspace.
        options: of the console.
    """

    def __init__(self, settings: Settings, options: ConsoleOptions) -> None:
        self.settings, self.options = settings, options
        self.registry = Registry.of(settings)
        self.metrics = MetricsReader(options.metrics_url) if options.metrics_url is not None else None
        """Metrics of the server; None: they are not read."""
        self.audit = AuditLog(settings.workspace.root / "console" / "audit.jsonl")
        self.catalogs = Catalogs(settings, self.registry)
        """Indexes of the items."""
        self.users = Users(settings)
        """Users of the online store."""
        self.recent_users = RecentUsers(settings)
        """Users who were there last."""
        self.images = ItemImages(options.image_files)
        """Images of items that are files."""
        self.features = FeatureStatisticsReader()
        """Statistics of datasets."""
        self.bundles = Bundles()
        """Bundles that are opened to be compared."""
        self._clients: OrderedDict[str, RetrievalClient] = OrderedDict()
        self._lock = Lock()

    def warm(self) -> None:
        """Begin to load what the first visitors would wait for."""
        self.users.warm(self.registry.active_bundle())

    def placements(self) -> list[str]:
        """Return the placements of the policy in effect; empty: there is none."""
        policy = self.registry.policies.newest()
        return list(_placements(policy.text, policy.name)) if policy is not None else []

    def client(self, secret: str) -> RetrievalClient:
        """Return a client of the server that shows a token; empty: that of RF_TOKEN, if any."""
        with self._lock:
            if (client := self._clients.get(secret)) is None:
                client = RetrievalClient(self.options.address, _CALL_SECONDS, token=secret or None)
                self._clients[secret] = client
            self._clients.move_to_end(secret)
            while len(self._clients) > _CLIENTS:
                self._clients.popitem(last=False)  # ends with its last call
            return client

    @cached_property
    def name(self) -> str:
        """Name of the workspace, for titles."""
        root = self.settings.workspace.root
        return root.name if not root.name.startswith(".") else root.parent.name

    def close(self) -> None:
        """Close what is open."""
        with self._lock:
            for client in self._clients.values():
                client.__exit__(None, None, None)
            self._clients.clear()
        self.users.close()
        self.catalogs.close()


@lru_cache(maxsize=8)
def _placements(text: str, name: str) -> tuple[str, ...]:
    return tuple(read_policy(text, name).placements)
