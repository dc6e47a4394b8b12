"""Ranges of fields, and what is said of a value outside them."""

from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import pytest
from pydantic import Field

from rf_platform.errors import ConfigError, RfError, UsageError
from rf_platform.ranges import Count, Positive, Share, Weight, Whole, check_fields


@dataclass
class Config:
    count: Count = 1
    whole: Whole = 0
    weight: Weight = 0.0
    rate: Positive = 1e-9
    share: Share = 0
    maybe: Annotated[Count | None, Field(description="be at least 1, or none")] = None
    kind: Literal["mean", "sum"] = "mean"
    kinds: dict[str, Literal["a", "b"]] = field(default_factory=dict)
    prefix: str = "part."

    def __post_init__(self) -> None:
        check_fields(self, self.prefix)


def test_the_ends_of_the_ranges_are_in_them() -> None:
    Config()
    Config(share=0.999, maybe=1, weight=float("inf"), kinds={"x": "b"})


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"count": 0}, "part.count=0 must be at least 1"),
        ({"count": True}, "part.count=True must be at least 1"),
        ({"count": "3"}, "part.count='3' must be at least 1"),
        ({"whole": -1}, "part.whole=-1 must not be negative"),
        ({"weight": -0.5}, "part.weight=-0.5 must not be negative"),
        ({"weight": float("nan")}, "part.weight=nan must not be negative"),
        ({"rate": 0.0}, "part.rate=0.0 must be positive"),
        ({"rate": float("nan")}, "part.rate=nan must be positive"),
        ({"share": 1.0}, "part.share=1.0 must be in [0, 1)"),
        ({"share": -0.1}, "part.share=-0.1 must be in [0, 1)"),
        ({"maybe": 0}, "part.maybe=0 must be at least 1, or none"),
        ({"kind": "max"}, "part.kind='max' must be 'mean' or 'sum'"),
        ({"kinds": {"x": "a", "y": "c"}}, "part.kinds.y='c' must be 'a' or 'b'"),
    ],
)
def test_a_value_outside_its_range_is_told_in_words(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        Config(**values)
    assert str(error.value) == message


def test_an_option_is_spelt_as_on_the_command_line() -> None:
    @dataclass
    class Options:
        cold_users: Whole = 0

    with pytest.raises(RfError) as error:
        check_fields(Options(cold_users=-1), "--")
    assert (type(error.value), str(error.value)) == (UsageError, "--cold-users=-1 must not be negative")
