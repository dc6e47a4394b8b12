"""Served bundle and rollback targets, derived from the deployment history alone.

It works like a browser's back button. A promotion opens a new page; a rollback goes back one page, to the bundle served
before the current one, so two rollbacks in a row go back two; a promotion after a rollback continues from there, and the
bundles that were rolled back are no longer behind it. After promotions of A, B, C, a rollback (to B) and a promotion of D,
rollbacks lead to B, then to A, then no further.
"""

from collections.abc import Iterable
from typing import TypeVar

from rf_platform.registry.records import Action

T = TypeVar("T")


def served_stack(history: Iterable[tuple[Action, T]]) -> list[T]:
    """Return the bundles on the way back, the served one last; empty if nothing was ever promoted.

    Args:
        history: action and bundle of every deployment, oldest first.
    """
    stack: list[T] = []
    for action, bundle in history:
        if action == Action.PROMOTE:
            stack.append(bundle)
        else:
            stack.pop()
    return stack
