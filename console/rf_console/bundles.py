"""Bundles that are opened in this process, to see what others than the served one would answer."""

from collections.abc import Collection, Mapping
from functools import lru_cache
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

from rf_console.users import User, is_missing
from rf_platform.errors import NotFoundError
from rf_platform.registry import BundleRecord

if TYPE_CHECKING:
    from retrievalformer import Bundle

_OPEN = 2
_MOST_PASSED_OVER = 2000


class Bundles:
    """Opens bundles when they are asked, and keeps the latest ones; safe from any thread."""

    def __init__(self) -> None:
        self._lock, self._opened = Lock(), lru_cache(maxsize=_OPEN)(self._open)

    def answer(
        self,
        record: BundleRecord,
        user: User,
        *,
        without: Collection[int],
        profile: Mapping[str, Any],
        k: int,
        seen: bool,
    ) -> list[tuple[str, float]]:
        """Return the best items of a bundle for a user, and their scores.

        Args:
            record: the bundle.
            user: the user.
            without: positions of events that are left out.
            profile: values in the place of the user's own; None is missing.
            k: how many items.
            seen: whether items that the user has seen may come back.

        Raises:
            NotFoundError: its files were removed.
            RfError: it cannot be opened, or does not know a feature.
        """
        from retrievalformer import Event

        if record.removed_at is not None:
            raise NotFoundError(f"the files of bundle '{record.name}' were removed; choose another one")
        with self._lock:
            bundle = self._opened(record.path)
        hidden = set() if seen else set(user.seen)
        mine = {**user.profile, **profile}
        whole = bundle.item_ids and isinstance(bundle.item_ids[0], int)
        found = bundle.recommend(
            [
                Event(
                    item=int(each.item) if whole else each.item,
                    time=each.at,
                    context=each.context,
                )
                for each in user.events
                if each.position not in without
            ],
            k=k + min(len(hidden), _MOST_PASSED_OVER),
            profile={name: value for name, value in mine.items() if not is_missing(value)},
            exclude_seen=not seen,
        )
        return [(str(each.item), each.score) for each in found if str(each.item) not in hidden][:k]

    @staticmethod
    def _open(path: Path) -> "Bundle":
        from retrievalformer import load_bundle
        from rf_platform.settings import get_settings

        return load_bundle(path, signed_by=get_settings().require_signature)
