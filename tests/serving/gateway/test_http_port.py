"""What surrounds calls over HTTP: tokens, TLS, CORS, pages, the OpenAPI document, Node, random and malformed requests."""

import asyncio
import json
import os
import re
import shutil
import ssl
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import LogCapture

from rf_fuzz.json_requests import json_requests
from rf_fuzz.json_verdict import ask_all_json
from rf_fuzz.requests import SERVICES
from rf_fuzz.words import Words
from rf_platform.errors import UsageError
from rf_platform.settings import Settings
from rf_serving.server.options import ServeOptions
from rf_serving.server.rpc import Role
from rf_serving.server.tls import TlsFiles
from rf_serving.server.tokens import add_token

from ..conftest import REPOSITORY, RunningServer, running_server
from ..server.test_protection import certificate
from .conftest import RETRIEVE, Client

UPSERT = "/retrievalformer.v1.CatalogService/UpsertItems"
EXAMPLE = Path(__file__).parents[3] / "docs" / "examples" / "retrieve.ts"
REQUESTS = 600


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs the openssl command")
@pytest.mark.parametrize("front", ["grpc", "http2"])
def test_over_tls_a_token_has_its_role(settings: Settings, home: Any, tmp_path: Path, front: str) -> None:
    cert, key = certificate(tmp_path, "server")
    token = {"authorization": f"Bearer {add_token(tmp_path / 'tokens', 'shop', Role.READ)}"}
    tls, origins = TlsFiles(certificate=cert, key=key), ("https://shop.example",)
    options: dict[str, Any] = {"front": front, "tls": tls, "tokens": tmp_path / "tokens", "http_origins": origins}
    with running_server(settings, http_port=0, **options) as running:
        trusting = ssl.create_default_context(cafile=str(cert))
        trusting.set_alpn_protocols(["h2", "http/1.1"])
        client = Client(running, trusting)
        good = client.post(RETRIEVE, {"userId": "17", "k": 3}, **token, origin="https://shop.example")
        assert (good.status, len(good.json["items"])) == (200, 3)
        connected: Any = client.connection.sock
        assert connected.selected_alpn_protocol() == "http/1.1"
        assert good.headers["access-control-allow-origin"] == "https://shop.example"
        assert (
            "access-control-allow-origin" not in client.post(RETRIEVE, {}, **token, origin="https://x.example").headers
        )
        asked: Any = {"origin": "https://shop.example", "access_control_request_method": "POST"}
        asked["access_control_request_headers"] = "authorization,content-type"
        assert client.ask("OPTIONS", RETRIEVE, **asked).status == 200
        nobody = client.post(RETRIEVE, b"{" * 50_000)  # which is not read
        assert (nobody.status, nobody.json["code"], nobody.json["field"]) == (401, "unauthenticated", None)
        few = client.post(UPSERT, {"items": [{"itemId": "1"}]}, **token)
        assert (few.status, few.json["code"]) == (403, "permission_denied")


def test_scripts_of_other_pages_may_not_call_unless_that_is_said(client: Client) -> None:
    answer = client.post(RETRIEVE, {"userId": "17", "k": 3}, origin="https://shop.example")
    assert not [name for name in answer.headers if name.startswith("access-control")]
    asked: Any = {"origin": "https://shop.example", "access_control_request_method": "POST"}
    assert client.ask("OPTIONS", RETRIEVE, **asked).status == 405


def test_the_page_takes_nothing_from_another_host(client: Client) -> None:
    page = client.ask("GET", "/")
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert "unsafe" not in page.headers["content-security-policy"]
    named = re.findall(r'(?:src|href)="([^"]+)"', page.body.decode())
    for name in named:
        if not name.startswith("data:"):
            part = client.ask("GET", f"/{name}")
            assert part.status == 200
            assert b"http://" not in part.body.replace(b"http://www.w3.org", b"")
    assert {"try.css", "try.js", "openapi.json", "healthz"} <= set(named)
    assert not re.search(r"<script>|<style|style=|\bon\w+=", page.body.decode())


