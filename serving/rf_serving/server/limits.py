"""Limits of one request, and of all requests together."""

from dataclasses import dataclass

from rf_platform.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Limits of one server process; what a request may ask for is checked by the servicers, which name the limit."""

    max_k: int = 1000
    """Largest ``k`` of a Retrieve."""
    max_batch: int = 1000
    """Most items or events in one request."""
    max_session: int = 10_000
    """Most interactions in a session's history."""
    max_message_bytes: int = 4 * 1024 * 1024
    """Largest request message; a larger one is refused with RESOURCE_EXHAUSTED before it is read."""

    def check_batch(self, field: str, count: int) -> None:
        """Check the number of items or events in a request.

        Raises:
            UsageError: there are none, or more than :attr:`max_batch`; the message begins with ``field``.
        """
        if count == 0:
            raise UsageError(f"{field}: must not be empty")
        if count > self.max_batch:
            raise UsageError(
                f"{field}: {count} are given, and a request may have {self.max_batch} (--max-batch); split it"
            )
