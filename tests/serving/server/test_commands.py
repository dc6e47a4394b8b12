"""``rf token`` and ``rf deployment``."""

import json
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from rf_platform.errors import ConfigError, NotFoundError, UnavailableError, UsageError
from rf_platform.settings import Settings
from rf_serving.commands import token
from rf_serving.commands.deployment import deployment_app
from rf_serving.server.rpc import Role
from rf_serving.server.tokens import find_token, read_tokens


def run(*arguments: str) -> str:
    result = CliRunner().invoke(token.app, list(arguments), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output.strip()


def test_a_token_is_shown_once_and_kept_as_a_hash(tmp_path: Path) -> None:
    file = tmp_path / "sub" / "tokens.json"
    secret = run("add", "search-page", "--role", "write", "--tokens", str(file))
    assert secret.startswith("rf_")
    assert secret not in file.read_text()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    tokens = read_tokens(file)
    found = find_token(tokens, secret)
    assert found is not None
    assert (found.name, found.role) == ("search-page", Role.WRITE)
    assert find_token(tokens, secret[:-1]) is None
    assert find_token(tokens, "") is None
    run("add", "dashboard", "--tokens", str(file))
    listed = json.loads(run("list", "--json", "--tokens", str(file)))
    assert [(row["name"], row["role"]) for row in listed] == [("search-page", "write"), ("dashboard", "read")]
    run("remove", "search-page", "--tokens", str(file))
    assert [t.name for t in read_tokens(file)] == ["dashboard"]


def test_the_workspace_has_a_tokens_file_of_its_own(in_workspace: Path) -> None:
    run("add", "somebody")
    assert (in_workspace / "tokens.json").exists()
    (in_workspace / "tokens.json").unlink()


def test_what_cannot_be_done_with_tokens_is_said(tmp_path: Path) -> None:
    file = tmp_path / "tokens.json"
    runner = CliRunner()
    with pytest.raises(ConfigError, match="cannot be read"):
        runner.invoke(token.app, ["list", "--tokens", str(file)], catch_exceptions=False)
    run("add", "one", "--tokens", str(file))
    with pytest.raises(UsageError, match=r"a token for 'one' is in .* already"):
        runner.invoke(token.app, ["add", "one", "--tokens", str(file)], catch_exceptions=False)
    with pytest.raises(NotFoundError, match=r"no token for 'two' in .*; it has one"):
        runner.invoke(token.app, ["remove", "two", "--tokens", str(file)], catch_exceptions=False)
    for damaged in (
        "{",
        "[]",
        '{"tokens": [{"name": "x"}]}',
        '{"tokens": [{"name": "x", "role": "read", "sha256": "zz"}]}',
    ):
        file.write_text(damaged)
        with pytest.raises(ConfigError, match="is no tokens file"):
            runner.invoke(token.app, ["add", "two", "--tokens", str(file)], catch_exceptions=False)


def test_deployment_shows_what_is_served(server: Any) -> None:
    arguments = ["--address", server.server.address]
    shown = CliRunner().invoke(deployment_app, arguments, catch_exceptions=False)
    assert shown.exit_code == 0
    assert "tiny-run-1" in shown.output
    assert "all users" in shown.output
    data = json.loads(CliRunner().invoke(deployment_app, [*arguments, "--json"], catch_exceptions=False).output)
    assert (data["active"]["name"], data["active"]["items"], data["refused"]) == ("tiny-run-1", "60", "")


def test_a_refusal_is_an_exit_code(
    pair: Settings, start_server: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from dataclasses import replace

    with start_server(pair) as running:
        deployments = running.parts.deployments
        deployments.serving = replace(deployments.serving, refused="bundle 'x' is damaged")
        shown = CliRunner().invoke(deployment_app, ["--address", running.server.address], catch_exceptions=False)
        assert shown.exit_code == 1
        assert "refused: bundle 'x' is damaged" in shown.output


def test_without_a_server_the_remedy_is_named() -> None:
    with pytest.raises(UnavailableError, match=r"no server answers .*rf serve"):
        CliRunner().invoke(deployment_app, ["--address", "127.0.0.1:1"], catch_exceptions=False)


def test_a_missing_token_is_said(
    settings: Settings, home: Path, start_server: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "tokens.json"
    secret = run("add", "me", "--role", "admin", "--tokens", str(file))
    with start_server(settings, tokens=file) as running:
        arguments = ["--address", running.server.address]
        with pytest.raises(UsageError, match=r"does not let us in: a token is needed.*RF_TOKEN"):
            CliRunner().invoke(deployment_app, arguments, catch_exceptions=False)
        monkeypatch.setenv("RF_TOKEN", secret)
        assert CliRunner().invoke(deployment_app, arguments, catch_exceptions=False).exit_code == 0
