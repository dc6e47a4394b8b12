"""Application behind a front: takes calls and answers them."""

from typing import Protocol

from rf_serving.front.call import Call, Kind


class Application(Protocol):
    """Answers calls; everything is called in the event loop."""

    def kind(self, path: str) -> Kind | None:
        """Return how a method is called; None: there is no such method."""

    def answer(self, call: Call) -> None:
        """Take a unary call that has its message, or will have none; its ``cancelled`` is called if the caller leaves."""

    def relay(self, call: Call) -> None:
        """Take a call that has begun; its messages come from :meth:`Call.receive`."""
