"""Fair share of the places among the calls in flight, between the connections that want them."""

from collections.abc import Callable, Hashable
from time import monotonic

from rf_serving.server.admission import Admission

_HUNGRY_SECONDS = 0.1
_COUNT_SECONDS = 0.01


class FairShare:
    """Keeps a connection from taking every place that becomes free while others are refused.

    Any connection may have any number of places while nobody is refused. As long as a connection was refused within the last
    tenth of a second that had less than its share, those that have theirs get no more.
    """

    def __init__(self, admission: Admission, clock: Callable[[], float] = monotonic) -> None:
        self.admission, self._clock = admission, clock
        self._places: dict[Hashable, int] = {}
        self._hungry: dict[Hashable, float] = {}
        self._contenders, self._counted = 1, float("-inf")

    def enter(self, who: Hashable) -> bool:
        """Take a call of a connection in, which then has to :meth:`leave`; False: refuse it."""
        places = self._places
        has = places.get(who, 0)
        if self.admission.full or self._hungry:
            share = self._share()
            if self.admission.full:
                if has < share:
                    if who not in self._hungry:
                        self._counted = float("-inf")
                    self._hungry[who] = self._clock() + _HUNGRY_SECONDS
                return False
            if has >= share and any(other != who for other in self._hungry):
                return False
            self._hungry.pop(who, None)
        if not self.admission.enter():
            return False
        places[who] = has + 1
        return True

    def leave(self, who: Hashable) -> None:
        """Note that a call of a connection has ended; the admission is told by itself."""
        if self._places[who] == 1:
            del self._places[who]
        else:
            self._places[who] -= 1

    def _share(self) -> int:
        now = self._clock()
        # Not for every refusal: the more connections, the longer it takes.
        if now >= self._counted + _COUNT_SECONDS:
            self._hungry = {who: until for who, until in self._hungry.items() if until > now}
            self._contenders, self._counted = len(self._places.keys() | self._hungry.keys()), now
        return max(1, self.admission.limit // max(1, self._contenders))
