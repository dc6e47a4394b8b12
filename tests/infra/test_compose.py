"""Compose file, alerts, dashboard and Dockerfile say nothing that the platform does not have."""

import json
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
COMPOSE = ROOT / "infra" / "compose"


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((COMPOSE / "compose.yaml").read_text())["services"]
    return found


def documented() -> set[str]:
    """Names of the samples of every metric in the table that ``infra/check_docs.py`` makes of the metric objects."""
    page = (ROOT / "docs" / "operations.md").read_text()
    table = page.partition("<!-- metrics -->")[2].partition("<!-- /metrics -->")[0]
    found: set[str] = set()
    for name, kind in re.findall(r"^\| `(rf_\w+)` \| (\w+) \|", table, re.MULTILINE):
        found |= {f"{name}_{part}" for part in ("bucket", "sum", "count")} if kind == "histogram" else {name}
    return found


def expressions() -> list[str]:
    alerts = yaml.safe_load((COMPOSE / "alerts.yaml").read_text())["groups"][0]["rules"]
    panels = json.loads((COMPOSE / "grafana" / "dashboard.json").read_text())["panels"]
    return [rule["expr"] for rule in alerts] + [each["expr"] for panel in panels for each in panel["targets"]]


def test_alerts_and_dashboard_use_metrics_that_there_are() -> None:
    known = documented()
    assert "rf_stage_seconds_bucket" in known
    assert "rf_requests_total" in known
    used = {name for text in expressions() for name in re.findall(r"\brf_\w+", text)}
    assert len(used) > 15
    assert used - known == set()
    scaling = (ROOT / "docs" / "deployment.md").read_text()
    assert set(re.findall(r"\brf_stage_\w+(?=\{)", scaling)) <= known


def test_statuses_and_stages_are_those_of_the_server() -> None:
    from rf_serving.server.rpc import METHOD_ROLES, STATUSES

    text = "\n".join(expressions())
    named = {name for group in re.findall(r'status=~"([^"]*)"', text) for name in group.split("|")}
    assert named
    assert named - {"UNKNOWN"} <= set(STATUSES)
    assert set(re.findall(r'method="(\w+)"', text)) <= {name for needs in METHOD_ROLES.values() for name in needs}


def test_commands_and_settings_are_those_of_the_platform(
    services: dict[str, Any], command_line: Callable[[list[str]], None], variables: set[str]
) -> None:
    ours = [service for service in services.values() if service["image"] == "${RF_IMAGE}"]
    assert len(ours) == 4
    for service in ours:
        command_line(service["command"])
        assert set(service["environment"]) <= variables


def test_the_console_is_for_this_machine_and_asks_for_a_token(services: dict[str, Any]) -> None:
    console = services["console"]
    assert any(word.startswith("--tokens=/var/lib/rf/") for word in console["command"])
    port = next(word.partition("=")[2] for word in console["command"] if word.startswith("--port="))
    assert console["ports"] == [f"127.0.0.1:${{CONSOLE_PORT}}:{port}"]
    assert f"127.0.0.1:{port}/healthz" in console["healthcheck"]["test"][-1]
    asked = [word.partition("=")[2] for word in console["command"] if word.startswith(("--address=", "--metrics="))]
    assert {address.removeprefix("http://").partition(":")[0] for address in asked} <= set(services)


def test_every_variable_has_a_value_and_every_value_a_use() -> None:
    used = set(re.findall(r"\$\{(\w+)\}", (COMPOSE / "compose.yaml").read_text()))
    given = set(re.findall(r"^(\w+)=", (COMPOSE / "example.env").read_text(), re.MULTILINE))
    assert used == given


def test_mounted_files_and_volumes_are_there(services: dict[str, Any]) -> None:
    volumes = yaml.safe_load((COMPOSE / "compose.yaml").read_text())["volumes"]
    for service in services.values():
        for mount in service.get("volumes", []):
            source = mount.partition(":")[0]
            assert source in volumes or source.startswith("${") or (COMPOSE / source).is_file(), mount
    scraped = yaml.safe_load((COMPOSE / "prometheus.yaml").read_text())["scrape_configs"][0]["static_configs"][0]
    assert {target.partition(":")[0] for target in scraped["targets"]} <= set(services)
    assert set(re.findall(r"server ([\w-]+):50051", (COMPOSE / "nginx.conf").read_text())) <= set(services)


def test_the_dockerfile_keeps_the_rules_and_its_commands_are_ours(command_line: Callable[[list[str]], None]) -> None:
    file = ROOT / "infra" / "Dockerfile"
    hadolint = shutil.which("hadolint")
    if hadolint is not None:
        done = subprocess.run([hadolint, str(file)], capture_output=True, text=True)
        assert done.returncode == 0, done.stdout
    text = file.read_text()
    entry = json.loads(re.findall(r"^ENTRYPOINT (.*)$", text, re.MULTILINE)[0])
    command_line([*entry[1:], *json.loads(re.findall(r"^CMD (.*)$", text, re.MULTILINE)[0])])
    command_line(json.loads(re.findall(r"^HEALTHCHECK .* CMD (.*)$", text, re.MULTILINE)[0])[1:])
    copied = re.findall(r"^COPY (?!--from)(.*) \S+$", text, re.MULTILINE)
    kept = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    for source in " ".join(copied).split():
        assert (ROOT / source).exists()
        assert any(Path(source).match(pattern) for pattern in kept), source
