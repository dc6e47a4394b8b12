"""The crontab and the CronJob of docs/nightly.md: what they run is what the command line takes."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.main import get_command

from rf_serving.commands.refresh import REFUSED
from rf_serving.commands.refresh import app as refresh_app

PAGE = Path(__file__).parents[3] / "docs" / "nightly.md"


def block(language: str) -> str:
    found = re.findall(rf"```{language}\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert len(found) == 1
    return str(found[0])


def taken(arguments: list[str]) -> dict[str, Any]:
    """Return what the command line makes of arguments of `rf refresh`; raises if it does not take them."""
    assert arguments[0] == "refresh"
    return dict(get_command(refresh_app).make_context("refresh", arguments[1:]).params)


def pods(job: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield from job["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"]


def test_the_crontab() -> None:
    *settings, line = block("crontab").splitlines()
    assert [each.partition("=")[0] for each in settings] == ["RF_HOME", "RF_FEATURE_REPO"]
    fields = line.split(maxsplit=5)
    assert all(re.fullmatch(r"[0-9*]+", field) for field in fields[:5])
    assert "%" not in fields[5]  # a line break for cron
    first, second = fields[5].split(" && ")
    words = shlex.split(first.partition(" >>")[0])
    assert words[:4] == ["nice", "-n", "10", "rf"]
    assert taken(words[4:])["source"] == "custom"
    assert shlex.split(second)[:2] == ["rf", "gc"]


def test_the_cron_job() -> None:
    job = yaml.safe_load(block("yaml"))
    (container,) = pods(job)
    assert (job["kind"], job["spec"]["concurrencyPolicy"], container["command"]) == ("CronJob", "Forbid", ["rf"])
    assert taken(container["args"])["mapping"] == Path("/data/shop.yaml")
    (rule,) = job["spec"]["jobTemplate"]["spec"]["podFailurePolicy"]["rules"]
    assert rule["onExitCodes"]["values"] == [2, REFUSED]
    # A policy for exit codes is refused with any other restart policy.
    assert job["spec"]["jobTemplate"]["spec"]["template"]["spec"]["restartPolicy"] == "Never"
    mounted = {each["name"] for each in container["volumeMounts"]}
    assert mounted == {each["name"] for each in job["spec"]["jobTemplate"]["spec"]["template"]["spec"]["volumes"]}


def test_other_options_are_not_taken() -> None:
    with pytest.raises(Exception, match="--every-day"):
        taken(["refresh", "--every-day"])
