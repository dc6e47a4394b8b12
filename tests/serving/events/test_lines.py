"""Events as JSON lines, and ``rf events``."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from rf_platform.errors import NotFoundError, UsageError
from rf_platform.settings import Settings, get_settings
from rf_serving.wire.json_lines import read_events

REPOSITORY = Path(__file__).parents[3] / "feature_repo" / "movielens"


def test_a_line_becomes_an_event(tmp_path: Path) -> None:
    file = tmp_path / "events.jsonl"
    lines: list[dict[str, Any]] = [
        {"event_id": "a", "user_id": 42, "item_id": "x", "timestamp_us": 5, "rating": 4.5, "count": 2, "device": "web"},
        {
            "user_id": 1,
            "item_id": 2,
            "timestamp": "2024-05-31T18:00:00+02:00",
            "tags": ["a"],
            "sizes": [1],
            "v": [0.5, 1],
        },
        {"user_id": 1, "item_id": 2, "timestamp": "2024-05-31T16:00:00", "rating": None},
    ]
    file.write_text("\n\n".join(map(json.dumps, lines)))
    first, second, third = read_events(file)
    assert (first.event_id, first.user_id, first.item_id, first.timestamp_us) == ("a", "42", "x", 5)
    assert first.values["rating"].double_value == 4.5
    assert (first.values["count"].int_value, first.values["device"].string_value) == (2, "web")
    assert second.timestamp_us == third.timestamp_us == 1_717_171_200_000_000
    assert list(second.values["tags"].string_list.values) == ["a"]
    assert list(second.values["sizes"].int_list.values) == [1]
    assert list(second.values["v"].double_list.values) == [0.5, 1.0]
    assert third.values["rating"].WhichOneof("value") is None
    assert [e.event_id for e in read_events(file)] == [first.event_id, second.event_id, third.event_id]
    assert second.event_id != third.event_id


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", r"line 1: not a JSON object"),
        ("[1]", r"item 1: not a JSON object but int"),
        ('{"user_id": 1}', r"line 1: item_id is missing"),
        ('{"user_id": 1, "item_id": 2, "timestamp": "noon"}', r"line 1: timestamp: 'noon' is not a time"),
        ('{"user_id": 1, "item_id": 2, "timestamp_us": 1.5}', r"line 1: timestamp_us: 1.5 is not a whole number"),
        ('{"user_id": 1, "item_id": 2, "x": {"a": 1}}', r"line 1: x: .* is no value of a "),
    ],
)
def test_a_line_that_is_no_event_is_named(tmp_path: Path, line: str, message: str) -> None:
    (tmp_path / "events.jsonl").write_text(line)
    with pytest.raises(UsageError, match=message):
        read_events(tmp_path / "events.jsonl")


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match=r"events.jsonl cannot be read"):
        read_events(tmp_path / "events.jsonl")


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("RF_HOME", str(tmp_path))
    get_settings.cache_clear()
    yield tmp_path
    get_settings.cache_clear()


def test_show_and_seal_count_events(workspace: Path) -> None:
    from rf_platform.data.event_log import Event, EventLog
    from rf_serving.commands.events import app

    log = EventLog.open(get_settings())
    log.append([[Event(event_id=str(n), user_id="1", item_id="2", timestamp_us=1) for n in range(5)]])
    log.advance(log.state(), 3)

    def run(command: str) -> Any:
        return json.loads(CliRunner().invoke(app, [command, "--json"], catch_exceptions=False).stdout)

    assert run("show").items() >= {"newest": 5, "applied": 3, "waiting": 2, "in_files": 0, "files": 0}.items()
    assert run("seal") == {"events": 5, "files": 1}
    assert run("show").items() >= {"newest": 5, "applied": 3, "waiting": 2, "in_files": 5, "files": 1}.items()
    log.close()


def test_record_sends_a_file(workspace: Path, home_copy: Path, start_server: Callable[..., Any]) -> None:
    from rf_serving.commands.events import app

    file = workspace / "events.jsonl"
    good = {"event_id": "line", "user_id": 801, "item_id": 3, "event_type": "rating", "rating": 5.0}
    file.write_text("\n".join(json.dumps(e) for e in (good, good, {**good, "event_id": "bad", "rating": "five"})))
    with start_server(Settings(home=home_copy, feature_repo=REPOSITORY)) as running:
        address = running.server.address
        result = CliRunner().invoke(app, ["record", str(file), "--address", address, "--json"], catch_exceptions=False)
    said = json.loads(result.stdout)
    assert (said["RECORDED"], said["DUPLICATE"], said["REJECTED"]) == (1, 1, 1)
    assert said["messages"][0]["event"] == 3
    assert said["messages"][0]["message"].startswith("values[\"rating\"]: 'five' is no Float32")
    assert result.exit_code == 1
