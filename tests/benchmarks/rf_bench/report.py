"""The report of a benchmark: tables on the terminal, a JSON document, and an HTML page that needs nothing but itself."""

import json
import os
import platform
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from pydantic_core import to_jsonable_python
from rich.markup import escape
from rich.table import Table as RichTable

from rf_bench.invocation import Invocation
from rf_platform.cli.console import out_console, print_json, say
from rf_training.report.drawing import INKS, Chart


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table of texts."""

    caption: str
    heads: Sequence[str]
    rows: Sequence[Sequence[str]]
    labels: int = 1
    """Columns at the left that hold no numbers."""
    page_only: Sequence[str] = ()
    """Heads of columns that the terminal leaves out."""

    @classmethod
    def of(cls, caption: str, entries: Iterable[object], columns: Mapping[str, str], **options: Any) -> "Table":
        """Return a table with a row for each entry.

        Args:
            caption: of the table.
            entries: objects or mappings.
            columns: a format for each head, which names an entry's values as in ``{0.p50_ms:.3f}``.
            options: other fields of the table.
        """
        rows = [[each.format(entry) for each in columns.values()] for entry in entries]
        return cls(caption=caption, heads=tuple(columns), rows=rows, **options)

    def for_terminal(self) -> RichTable:
        """Return the table as the terminal shows it."""
        shown = [place for place, head in enumerate(self.heads) if head not in self.page_only]
        table = RichTable(title=escape(self.caption), title_justify="left")
        for place in shown:
            table.add_column(escape(self.heads[place]), justify="left" if place < self.labels else "right")
        for row in self.rows:
            table.add_row(*(escape(row[place]) for place in shown))
        return table


@dataclass(frozen=True, kw_only=True)
class Report:
    """Results of one call of a benchmark, with the tables and charts that show them."""

    title: str
    lead: str
    """Method in a sentence or two."""
    results: object
    """Figures: dataclasses, with their properties and without fields that are hidden in their ``repr``, mappings and sequences of
    plain values; numbers that are not finite become null."""
    tables: Sequence[Table]
    charts: Sequence[Chart] = ()
    verdict: str | None = None
    """Sentence on the target of the benchmark."""
    facts: Mapping[str, str] = field(default_factory=dict)
    """Name -> value of what the page says beside the parameters and the machine."""

    def publish(self, call: Invocation) -> list[Path]:
        """Write ``NAME.json`` and ``NAME.html``, and the charts as ``NAME-CHART.png``; print tables, or the JSON document.

        Returns:
            The files.
        """
        document = self.document(call)
        files = [call.directory / f"{call.name}.json", call.directory / f"{call.name}.html"]
        files[0].write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
        files[1].write_text(self._page(document), encoding="utf-8")
        for chart in self.charts:
            files.append(call.directory / f"{call.name}-{chart.name}.png")
            chart.save(files[-1])
        if call.as_json:
            print_json(document)
            return files
        for table in self.tables:
            out_console().print(table.for_terminal())
        if self.verdict:
            say(self.verdict)
        images = f", {len(self.charts)} chart{'s'[: len(self.charts) != 1]}" if self.charts else ""
        say(f"written: {files[0]} and {files[1].name}{images}")
        return files

    def document(self, call: Invocation) -> dict[str, Any]:
        """Return the JSON document: benchmark, command, machine, parameters, verdict and results."""
        document = {
            "benchmark": call.name,
            "command": call.command,
            "machine": machine(),
            "parameters": call.shown_parameters,
            "verdict": self.verdict,
            "results": _figures(self.results),
        }
        plain: dict[str, Any] = to_jsonable_python(document, inf_nan_mode="null", fallback=lambda value: value.tolist())
        return plain

    def _page(self, document: Mapping[str, Any]) -> str:
        environment = Environment(
            loader=ChoiceLoader(
                [PackageLoader("rf_bench", "template"), PackageLoader("rf_training.report", "template")]
            ),
            autoescape=True,
            trim_blocks=True,
            lstrip_blocks=True,
            undefined=StrictUndefined,
        )
        environment.filters["svg"] = Markup
        found = document["machine"]
        facts = {
            "Command": document["command"],
            "Machine": f"{found['cpu']}, {found['cores']} cores, load {found['load']}",
            "Finished": found["finished"],
            "Parameters": ", ".join(f"{name} {value}" for name, value in document["parameters"].items()),
            **self.facts,
        }
        return environment.get_template("bench.html").render(report=self, facts=facts, inks=INKS)


def machine() -> dict[str, Any]:
    """Return the machine, its load, and when this was."""
    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        lines = info.read_text().splitlines()
        cpu = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), cpu)
    return {
        "cpu": cpu,
        "cores": os.cpu_count(),
        "load": [round(load, 2) for load in os.getloadavg()] if hasattr(os, "getloadavg") else None,
        "python": platform.python_version(),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _figures(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        names = [each.name for each in fields(value) if each.repr]
        names += [name for name, member in vars(type(value)).items() if isinstance(member, property)]
        return {name: _figures(getattr(value, name)) for name in names}
    if isinstance(value, Mapping):
        return {name: _figures(each) for name, each in value.items()}
    return [_figures(each) for each in value] if isinstance(value, list | tuple) else value
