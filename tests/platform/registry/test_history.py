import pytest
from hypothesis import given
from hypothesis import strategies as st

from rf_platform.registry import Action
from rf_platform.registry.lookup import served_stack

P, R = Action.PROMOTE, Action.ROLLBACK


@pytest.mark.parametrize(
    ("history", "stack"),
    [
        ("", ""),
        ("A", "A"),
        ("A B", "A B"),
        ("A B <", "A"),
        ("A B C < <", "A"),
        ("A B C < D", "A B D"),
        ("A B C < D < <", "A"),
        ("A B A", "A B A"),
        ("A B A <", "A B"),
    ],
)
def test_rollbacks_go_back_like_a_browser(history: str, stack: str) -> None:
    steps = history.split()
    assert served_stack((R, "") if s == "<" else (P, s) for s in steps) == stack.split()


@given(st.lists(st.sampled_from(["A", "B", "C", None])))
def test_going_forth_and_back_is_going_nowhere(steps: list[str | None]) -> None:
    history: list[tuple[Action, str]] = []
    depth = 0
    for step in steps:
        if step is not None:
            history.append((P, step))
            depth += 1
        elif depth > 1:  # the registry refuses to go back further
            history.append((R, ""))
            depth -= 1
    before = served_stack(history)
    assert len(before) == depth
    assert served_stack([*history, (P, "X"), (R, "")]) == before
