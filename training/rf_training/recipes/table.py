"""The recipes."""

from collections.abc import Callable
from dataclasses import replace
from difflib import get_close_matches

from rf_platform.errors import NotFoundError
from rf_training.config import Recipe


def default() -> Recipe:
    """Sizes that suit catalogs of a few thousand items on a CPU."""
    return Recipe(name="default")


def demo() -> Recipe:
    """The default, as short as still worth showing: about a minute on two cores for MovieLens-100K."""
    base = default()
    return replace(base, name="demo", train=replace(base.train, epochs=5))


RECIPES: dict[str, Callable[[], Recipe]] = {f.__name__: f for f in (default, demo)}


def get_recipe(name: str) -> Recipe:
    """Return a recipe by name.

    Raises:
        NotFoundError: there is none of that name.
    """
    if name not in RECIPES:
        close = get_close_matches(name, RECIPES)
        hint = f"did you mean {close[0]!r}?" if close else f"known are {', '.join(RECIPES)}"
        raise NotFoundError(f"no recipe {name!r}; {hint}")
    return RECIPES[name]()
