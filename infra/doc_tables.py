"""Generated tables of the documents: each is one function, named in ``TABLES`` with its page and its mark."""

import ast
import importlib
import json
import re
import tomllib
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import partial
from itertools import groupby
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from api_page import api_page
from prometheus_client import CollectorRegistry
from typer.main import get_command

from rf_bench.commands import BENCHMARKS
from rf_platform.cli.commands import COMMANDS
from rf_platform.data.event_log import tables as event_tables
from rf_platform.registry.models import VERSION_TABLE, Base
from rf_platform.settings import Settings
from rf_serving.catalog.metrics import CatalogMetrics
from rf_serving.deployment.metrics import DeploymentMetrics
from rf_serving.event_counts.follower import CountMetrics
from rf_serving.events.metrics import EventMetrics
from rf_serving.server.metrics import ServerMetrics
from rf_serving.server.rpc import METHOD_ROLES, REFLECTION_ROLE, STATUSES, Role
from rf_serving.server.supervisor import WorkerMetrics
from rf_serving.serving_log.metrics import LogMetrics

ROOT = Path(__file__).resolve().parents[1]
ACCURACY = ROOT / "docs" / "results" / "accuracy.json"
PUBLISHED = ROOT / "docs" / "results" / "published.json"
_METRIC_NAME = re.compile(r'(?:Counter|Gauge|Histogram|Summary|MetricFamily)\(\s*"(rf_\w+)"')


def benchmarks() -> list[str]:
    """Benchmarks of ``rf bench``, with where their figures are."""
    rows = ["| command | measures | figures |", "|---|---|---|"]
    for name, each in BENCHMARKS.items():
        link = each.figures.removeprefix("benchmarks.md")
        rows.append(f"| `rf bench {name}` | {each.summary} | [{each.figures.partition('#')[0]}]({link}) |")
    return rows


def roles() -> list[str]:
    """Roles of tokens, with the methods of each."""
    rows = ["| role | may call |", "|---|---|"]
    for role in Role:
        methods = [f"`{name}`" for needs in METHOD_ROLES.values() for name, needed in needs.items() if needed is role]
        if role is REFLECTION_ROLE:
            methods.append("reflection")
        rows.append(f"| {role.name.lower()} | {'' if role is min(Role) else 'also '}{', '.join(methods)} |")
    return rows


def statuses() -> list[str]:
    """Statuses of the server's answers."""
    rows = ["| status | when | what to do |", "|---|---|---|"]
    return rows + [f"| {name} | {meaning.when} | {meaning.remedy} |" for name, meaning in STATUSES.items()]


def http_statuses() -> list[str]:
    """Status of HTTP of each status that a method may be answered with."""
    from rf_serving.gateway.replies import HTTP_STATUSES, code_of
    from rf_serving.server.rpc import STATUSES

    rows = [f"| {HTTP_STATUSES[name]} | `{code_of(name)}` | {meaning.when} |" for name, meaning in STATUSES.items()]
    return ["| HTTP | `code` | when |", "|---|---|---|", *rows]


def metrics() -> list[str]:
    """Metrics of a server and of its supervisor, read from the metric objects.

    Raises:
        LookupError: the serving layer has a metric that none of these objects has.
    """
    server = ServerMetrics()
    server.certificate_ends(datetime.now(UTC))
    DeploymentMetrics(server.registry)
    snapshot = SimpleNamespace(base=SimpleNamespace(rows=0), rows=0, alive=0, listed_base=0, sequence=0)
    catalog = SimpleNamespace(snapshot=snapshot, unfit=0, first_users=None)
    server.registry.register(CatalogMetrics(lambda: cast(Any, catalog)))
    EventMetrics(server.registry)
    CountMetrics(server.registry)
    LogMetrics(server.registry)
    rows, listed = ["| metric | type | labels | meaning |", "|---|---|---|---|"], set()
    for registry in (server.registry, WorkerMetrics(dict).registry):
        for name, kind, labels, meaning in _families(registry):
            listed.add(name)
            full = f"{name}_total" if kind == "counter" else name
            rows.append(f"| `{full}` | {kind} | {', '.join(f'`{label}`' for label in labels)} | {meaning} |")
    for path in (ROOT / "serving").rglob("*.py"):
        if missing := set(_METRIC_NAME.findall(path.read_text(encoding="utf-8"))) - listed:
            raise LookupError(f"{path.relative_to(ROOT)}: metrics {sorted(missing)} are in no object that is listed")
    return [*rows, "| `process_*` | | | CPU, memory, open files |"]


