"""From the options of ``rf dataset build`` to a protocol."""

from collections.abc import Mapping
from dataclasses import fields
from datetime import UTC, datetime

from rf_platform.dataset.protocols.cold_items import ColdItems
from rf_platform.dataset.protocols.event_log import SplitProtocol
from rf_platform.dataset.protocols.leave_one_out import LeaveOneOut
from rf_platform.dataset.protocols.leave_one_out_cold import LeaveOneOutCold
from rf_platform.dataset.protocols.temporal import Cut, Temporal
from rf_platform.errors import UsageError

PROTOCOLS = {p.name: p for p in (LeaveOneOut, LeaveOneOutCold, ColdItems, Temporal)}
"""All protocols by name."""


def protocol_from_options(name: str, options: Mapping[str, object]) -> SplitProtocol:
    """Return the protocol called ``name``.

    Args:
        name: key of :data:`PROTOCOLS`.
        options: values of its fields by name; None where the default is wanted.

    Raises:
        UsageError: There is no such protocol, it does not use an option that is given, or a value is out of range.
    """
    if name not in PROTOCOLS:
        raise UsageError(f"--protocol={name}: there is no such protocol; choose from {', '.join(PROTOCOLS)}")
    own = {f.name for f in fields(PROTOCOLS[name])}
    given = {key: value for key, value in options.items() if value is not None}
    for key in given:
        if key not in own:
            users = [n for n, p in PROTOCOLS.items() if key in {f.name for f in fields(p)}]
            takes = f"it takes {', '.join(_flag(k) for k in sorted(own))}" if own else "it takes no options"
            raise UsageError(
                f"{_flag(key)} belongs to --protocol {' and '.join(users)}, not to {name}; leave it out ({takes}), or choose "
                f"that protocol"
            )
    return PROTOCOLS[name](**given)  # type: ignore[arg-type]


def parse_cut(text: str | None, flag: str) -> Cut | None:
    """Read a cut: a share of the events such as ``0.8``, or a moment such as ``1998-01-31`` or ``1998-01-31T18:00:00+01:00``.

    A moment without a zone is UTC.

    Raises:
        UsageError: It is neither.
    """
    if text is None:
        return None
    try:
        return float(text)
    except ValueError:
        pass
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise UsageError(
            f"{flag}={text} is neither a share of the events, such as 0.8, nor a time, such as 1998-01-31 or "
            f"1998-01-31T18:00:00+01:00"
        ) from error
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _flag(option: str) -> str:
    return f"--{option.replace('_', '-')}"