def test_the_document_has_every_method_with_its_comment(client: Client) -> None:
    document = client.ask("GET", "/openapi.json").json
    assert document["openapi"].startswith("3.1")
    wanted = {f"/{service.full_name}/{method.name}" for service in SERVICES for method in service.methods}
    assert set(document["paths"]) == wanted
    operation = document["paths"][RETRIEVE]["post"]
    assert operation["summary"] == "Returns the k best items, best first."
    assert {"200", "400", "401", "403", "429", "503"} <= set(operation["responses"])
    schemas = document["components"]["schemas"]
    assert set(re.findall(r'"#/components/schemas/([\w.]+)"', json.dumps(document))) == set(schemas)
    assert schemas["RetrieveRequest"]["properties"]["userId"]["description"].endswith("Not together with `session`.")


def test_random_and_malformed_requests_are_never_the_servers_error(
    home: Path, copy_workspace: Callable[[Path, Path], Path], tmp_path: Path, logs: LogCapture
) -> None:
    logs.entries.clear()  # of other tests
    settings = Settings(home=copy_workspace(home, tmp_path / "home"), feature_repo=REPOSITORY)
    with running_server(settings, http_port=0) as running:
        assert running.server.http_port is not None
        address = ("127.0.0.1", running.server.http_port)
        verdict = asyncio.run(ask_all_json(address, json_requests(1, REQUESTS, Words()), together=8))
        assert verdict.violations == []
        assert verdict.requests == REQUESTS
        assert not [entry for entry in logs.entries if entry["event"] == "failed"]
        for service in SERVICES:
            for method in service.methods:
                assert verdict.statuses[f"{method.name} 400"] > 10, method.name
        assert sum(count for name, count in verdict.statuses.items() if name.endswith(" 200")) > 15
        assert Client(running).post(RETRIEVE, {"userId": "17", "k": 3}).status == 200
        assert running.admission.active == 0


@pytest.fixture
def example(tmp_path: Path) -> Path:
    """The example, as the Node of this machine takes it."""
    if shutil.which("node") is None:
        pytest.skip("needs node")
    version = subprocess.run(["node", "--version"], capture_output=True, text=True, check=True).stdout
    if tuple(map(int, version.strip("v\n").split(".")[:2])) >= (22, 18):  # which take types away by themselves
        return EXAMPLE
    compiler = Path(os.environ.get("RF_TEST_NODE_MODULES", "")) / "typescript" / "bin" / "tsc"
    if not compiler.exists():
        pytest.skip("needs Node 22.18, or RF_TEST_NODE_MODULES with npm install typescript@5")
    made = tmp_path / "example"
    options = [
        "--target",
        "es2022",
        "--module",
        "es2022",
        "--lib",
        "es2023,dom,dom.iterable",
        "--strict",
        "--outDir",
        str(made),
    ]
    shutil.copy(EXAMPLE, tmp_path / "example.mts")
    kinds = ["--types", "node", "--typeRoots", str(compiler.parents[2] / "@types"), "--skipLibCheck"]
    command = ["node", str(compiler), *options, *kinds, str(tmp_path / "example.mts")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stdout
    return made / "example.mjs"


def test_the_example_in_typescript_runs_in_node(running: RunningServer, example: Path) -> None:
    environment = {**os.environ, "RF_URL": f"http://127.0.0.1:{running.server.http_port}", "RF_USER": "17"}
    command = ["node", str(example)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment)
    assert done.returncode == 0, done.stderr
    assert "invalid_argument, k: k: 0 is not possible" in done.stdout
    assert re.search(r"^ *1 +\d+ +0\.\d{3}$", done.stdout, re.MULTILINE)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"port": 5000, "http_port": 5000}, "--http-port 5000 is the port of gRPC, too"),
        ({"http_origins": ("https://shop.example",)}, "there is no --http-port"),
    ],
)
def test_options_that_do_not_fit_together_are_named(options: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        ServeOptions(**options).check()