def _families(registry: CollectorRegistry) -> Iterator[tuple[str, str, tuple[str, ...], str]]:
    """Name, type, labels and meaning of every metric of ours; families without a sample do not show labels themselves."""
    for collector in list(registry._collector_to_names):
        if hasattr(collector, "_labelnames"):
            yield collector._name, collector._type, collector._labelnames, collector._documentation
            continue
        for family in collector.collect():
            if family.name.startswith("rf_"):
                yield family.name, family.type, tuple(family._labelnames), family.documentation


def registry_tables() -> list[str]:
    """Tables of the registry and of the event log, from their models."""
    rows = ["| table | one row for each | written by |", "|---|---|---|"]
    classes = {mapper.local_table.name: mapper.class_ for mapper in Base.registry.mappers}
    for table in Base.metadata.sorted_tables:
        first, _, rest = (classes[table.name].__doc__ or "").partition("\n\n")
        found = re.search(r"Written by (.*?)\.\s*$", " ".join(rest.split()))
        assert found is not None, f"{classes[table.name].__name__}: the docstring does not say what writes its rows"
        what = re.sub(r"^(An?|One) ", "", " ".join(first.split()).rstrip("."))
        rows.append(f"| `{table.name}` | {what} | {found[1].replace('``', '`')} |")
    events = ", ".join(f"`{name}`" for name in event_tables.metadata.tables)
    rows.append(
        f"| {events} | recorded event, its id, state of the log; in PostgreSQL only, else `events/log.db` | "
        "`rf events record`, the server |"
    )
    return [*rows, f"| `{VERSION_TABLE}` | the schema's revision | the first command, and upgrades |"]


def accuracy() -> list[str]:
    """Recall and NDCG of the model beside two baselines, rounded."""
    results = json.loads(ACCURACY.read_text(encoding="utf-8"))
    beside = {(row["set"], row["scorer"]): row["excluded"] for row in results["baselines"]}
    rows = ["| | RetrievalFormer | item-KNN | popularity |", "|---|---|---|---|"]
    for row in results["models"]:
        name = row["set"]
        figures = (row["excluded"], beside[name, "item-knn"], beside[name, "popularity"])
        rows.append(f"| {name} | {' | '.join(_pair(each, 3) for each in figures)} |")
    return rows


def models() -> list[str]:
    """Figures of the model with intervals, with seen items and without."""
    results = json.loads(ACCURACY.read_text(encoding="utf-8"))
    rows = ["| set | commands | seen excluded | interval | seen kept | kept by HNSW |", "|---|---|---|---|---|---|"]
    for row in results["models"]:
        low, high = (_figure(each, 4) for each in row["excluded"]["interval"])
        kept = f"{row['hnsw']:.2%}".replace(".00%", "%")
        rows.append(
            f"| {row['set']} | `{row['command']}` | {_pair(row['excluded'], 4)} | {low} to {high} "
            f"| {_pair(row['kept'], 4)} | {kept} |"
        )
    return [*rows, "", f"Taken on {results['date']} with seed {results['seed']}; {results['note']}."]


def reference_figures() -> list[str]:
    """Figures of the baselines."""
    rows = ["| set | scorer | seen kept | seen excluded |", "|---|---|---|---|"]
    baselines = json.loads(ACCURACY.read_text(encoding="utf-8"))["baselines"]
    for name, group in groupby(baselines, lambda row: f"{row['set']} ({row['items']:,} items)"):
        for first, row in enumerate(group):
            rows.append(
                f"| {'' if first else name} | {row['scorer']} | {_pair(row['kept'], 4)} | {_pair(row['excluded'], 4)} |"
            )
    return rows


