"""What is said of the online store beside the tables."""

from dataclasses import replace
from datetime import UTC, datetime

from rf_platform.features.store_content import ViewContent

WHOLE = ViewContent(
    view="v",
    keys=10,
    missing=0,
    loaded_at=datetime(2024, 5, 2, tzinfo=UTC),
    imported_at=datetime(2024, 5, 1, tzinfo=UTC),
)


def test_a_store_that_has_all_rows_is_in_order() -> None:
    assert WHOLE.problem is None
    assert replace(WHOLE, imported_at=None).problem is None


def test_what_is_missing_or_old_is_named() -> None:
    assert (replace(WHOLE, missing=10).problem or "").startswith("view 'v' was never materialised: none of 10 keys")
    assert (replace(WHOLE, missing=4).problem or "").startswith("view 'v' is materialised in part: 4 of 10 keys")
    stale = replace(WHOLE, imported_at=datetime(2024, 5, 3, tzinfo=UTC)).problem or ""
    assert stale.startswith("view 'v' is stale: it was loaded at 2024-05-02 00:00 UTC")
