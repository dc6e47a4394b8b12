from collections.abc import Callable

import pytest

from rf_platform.errors import NotFoundError
from rf_platform.registry import BundleRecord, Registry


def test_versions_are_added_and_the_newest_is_in_effect(
    with_run: Registry, make_bundle: Callable[[str], BundleRecord]
) -> None:
    policies = with_run.policies
    assert policies.newest() is None
    with pytest.raises(NotFoundError, match=r"there is no policy version 1; there is no policy in .* yet"):
        policies.version(1)
    make_bundle("demo-1")
    with_run.promote("demo-1")
    before = with_run.traffic.plan()
    first = policies.apply("placements: {}", "a start")
    assert policies.apply("placements: {}", "again") == first  # says nothing new
    second = policies.apply("# none\nplacements: {}")
    assert [(each.version, each.note) for each in policies.history()] == [(1, "a start"), (2, "")]
    assert policies.newest() == second
    assert policies.version(1) == first
    with pytest.raises(NotFoundError, match="there is no policy version 3; the newest is 2"):
        policies.version(3)
    after = with_run.traffic.plan()
    assert (before.policy, after.policy) == (None, second)
    assert before.revision != after.revision  # running servers notice
