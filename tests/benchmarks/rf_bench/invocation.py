"""One call of a benchmark: the options that all benchmarks have, and the command line that repeats the call."""

import os
import shlex
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from rf_platform.settings import get_settings

Output = Annotated[
    Path | None,
    typer.Option(help="Directory of the results; default: bench/NAME in the workspace.", show_default=False),
]
T = TypeVar("T")
_SHARED = ("output", "as_json")
_THREADS = ("OMP_NUM_THREADS", "RF_THREADS")


@dataclass(frozen=True, kw_only=True)
class Invocation:
    """Name, parameters and destination of one call."""

    name: str
    """Of the benchmark, as in ``rf bench NAME``."""
    command: str
    """Command line that measures the same again, with the variables that set numbers of threads."""
    parameters: dict[str, Any]
    """Values of the benchmark's own options."""
    directory: Path
    """Directory of the results."""
    as_json: bool = False
    """Whether the JSON document is printed instead of tables."""

    def options(self, kind: type[T], **others: Any) -> T:
        """Return a dataclass of options with the parameters of the same names, and ``others``."""
        names = [each.name for each in fields(kind)]  # type: ignore[arg-type]
        return kind(**{name: self.parameters[name] for name in names if name in self.parameters} | others)

    @property
    def shown_parameters(self) -> dict[str, Any]:
        """The parameters without the passwords of URLs: reports are passed on."""
        return {name: _public(value) for name, value in self.parameters.items()}

    @classmethod
    def of(cls, context: typer.Context) -> "Invocation":
        """Return the call that typer is making; makes the directory of its results.

        Args:
            context: of a command with the options ``output``, :data:`Output`, and ``as_json``.
        """
        name, values = str(context.command.name), context.params
        options = [str(option.name) for option in context.command.params]
        directory = values["output"] or get_settings().workspace.root / "bench" / name
        directory.mkdir(parents=True, exist_ok=True)
        return cls(
            name=name,
            command=_command_line(context),
            parameters={each: values[each] for each in options if each in values and each not in _SHARED},
            directory=directory,
            as_json=values["as_json"],
        )


def _command_line(context: typer.Context) -> str:
    words = [f"{variable}={os.environ[variable]}" for variable in _THREADS if variable in os.environ]
    words += ["rf", "bench", str(context.command.name)]
    for option in context.command.params:
        source = context.get_parameter_source(str(option.name))
        if option.name in _SHARED or source is None or source.name != "COMMANDLINE":
            continue
        value, flag = _public(context.params[str(option.name)]), max(option.opts, key=len)
        if isinstance(value, bool):
            words.append(flag if value else option.secondary_opts[0])
        else:
            words += [word for each in (value if isinstance(value, list) else [value]) for word in (flag, str(each))]
    return shlex.join(words)


def _public(value: Any) -> Any:
    from rf_platform.redaction import without_password

    if isinstance(value, list):
        return [_public(each) for each in value]
    return without_password(value) if isinstance(value, str) else value
