"""Clients of docs/clients.md, as they stand there, and the protos under buf."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "clients.md").read_text(encoding="utf-8")


def block(mark: str) -> str:
    (found,) = re.findall(rf"<!-- {mark} -->\n```\w+\n(.*?)```", PAGE, re.DOTALL)
    return str(found)


@pytest.fixture
def environment(server: Any, tmp_path: Path) -> dict[str, str]:
    (tmp_path / "config.json").write_text(json.dumps(json.loads(block("service-config"))))
    return {
        "RF_ADDRESS": server.server.address,
        "SERVICE_CONFIG": str(tmp_path / "config.json"),
        "PROTOS": str(ROOT / "protos"),
    }


def run(command: list[str], directory: Path, environment: dict[str, str]) -> str:
    whole = {**os.environ, **environment}
    done = subprocess.run(command, cwd=directory, env=whole, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def stubs(language: str, directory: Path, environment: dict[str, str]) -> None:
    """Run the page's command; protoc is that of grpcio-tools."""
    protoc = f'protoc() {{ "{sys.executable}" -m grpc_tools.protoc "$@"; }}\n'
    run(["bash", "-euc", protoc + block(f"stubs: {language}")], directory, environment)


def check(said: str, server: Any) -> None:
    found = json.loads(said)
    assert found["field"] == "k"
    assert len(found["items"]) == 3


def test_the_client_in_python(
    server: Any, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    scope: dict[str, Any] = {}
    code = block("client: python").replace('open(os.environ["SERVICE_CONFIG"]).read()', repr(block("service-config")))
    exec(compile(code, "docs/clients.md", "exec"), scope)
    scope["channel"].close()
    check(capsys.readouterr().out, server)


def test_the_client_in_javascript(server: Any, environment: dict[str, str], node_modules: str, tmp_path: Path) -> None:
    (tmp_path / "client.js").write_text(block("client: node"))
    check(run(["node", "client.js"], tmp_path, environment | {"NODE_PATH": node_modules}), server)


def test_the_client_in_typescript(server: Any, environment: dict[str, str], node_modules: str, tmp_path: Path) -> None:
    if not all((Path(node_modules) / each).exists() for each in ("ts-proto", "typescript")):
        pytest.skip("needs npm install ts-proto typescript@5 @types/node")
    (tmp_path / "node_modules").symlink_to(node_modules)
    stubs("typescript", tmp_path, environment)
    (tmp_path / "client.ts").write_text(block("client: typescript"))
    options = ["--strict", "--skipLibCheck", "--esModuleInterop", "--module", "commonjs", "--target", "es2022"]
    run(["node", f"{node_modules}/typescript/bin/tsc", *options, "client.ts"], tmp_path, environment)
    check(run(["node", "client.js"], tmp_path, environment), server)


def test_the_client_in_go(
    server: Any, environment: dict[str, str], go_build: Callable[..., None], tmp_path: Path
) -> None:
    if missing := [each for each in ("protoc-gen-go", "protoc-gen-go-grpc") if shutil.which(each) is None]:
        pytest.skip(f"needs apt-get install {' '.join(missing)}")
    source = tmp_path / "src"
    source.mkdir()
    stubs("go", source, environment)
    (source / "client.go").write_text(block("client: go"))
    go_build(source / "client.go", tmp_path / "client", tmp_path)
    check(run([str(tmp_path / "client")], tmp_path, environment), server)


def test_buf_has_nothing_to_say() -> None:
    modules = os.environ.get("RF_TEST_NODE_MODULES", "")
    buf = shutil.which("buf", path=os.pathsep.join((os.environ["PATH"], f"{modules}/.bin")))
    if buf is None:
        pytest.skip("needs buf: npm install @bufbuild/buf")
    done = subprocess.run([buf, "lint"], cwd=ROOT / "protos", capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (0, "")
