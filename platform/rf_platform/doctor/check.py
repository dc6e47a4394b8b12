"""One check, what it finds, and a run of many that never stops at one."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import redirect_stdout
from dataclasses import dataclass
from enum import StrEnum
from io import StringIO
from typing import NamedTuple

from rf_platform.errors import RfError
from rf_platform.failures import as_rf_error, summary
from rf_platform.interrupts import raise_if_received
from rf_platform.redaction import without_secrets
from rf_platform.settings import Settings


class Status(StrEnum):
    """Status of a check."""

    OK = "ok"
    WARN = "warn"
    """Works, or will once the next step is taken."""
    FAIL = "fail"


@dataclass(frozen=True)
class Finding:
    """Finding of a check, with its remedy."""

    status: Status
    detail: str
    remedy: str = ""


def ok(detail: str, remark: str = "") -> Finding:
    """Nothing to be done."""
    return Finding(Status.OK, detail, remark)


def warn(detail: str, remedy: str) -> Finding:
    """Something is missing or unusual."""
    return Finding(Status.WARN, detail, remedy)


def fail(detail: str, remedy: str) -> Finding:
    """Something is broken."""
    return Finding(Status.FAIL, detail, remedy)


class Check(NamedTuple):
    """A name and a function that looks at one thing and changes nothing."""

    name: str
    run: Callable[[Settings], Finding]


@dataclass(frozen=True)
class CheckResult:
    """A check's name and finding, as they are printed."""

    name: str
    status: Status
    detail: str
    remedy: str


def run_checks(checks: Iterable[Check], settings: Settings) -> Iterator[CheckResult]:
    """Run the checks one by one; whatever one raises is its finding, and the others run all the same."""
    for check in checks:
        try:
            with redirect_stdout(StringIO()):  # libraries talk; a program reads our standard output
                found = check.run(settings)
        except Exception as error:
            raise_if_received()
            known = as_rf_error(error)
            found = fail(summary(error), "") if known is None else _of_error(known)
        yield CheckResult(check.name, found.status, without_secrets(found.detail), without_secrets(found.remedy))


def _of_error(error: RfError) -> Finding:
    """Errors of ours say what is wrong and, after the last semicolon, what to do."""
    what, _, remedy = str(error).rpartition("; ")
    return fail(what, remedy) if what else fail(remedy, "")
