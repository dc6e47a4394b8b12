"""Goals as they are written on the command line."""

from collections.abc import Sequence

from rf_platform.errors import UsageError


def weighted_goals(texts: Sequence[str]) -> dict[str, float]:
    """Return the weights of ``TYPE`` or ``TYPE=WEIGHT``, by type.

    Raises:
        UsageError: a text is neither, or names a type a second time.
    """
    goals: dict[str, float] = {}
    for text in texts:
        name, equals, number = text.partition("=")
        try:
            weight = float(number) if equals else 1.0
        except ValueError:
            weight = -1.0
        if not name or not 0 <= weight < float("inf"):
            raise UsageError(
                f"--goal {text!r}: write TYPE or TYPE=WEIGHT with a number of 0 or more, such as purchase=3"
            )
        if name in goals:
            raise UsageError(f"--goal {text!r}: {name} is given a second time")
        goals[name] = weight
    return goals