def published() -> list[str]:
    """Figures that others have published, below ours."""
    others = json.loads(PUBLISHED.read_text(encoding="utf-8"))
    rows = [
        "| set | model | Recall@10 / NDCG@10 | Recall@20 / NDCG@20 | seen items | from |",
        "|---|---|---|---|---|---|",
    ]
    for ours in json.loads(ACCURACY.read_text(encoding="utf-8"))["models"]:
        told = _at(ours["excluded"], 10), _at(ours["excluded"], 20)
        rows.append(f"| {ours['set']} | **RetrievalFormer** | {' | '.join(told)} | excluded | [above](#results) |")
        for row in (each for each in others if each["set"] == ours["set"]):
            told = _at(row["figures"], 10), _at(row["figures"], 20)
            source = f"[{row['from']}]({row['source']})"
            rows.append(f"|  | {row['model']} | {' | '.join(told)} | {row['seen']} | {source} |")
    return rows


def _at(figures: dict[str, float], k: int) -> str:
    """Recall and NDCG at ``k``; nothing where they are not known."""
    return " / ".join(_figure(figures[key], 4) for key in (f"recall@{k}", f"ndcg@{k}") if key in figures)


def _figure(value: float, digits: int) -> str:
    return f"{value:.{digits}f}".removeprefix("0")


def _pair(figures: dict[str, float], digits: int) -> str:
    return " / ".join(_figure(figures[key], digits) for key in ("recall@20", "ndcg@20"))


def command_list() -> list[str]:
    """All commands in one table."""
    rows = ["| command | does |", "|---|---|"]
    return rows + [f"| [`rf {name}`](#rf-{name}) | {entry.summary} |" for name, entry in COMMANDS.items()]


def command_options() -> list[str]:
    """Options of every command, with their defaults and their help."""
    rows: list[str] = []
    for name, entry in COMMANDS.items():
        rows += ["", f"## rf {name}", "", entry.summary, *_of_command(f"rf {name}", _command(name))]
    return [*rows[1:], ""]


def _of_command(path: str, command: Any) -> Iterator[str]:
    if hasattr(command, "commands"):
        for name, part in command.commands.items():
            yield from ("", f"### {path} {name}", "", _plain((part.help or part.short_help or "").partition("\n\n")[0]))
            yield from _of_command(f"{path} {name}", part)
        return
    if hasattr(command, "fill_help"):
        command.fill_help()
    shown = [p for p in command.params if p.name not in ("install_completion", "show_completion")]
    if shown:
        yield from ("", "| option | default | meaning |", "|---|---|---|")
    for parameter in shown:
        names = [*parameter.opts, *parameter.secondary_opts]
        if getattr(parameter, "param_type_name", "") == "argument":
            names = [parameter.metavar or parameter.name.upper()]
        told = ", ".join(f"`{each}`" for each in [*names, *([parameter.envvar] if parameter.envvar else [])])
        yield f"| {told} | {_default(parameter)} | {_plain(getattr(parameter, 'help', None) or '')} |"


def _default(parameter: Any) -> str:
    value = parameter.default
    if getattr(parameter, "is_flag", False):
        return "on" if value is True else "off"
    if value is None or callable(value) or "Sentinel" in type(value).__name__ or value in ([], (), ""):
        return "required" if parameter.required else ""
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value))
    return f"{value:g}" if isinstance(value, float) else str(getattr(value, "value", value))


def _plain(text: str) -> str:
    """Help text as Markdown of one line."""
    text = " ".join(text.replace("\\[", "[").replace("\b", "").split())
    parts = re.split(r"(`[^`]*`)", text)
    parts[::2] = [re.sub(r"([<>*_|])", r"\\\1", part) for part in parts[::2]]
    return "".join(part.replace("|", "\\|") if odd % 2 else part for odd, part in enumerate(parts))


_OPTION_TABLE = re.compile(r"<!-- defaults: rf (.*?) -->\n((?:\|.*\n)+)")


