"""Templates: one environment in which every value is escaped, with the forms of numbers and times."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from math import isfinite
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

_UNITS = ((365 * 86400, "y"), (30 * 86400, "mo"), (86400, "d"), (3600, "h"), (60, "min"), (1, "s"))
_NONE = Markup('<span class="none" aria-hidden="true">-</span>')


def make_environment(static: Mapping[str, str]) -> Environment:
    """Return the environment of all templates.

    Args:
        static: address of each file that pages refer to, by its name.
    """
    environment = Environment(
        loader=PackageLoader("rf_console"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    environment.filters |= {"ago": ago, "number": number, "percent": percent, "ms": milliseconds, "text": text_of}
    environment.globals |= {"static": static}
    return environment


def ago(moment: datetime | float | str | None, now: datetime | None = None) -> Markup:
    """Return a time relative to now, with the absolute one on hover.

    Args:
        moment: with a time zone, or in seconds since 1970, or as ISO 8601; None is shown as a dash.
        now: the present.
    """
    if moment is None:
        return _NONE
    at = _moment(moment)
    seconds = ((now or datetime.now(UTC)) - at).total_seconds()
    unit, name = next(((unit, name) for unit, name in _UNITS if abs(seconds) >= unit), (1, "s"))
    count = int(abs(seconds) // unit)
    shown = "now" if abs(seconds) < 1 else f"{count} {name} ago" if seconds > 0 else f"in {count} {name}"
    return Markup('<time datetime="{}" title="{} UTC">{}</time>').format(
        at.isoformat(timespec="seconds"), f"{at:%Y-%m-%d %H:%M:%S}", shown
    )


def _moment(moment: datetime | float | str) -> datetime:
    if isinstance(moment, str):
        moment = datetime.fromisoformat(moment)
    if isinstance(moment, datetime):
        return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
    return datetime.fromtimestamp(moment, UTC)


def number(value: float | None, digits: int | None = None) -> str | Markup:
    """Return a number with thousands apart; ``digits`` behind the point, default: whole numbers none, others three."""
    if value is None or not isfinite(value):
        return _NONE
    if digits is None:
        digits = 0 if float(value).is_integer() else 3
    return f"{value:,.{digits}f}"


def percent(value: float | None, digits: int = 1) -> str | Markup:
    """Return a share as a percentage."""
    return _NONE if value is None or not isfinite(value) else f"{value:.{digits}%}"


def milliseconds(seconds: float | None) -> str | Markup:
    """Return seconds as milliseconds."""
    return _NONE if seconds is None or not isfinite(seconds) else f"{seconds * 1000:,.2f} ms"


def text_of(value: Any) -> str | Markup:
    """Return a feature's value for people: lists with commas, long vectors cut short."""
    if value is None or value == []:
        return _NONE
    if isinstance(value, Sequence) and not isinstance(value, str):
        shown = ", ".join(_short(each) for each in value[:8])
        return f"{shown}, … ({len(value)})" if len(value) > 8 else shown
    return _short(value)


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) and not value.is_integer() else str(value)


def csrf_field(token: str) -> Markup:
    """Return the field that every form needs."""
    return Markup('<input type="hidden" name="csrf" value="{}">').format(token)


def change_form(token: str, path: str, given: Mapping[str, Any], label: str, kind: str = "") -> Markup:
    """Return a form that is one button.

    Args:
        token: of the session's forms.
        path: address of the change.
        given: its fields.
        label: of the button.
        kind: class of the button: ``quiet`` or ``danger``.
    """
    fields = csrf_field(token) + hidden_fields([(name, str(value)) for name, value in given.items()])
    form = '<form method="post" action="{}">{}<button class="{}">{}</button></form>'
    return Markup(form).format(path, fields, kind, label)


def hidden_fields(pairs: Sequence[tuple[str, str]]) -> Markup:
    """Return the hidden fields of a form."""
    fields = (Markup('<input type="hidden" name="{}" value="{}">').format(name, value) for name, value in pairs)
    return Markup("").join(fields)
