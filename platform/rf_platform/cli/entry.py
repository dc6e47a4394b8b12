"""The edge of every command: failures end with one sentence and their exit code, interrupts with 128 and their number.

Nothing is imported before signals are listened to: an interrupt during the imports of a command is one as well.
"""

import os
import signal
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typer import Typer

from rf_platform.interrupts import end_quietly, listening, received


def main(commands: "Typer | None" = None) -> None:
    """Run a command line; default: that of the platform.

    An expected failure, of the platform, a library or the system (:mod:`rf_platform.failures`), ends with one sentence and its
    exit code; an interrupt with one line and 130, or 143 for SIGTERM. A bug keeps its traceback.
    """
    try:
        with listening():
            try:
                code = _run(commands)
            except BaseException as error:
                interrupted = received() is not None or isinstance(error, KeyboardInterrupt)
                code = _interrupted(error) if interrupted else _failed(error)
    finally:
        end_quietly()  # here and not at exit: what threads and libraries do at exit comes before
    sys.exit(code)


def _run(commands: "Typer | None") -> int | str | None:
    from rf_platform.cli.app import app
    from rf_platform.workspace import made_by_imports_only

    try:
        with made_by_imports_only():
            (commands or app)(standalone_mode=True)
        code: int | str | None = 0
    except SystemExit as end:
        code = end.code
    sys.stdout.flush()
    return _interrupted() if code and received() is not None else code


def _interrupted(error: BaseException | None = None) -> int:
    """Print that the command was interrupted, with the job's way to resume, if any; returns the exit code."""
    from rf_platform.errors import InterruptedRunError

    _stdout_failed()
    number = received() or signal.SIGINT
    said = "interrupted" if number == signal.SIGINT else "terminated"
    sys.stderr.write(f"{said}: {error}\n" if isinstance(error, InterruptedRunError) else f"{said}\n")
    return 128 + number


def _failed(error: BaseException) -> int:
    from rich.markup import escape

    from rf_platform.cli.console import err_console
    from rf_platform.failures import as_rf_error, origin
    from rf_platform.redaction import without_secrets

    printing = _stdout_failed() or origin(error) in ("rich", "click", "typer")
    known = as_rf_error(error, place="standard output" if printing else _workspace())
    if known is None:
        raise error
    err_console().print(f"[bold red]error:[/] {escape(without_secrets(str(known)))}", highlight=False)
    return known.exit_code


def _stdout_failed() -> bool:
    """Return whether standard output takes nothing more; what it has not taken is dropped then, else Python fails on it later."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return True
    return False


def _workspace() -> str:
    """Return the workspace, for failures that name no file: most of what is written lies there."""
    from rf_platform.errors import RfError
    from rf_platform.settings import get_settings

    try:
        return str(get_settings().workspace.root)
    except RfError:
        return "the workspace"
