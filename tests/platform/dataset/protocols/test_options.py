"""From command line options to a protocol; what does not fit is named."""

from datetime import UTC, datetime, timedelta, timezone

import pytest

from rf_platform.dataset.protocols import (
    PROTOCOLS,
    ColdItems,
    LeaveOneOut,
    LeaveOneOutCold,
    Temporal,
    parse_cut,
    protocol_from_options,
)
from rf_platform.errors import UsageError


def test_options_that_are_not_given_keep_their_defaults() -> None:
    assert [protocol_from_options(name, {"seed": None, "cold_share": None}) for name in PROTOCOLS] == [
        LeaveOneOut(),
        LeaveOneOutCold(),
        ColdItems(),
        Temporal(),
    ]


def test_options_become_parameters() -> None:
    made = protocol_from_options("leave-one-out-cold", {"cold_users": 3, "validation_cold_users": 2, "seed": 7})
    assert made == LeaveOneOutCold(cold_users=3, validation_cold_users=2, seed=7)
    made = protocol_from_options("temporal", {"validation_cut": 0.5, "test_cut": 0.7, "new_items_only": True})
    assert made == Temporal(validation_cut=0.5, test_cut=0.7, new_items_only=True)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        (
            "warm",
            {},
            "--protocol=warm: there is no such protocol; choose from leave-one-out, leave-one-out-cold, cold-",
        ),
        (
            "leave-one-out",
            {"seed": 1},
            r"--seed belongs to --protocol leave-one-out-cold and cold-items, not to leave-o",
        ),
        (
            "cold-items",
            {"cold_users": 1},
            r"--cold-users belongs to --protocol leave-one-out-cold.*takes --cold-share, ",
        ),
        ("temporal", {"cold_share": 0.1}, r"--cold-share belongs to --protocol cold-items, not to temporal"),
        ("cold-items", {"new_items_only": True}, r"--new-items-only belongs to --protocol temporal"),
        ("cold-items", {"cold_share": 1.5}, "--cold-share=1.5 must be at least 0 and below 1"),
        ("cold-items", {"cold_share": 0.6, "validation_cold_share": 0.4}, "leave no item to train on"),
        ("cold-items", {"seed": -1}, "--seed=-1 must not be negative"),
        ("leave-one-out-cold", {"cold_users": -1}, "--cold-users=-1 must not be negative"),
        ("leave-one-out-cold", {"validation_cold_users": -1}, "--validation-cold-users=-1 must not be negative"),
        ("temporal", {"validation_cut": 1.5}, "--validation-cut=1.5 must lie between 0 and 1"),
        ("temporal", {"test_cut": 0.0}, "--test-cut=0.0 must lie between 0 and 1"),
        ("temporal", {"test_cut": 0.7}, "--validation-cut=0.8 must lie before --test-cut=0.7"),
    ],
)
def test_what_does_not_fit_is_named(name: str, options: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        protocol_from_options(name, options)


def test_cuts_are_shares_or_moments() -> None:
    assert parse_cut(None, "--test-cut") is None
    assert parse_cut("0.75", "--test-cut") == 0.75
    assert parse_cut("1998-01-31", "--test-cut") == datetime(1998, 1, 31, tzinfo=UTC)
    zoned = parse_cut("1998-01-31T18:00:00+01:00", "--test-cut")
    assert zoned == datetime(1998, 1, 31, 18, tzinfo=timezone(timedelta(hours=1)))
    with pytest.raises(UsageError, match=r"--test-cut=soon is neither a share of the events, such as 0\.8, nor a time"):
        parse_cut("soon", "--test-cut")