def wrong_defaults(page: str) -> Iterator[str]:
    """Rows of marked tables with an option that the command does not have, or with another default than the command's.

    Such tables explain more than ``--help`` and are written by hand; ``<!-- defaults: rf serve -->`` stands before each.
    """
    tables = _OPTION_TABLE.findall(page)
    if len(tables) != page.count("<!-- defaults: "):
        yield "a mark of defaults has no table in the line after it"
    for command, table in tables:
        defaults = {name: _default(each) for each in _command(command).params for name in each.opts}
        defaults |= {name: "" for each in _command(command).params for name in each.secondary_opts}
        for cells in (line.strip("|").split("|") for line in table.splitlines()[2:]):
            for option in re.findall(r"`(--?[a-z][a-z-]*)`", cells[0]):
                default = defaults.get(option)
                if default is None:
                    yield f"rf {command} has no option {option}"
                elif not _tells(cells[1], default):
                    yield f"rf {command} {option} has the default {default}, not {cells[1].strip()}"


def _tells(cell: str, default: str) -> bool:
    """Say whether a cell tells of a default; of none, in words, or by the setting that decides: another number would be one."""
    if default in ("", "off") and (variable := re.search(r"`RF_(\w+)`", cell)):
        setting = Settings.model_fields.get(variable[1].lower())
        default = "" if setting is None or setting.default is None else str(setting.default)
    words = re.split(r"[^\w.:-]+", re.sub(r"(?<=\d),(?=\d)", "", cell))
    return not re.search(r"\d", re.sub(r"`[^`]*`", "", cell)) if default in ("", "off") else default in words


def _command(path: str) -> Any:
    first, *rest = path.split()
    module, attribute = COMMANDS[first].target.split(":")
    command: Any = get_command(getattr(importlib.import_module(module), attribute))
    for part in rest:
        command = command.commands[part]
    return command


def folders(source: str) -> list[str]:
    """Folders of a package with the first line of each docstring, from the top layer of its contract down.

    Raises:
        LookupError: a folder says nothing of itself.
    """
    top, rows = ROOT / source, ["| folder | content |", "|---|---|"]
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"][
        "contracts"
    ]
    layers = [layer for each in contracts if each.get("containers") == [top.name] for layer in each["layers"]]
    order = [name.strip() for layer in layers for name in layer.split("|")]
    place = {name: at for at, name in enumerate(order)}
    found = {path.parent.relative_to(top) for path in top.rglob("*.*") if path.suffix != ".pyc"} - {Path()}
    for folder in sorted(found, key=lambda each: (place.get(each.parts[0], len(order)), each)):
        name, face = str(folder), top / folder / "__init__.py"
        text = (
            ast.get_docstring(ast.parse(face.read_text(encoding="utf-8"))) if face.exists() else OTHER_FOLDERS.get(name)
        )
        if not text:
            raise LookupError(f"has no words for the folder {source}/{name}: write a docstring in its __init__.py")
        rows.append(f"| `{name}/` | {text.splitlines()[0].replace('``', '`')} |")
    return rows


OTHER_FOLDERS = {
    "registry/migrations": "Alembic's environment for the registry's tables.",
    "registry/migrations/versions": "Versions of the registry's tables, one file each.",
    "report/template": "Jinja template and style of the page.",
}
"""Folders that are no packages."""
TABLES: dict[str, list[tuple[str, Callable[[], list[str]]]]] = {
    "README.md": [("accuracy", accuracy)],
    "docs/api.md": [("api", api_page)],
    "docs/architecture.md": [
        (package, partial(folders, f"{root}/{package}"))
        for root, package in (("platform", "rf_platform"), ("training", "rf_training"), ("serving", "rf_serving"))
    ],
    "docs/benchmarks.md": [("benchmarks", benchmarks)],
    "docs/commands.md": [("commands", command_list), ("options", command_options)],
    "docs/evaluation.md": [("models", models), ("published", published), ("baselines", reference_figures)],
    "docs/http.md": [("http statuses", http_statuses)],
    "docs/operations.md": [("roles", roles), ("metrics", metrics)],
    "docs/registry.md": [("tables", registry_tables)],
    "docs/serving.md": [("statuses", statuses)],
}
"""By page: the mark of each table, and what makes its lines."""
