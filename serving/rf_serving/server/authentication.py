"""Authentication of callers by token, and authorisation by role."""

from collections.abc import Callable, Iterable
from pathlib import Path
from time import monotonic
from typing import Any

import structlog

from rf_platform.errors import ConfigError, RfError
from rf_serving.server.rpc import Role
from rf_serving.server.tokens import Token, find_token, read_tokens

_LOOK_SECONDS = 1.0
_SCHEME = "bearer "


class UnauthenticatedError(RfError):
    """The caller has shown no token, or none that is known."""

    told = True
    grpc_status = "UNAUTHENTICATED"


class ForbiddenError(RfError):
    """The caller's role does not reach."""

    told = True
    grpc_status = "PERMISSION_DENIED"


class Authentication:
    """Checks bearer tokens against a file that may change at any time. Used from the event loop only."""

    def __init__(self, path: Path, clock: Callable[[], float] = monotonic) -> None:
        """Read the file.

        Raises:
            ConfigError: it cannot be read, or has no token.
        """
        self._path, self._clock = path, clock
        self._log = structlog.get_logger("rf_serving")
        self._seen = _signature(path)
        self._tokens: list[Token] = read_tokens(path)
        if not self._tokens:
            raise ConfigError(f"the tokens file {path} has no token; add one with `rf token add NAME --role read`")
        self._look_at = clock() + _LOOK_SECONDS

    def check(self, metadata: Iterable[tuple[str, Any]] | None, needed: Role) -> str:
        """Return the name of the caller.

        Args:
            metadata: of the call; ``authorization: Bearer TOKEN`` is looked for.
            needed: the role that the method needs.

        Raises:
            UnauthenticatedError: there is no token, or it is not known (any more).
            ForbiddenError: its role does not reach.
        """
        given = next((value for key, value in metadata or () if key == "authorization"), None)
        if not isinstance(given, str) or not given.lower().startswith(_SCHEME):
            raise UnauthenticatedError("a token is needed: send the metadata 'authorization: Bearer TOKEN'")
        token = self.find(given[len(_SCHEME) :].strip())
        if token is None:
            raise UnauthenticatedError("the token is not known here; it may have been removed")
        if token.role < needed:
            raise ForbiddenError(
                f"the token of '{token.name}' has the role {token.role.name.lower()}, and this method needs "
                f"{needed.name.lower()}"
            )
        return token.name

    def find(self, secret: str) -> Token | None:
        """Return the token that a caller has shown; None: it is not known (any more)."""
        self._look()
        return find_token(self._tokens, secret)

    def _look(self) -> None:
        """Read the file again if it has changed; a file that is no longer one changes nothing."""
        if (now := self._clock()) < self._look_at:
            return
        self._look_at = now + _LOOK_SECONDS
        signature = _signature(self._path)
        if signature == self._seen:
            return
        self._seen = signature
        try:
            self._tokens = read_tokens(self._path)
        except ConfigError as error:
            self._log.error("tokens not read again", error=str(error))
        else:
            self._log.info("tokens read again", tokens=len(self._tokens))


def _signature(path: Path) -> tuple[int, int, int] | None:
    try:
        state = path.stat()
    except OSError:
        return None
    return state.st_mtime_ns, state.st_size, state.st_ino
