"""Values that requests are made of: likely ones, extreme ones, wrong ones."""

import random
from collections.abc import Sequence
from dataclasses import dataclass

_STRINGS = (
    "",
    "0",
    "-1",
    "042",
    "9223372036854775808",
    "-9223372036854775809",
    "1e3",
    "NaN",
    "null",
    "\x00",
    "a\x00b",
    " 1 ",
    "\u202e1",
    "\U0001d7d9",
    "\u0663",
    "☃" * 40,
    "x" * 300,
    "../../etc/passwd",
    "' OR 1=1 --",
    "%s%n{}",
    "{{7*7}}",
    "\ufffe",
    "🤷\u200d♀️",
)
_INTEGERS = (0, 1, -1, 2, 10, 100, 1000, 1001, 2**31 - 1, -(2**31), 2**31, 2**53 + 1, 2**63 - 1, -(2**63))
_DOUBLES = (0.0, -0.0, 1.0, -1.5, 1e-320, 1e308, -1e308, float("inf"), float("-inf"), float("nan"), 3.4e38, 1e39)


@dataclass(frozen=True, kw_only=True)
class Words:
    """What a server knows, so that some requests get past the first check."""

    users: Sequence[str] = ("1", "2", "17")
    items: Sequence[str] = ("1", "2", "3", "50")
    features: Sequence[str] = ("user_profile__gender", "interaction_context__ratings", "item_content__genres")
    values: Sequence[str] = ("rating", "event_type")

    def string(self, rng: random.Random, field: str) -> str:
        """Return a text for a field of this name."""
        if rng.random() < 0.7:
            if field == "user_id":
                return rng.choice(self.users)
            if field in ("item_id", "item_ids", "allow_items", "deny_items", "candidate_items"):
                return rng.choice(self.items)
            if field in ("feature", "key"):
                return rng.choice((*self.features, *self.values))
        if rng.random() < 0.1:
            return "".join(
                chr(rng.choice((rng.randrange(32, 127), rng.randrange(0xD7FF)))) for _ in range(rng.randrange(40))
            )
        return rng.choice(_STRINGS)

    @staticmethod
    def integer(rng: random.Random, field: str, bits: int, signed: bool) -> int:
        """Return a number that fits a field of this name."""
        if field in ("k", "neighbours") and rng.random() < 0.6:
            return rng.randint(1, 100)
        low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
        number: int = rng.choice(_INTEGERS) if rng.random() < 0.7 else rng.randint(low, high)
        return int(min(max(number, low), high))

    @staticmethod
    def double(rng: random.Random) -> float:
        """Return a number, or none."""
        return rng.choice(_DOUBLES) if rng.random() < 0.7 else rng.uniform(-1e6, 1e6)
