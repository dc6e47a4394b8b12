"""Search space: for every setting that is tuned, its range or its choices."""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, get_type_hints

from rf_platform.errors import ConfigError, UsageError
from rf_training.config import Recipe
from rf_training.recipes import override

LOG_FROM = 10
"""Ratio of a range's ends from which it is searched by logarithm."""


class Trial(Protocol):
    """The part of Optuna's trial that suggests values."""

    def suggest_float(self, name: str, low: float, high: float, *, log: bool) -> float:
        """Return a number of a range."""

    def suggest_int(self, name: str, low: int, high: int, *, log: bool) -> int:
        """Return a whole number of a range."""

    def suggest_categorical(self, name: str, choices: list[str]) -> Any:
        """Return one of the choices."""


@dataclass(frozen=True)
class Numbers:
    """Range of numbers, both ends included."""

    low: float
    high: float
    whole: bool
    """Whether they are whole."""

    @property
    def log(self) -> bool:
        """Whether it is searched by logarithm."""
        return self.low > 0 and self.high / self.low >= LOG_FROM

    @property
    def text(self) -> str:
        """The range as `--space` takes it."""
        return f"{self.low!r}..{self.high!r}"

    def __str__(self) -> str:
        return f"{self.low:g} to {self.high:g}" + (", by logarithm" if self.log else "")

    def suggest(self, trial: Trial, name: str) -> str:
        """Return the value of a trial, as `--set` takes it."""
        if self.whole:
            return str(trial.suggest_int(name, int(self.low), int(self.high), log=self.log))
        return f"{trial.suggest_float(name, self.low, self.high, log=self.log):.4g}"

    def place(self, value: Any) -> Any:
        """Return a recipe's value as the trials have it; None if it is outside."""
        inside = isinstance(value, int | float) and self.low <= value <= self.high
        return value if inside else None


@dataclass(frozen=True)
class Choices:
    """Choices of a setting, as `--set` takes them."""

    values: tuple[str, ...]

    @property
    def text(self) -> str:
        """The choices as `--space` takes them."""
        return ",".join(self.values)

    def __str__(self) -> str:
        return ", ".join(self.values)

    def suggest(self, trial: Trial, name: str) -> str:
        """Return the value of a trial, as `--set` takes it."""
        return str(trial.suggest_categorical(name, list(self.values)))

    def place(self, value: Any) -> Any:
        """Return a recipe's value as the trials have it; None if it is none of the choices."""
        return next((text for text in self.values if text == _text(value)), None)


Space = Mapping[str, Numbers | Choices]
"""Range or choices by setting."""


def _around(factor: float) -> Callable[[float], str]:
    return lambda value: f"{value / factor:g}..{value * factor:g}"


DEFAULTS: dict[str, tuple[Callable[[Recipe], bool], Callable[[Any], str]]] = {
    "train.learning_rate": (lambda r: True, _around(4)),
    "train.weight_decay": (lambda r: r.train.weight_decay > 0, _around(10)),
    "train.temperature": (lambda r: True, _around(2)),
    "train.label_smoothing": (lambda r: r.train.objective == "full", lambda value: "0..0.2"),
    "train.uniform_negatives": (
        lambda r: r.train.objective == "sampled" and r.train.uniform_negatives > 0,
        lambda value: f"{max(1, value // 4)}..{value * 4}",
    ),
    "train.batch_size": (lambda r: True, lambda value: f"{max(1, value // 2)},{value},{value * 2}"),
    "train.ema_decay": (lambda r: True, lambda value: ",".join(_with(value, "0.99", "0.995", "0.999"))),
    "model.dropout": (lambda r: True, lambda value: f"{max(0, value - 0.2):g}..{min(0.8, value + 0.2):g}"),
    "model.item_id_noise": (lambda r: r.model.item_id, lambda value: f"0..{max(0.3, value):g}"),
    "model.feature_noise": (lambda r: True, lambda value: f"0..{max(0.3, value):g}"),
    "model.layers": (lambda r: True, lambda value: ",".join(_with(value, "1", "2", "3"))),
}
"""Settings that are tuned by default: whether a recipe has them, and their range around its value. Sizes that decide what a model
costs to serve (width, length of histories) are left to the user."""


def default_space(recipe: Recipe) -> Space:
    """Return what is tuned of a recipe by default."""
    return read_space((name for name, (has, _) in DEFAULTS.items() if has(recipe)), recipe)


def read_space(texts: Iterable[str], recipe: Recipe) -> Space:
    """Read a search space.

    Args:
        texts: for each setting, in any order, ``NAME=LOW..HIGH``, ``NAME=A,B,C``, or NAME alone for its default range.
        recipe: what the settings belong to.

    Raises:
        UsageError: a setting does not exist, has no default range, or its range is none.
        ConfigError: an end of a range contradicts another setting of the recipe.
    """
    space: dict[str, Numbers | Choices] = {}
    for text in texts:
        name, equals, span = text.partition("=")
        value = _value(recipe, name)
        if not equals:
            if name not in DEFAULTS:
                raise UsageError(
                    f"--space {name}: there is no default range; write --space {name}=LOW..HIGH or --space {name}=A,B"
                )
            span = DEFAULTS[name][1](value)
        space[name] = _axis(name, span, recipe)
    return space


def setting_values(space: Space, recipe: Recipe) -> dict[str, Any] | None:
    """Return a recipe's own values as the trials have them; None if one lies outside of the space."""
    values = {name: axis.place(_value(recipe, name)) for name, axis in space.items()}
    return None if None in values.values() else values


def _axis(name: str, span: str, recipe: Recipe) -> Numbers | Choices:
    low, dots, high = span.partition("..")
    ends = [low, high] if dots else [each.strip() for each in span.split(",")]
    for end in ends:
        try:
            override(recipe, [f"{name}={end}"])
        except (ConfigError, UsageError) as error:
            raise type(error)(f"--space {name}={span}: {str(error).removeprefix('--set ')}") from error
    if not dots:
        if len(set(ends)) < len(ends):
            raise UsageError(f"--space {name}={span}: a choice is there twice")
        return Choices(tuple(ends))
    try:
        whole = isinstance(_value(recipe, name), int)
        number = int if whole else float
        numbers = Numbers(number(low), number(high), whole)
    except ValueError:
        raise UsageError(f"--space {name}={span}: a range has numbers at its ends; choices are written A,B") from None
    if not numbers.low < numbers.high or not math.isfinite(numbers.high):
        raise UsageError(f"--space {name}={span}: the first end must be below the second")
    return numbers


def _value(recipe: Recipe, name: str) -> Any:
    section, _, field = name.partition(".")
    config = getattr(recipe, section, None) if section in ("model", "train", "sharding") else None
    if config is None or field not in get_type_hints(type(config)) or not hasattr(config, field):
        override(recipe, [f"{name}=?"])  # says what there is
        raise UsageError(f"--space {name}: no such setting")
    if name == "train.seed":
        raise UsageError(
            "--space train.seed: a seed is no setting to choose by; repeat the best recipe with several seeds"
        )
    return getattr(config, field)


def _with(value: Any, *texts: str) -> list[str]:
    """Return the texts, and a value that is none of them, in order."""
    return sorted({*texts, _text(value)}, key=float)


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)
