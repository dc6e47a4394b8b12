"""Sessions of browsers: a signed cookie, and the token that was shown at the login, which never leaves this process."""

import hmac
import secrets
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import sha256
from threading import Lock
from time import monotonic

_MOST = 10_000
"""Logins that are kept; the one that was used longest ago goes first."""


@dataclass(slots=True)
class _Kept:
    used: float
    secret: str = ""
    said: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Session:
    """Session of one browser."""

    id: str
    secret: str
    """Token of the login; empty: nobody has logged in."""


class Sessions:
    """Issues and reads session cookies; safe from any thread. A restart ends all sessions.

    Args:
        idle_seconds: time without a request after which a login ends.
        clock: the time.
    """

    def __init__(self, idle_seconds: float = 8 * 3600, clock: Callable[[], float] = monotonic) -> None:
        self._key = secrets.token_bytes(32)
        self._idle, self._clock, self._lock = idle_seconds, clock, Lock()
        self._kept: OrderedDict[str, _Kept] = OrderedDict()

    def new(self) -> Session:
        """Return a session that nothing is known of."""
        return Session(secrets.token_urlsafe(32), "")

    def cookie(self, session: Session) -> str:
        """Return the value of a session's cookie."""
        return f"{session.id}.{self._signed('cookie', session.id)}"

    def read(self, cookie: str) -> Session | None:
        """Return the session of a cookie; None: it was not issued here."""
        identity, _, signature = cookie.partition(".")
        if not hmac.compare_digest(signature.encode(), self._signed("cookie", identity).encode()):
            return None
        with self._lock:
            kept = self._kept.get(identity)
            if kept is None:
                return Session(identity, "")
            if self._clock() > kept.used + self._idle:
                del self._kept[identity]
                return Session(identity, "")
            kept.used = self._clock()
            self._kept.move_to_end(identity)
            return Session(identity, kept.secret)

    def log_in(self, secret: str) -> Session:
        """Return a new session with a token; never an earlier one, which somebody else may have chosen."""
        session = Session(secrets.token_urlsafe(32), secret)
        self._keep(session.id).secret = secret
        return session

    def log_out(self, session: Session) -> None:
        """Forget a session's token."""
        with self._lock:
            self._kept.pop(session.id, None)

    def tell(self, session: Session, text: str) -> None:
        """Leave a message for the next page of a session."""
        self._keep(session.id).said.append(text)

    def told(self, session: Session) -> list[str]:
        """Return the messages that were left, once."""
        with self._lock:
            kept = self._kept.get(session.id)
            said = list(kept.said) if kept is not None else []
            if kept is not None:
                kept.said.clear()
            return said

    def form_token(self, session: Session) -> str:
        """Return what every form of a session has to send (CSRF)."""
        return self._signed("form", session.id)

    def is_form_token(self, session: Session, given: str) -> bool:
        """Say whether a form was made for a session."""
        return hmac.compare_digest(given.encode(), self.form_token(session).encode())

    def _signed(self, purpose: str, identity: str) -> str:
        return hmac.new(self._key, f"{purpose}:{identity}".encode(), sha256).hexdigest()

    def _keep(self, identity: str) -> _Kept:
        with self._lock:
            kept = self._kept.setdefault(identity, _Kept(self._clock()))
            self._kept.move_to_end(identity)
            while len(self._kept) > _MOST:
                self._kept.popitem(last=False)
            return kept
