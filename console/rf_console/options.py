"""Options of the console."""

from dataclasses import dataclass
from pathlib import Path

from rf_platform.errors import UsageError
from rf_serving.server.options import check_exposure, is_loopback
from rf_serving.server.tls import TlsFiles

PORT = 8090
"""Default of ``rf console --port``."""


@dataclass(frozen=True, kw_only=True)
class ConsoleOptions:
    """All settings of ``rf console``."""

    host: str = "127.0.0.1"
    port: int = PORT
    """0 chooses a free one."""
    address: str = "127.0.0.1:50051"
    """``host:port`` of the server that is asked."""
    metrics_url: str | None = None
    """Metrics of that server; None: rates and latencies are not shown."""
    tokens: Path | None = None
    """File of the tokens that people log in with; None: whoever reaches the console may do everything."""
    tls: TlsFiles | None = None
    insecure: bool = False
    """Serve others than this machine without TLS or tokens."""
    image_origins: tuple[str, ...] = ()
    """Origins that images of items may be loaded from, such as ``https://images.shop.example``."""

    image_files: Path | None = None
    """Directory below which images of items are files; None: such images are not shown."""
    feast_ui: str | None = None
    """URL of Feast's own pages, for a link; None: there is no link."""

    @property
    def local_only(self) -> bool:
        """Whether nothing but this machine's own address protects the console."""
        return self.tokens is None and not self.insecure and is_loopback(self.host)

    def check(self) -> None:
        """Refuse to be open to others by accident.

        Raises:
            ConfigError: the address is not loopback, and TLS or tokens are missing.
            UsageError: the host has no address, or an origin of images is none.
        """
        for origin in self.image_origins:
            scheme, found, rest = origin.partition("://")
            if scheme not in ("http", "https") or not found or not rest or any(c in rest for c in " ;,/'\""):
                raise UsageError(f"--images {origin!r} is no origin; give one such as https://images.shop.example")
        if self.image_files is not None and not self.image_files.is_dir():
            raise UsageError(
                f"--image-files {self.image_files} is no directory; name the one that paths of images begin at"
            )
        if self.metrics_url is not None and not self.metrics_url.startswith(("http://", "https://")):
            raise UsageError(
                f"--metrics {self.metrics_url!r} is no URL; give one such as http://127.0.0.1:9090/metrics, of "
                f"`rf serve --metrics-port 9090`"
            )
        if self.feast_ui is not None and not self.feast_ui.startswith(("http://", "https://")):
            raise UsageError(
                f"--feast-ui {self.feast_ui!r} is no URL; give one such as http://127.0.0.1:8888, of `feast ui`"
            )
        check_exposure(self.host, tls=self.tls is not None, tokens=self.tokens is not None, insecure=self.insecure)
