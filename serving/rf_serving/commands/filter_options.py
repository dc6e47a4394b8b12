"""Filters as they are written on a command line."""

from collections.abc import Sequence
from pathlib import Path

from rf_platform.errors import UsageError
from rf_platform.failures import reading
from rf_protos.v1.filter_pb2 import Filter
from rf_serving.search.written import predicate_of


def filter_of(
    text: str | None, allow: str | None = None, deny: str | None = None, where: Sequence[str] = ()
) -> Filter | None:
    """Return the filter that options describe, all of which hold together; None if there are none.

    Args:
        text: of ``--filter``: JSON, or ``@FILE``.
        allow: of ``--allow``: item ids with commas.
        deny: of ``--deny``.
        where: conditions, see :func:`predicate_of`.

    Raises:
        UsageError: one of them cannot be read.
    """
    if text is None and allow is None and deny is None and not where:
        return None
    found = Filter() if text is None else filter_from_json(text)
    for option, ids, into in (("--allow", allow, found.allow_items), ("--deny", deny, found.deny_items)):
        if ids is None:
            continue
        named = [each.strip() for each in ids.split(",") if each.strip()]
        if not named:
            raise UsageError(f"{option} has no item id; give some with commas")
        into.extend(named)
    found.where.extend(predicate_of(each, "--where") for each in where)
    return found


def filter_from_json(text: str) -> Filter:
    """Return the filter of ``--filter``: the JSON of a ``retrievalformer.v1.Filter``, or ``@FILE`` that has it.

    Raises:
        UsageError: there is no such file, or it is no such JSON.
    """
    from google.protobuf.json_format import Parse, ParseError

    if text.startswith("@"):
        path = Path(text[1:])
        if not path.is_file():
            raise UsageError(f"--filter @{path}: there is no such file")
        with reading(path, "correct it", UsageError):
            text = path.read_text(encoding="utf-8")
    try:
        return Parse(text, Filter())
    except ParseError as error:
        raise UsageError(
            f"--filter is no JSON of a retrievalformer.v1.Filter: {error}; docs/filters.md has examples"
        ) from error
