"""`rf health`: what probes of containers ask."""

import json
from typing import Any


def test_a_server_that_serves(run_command: Any, server: Any) -> None:
    code, out, _ = run_command("health", "--address", server.server.address, "--json")
    assert (code, json.loads(out)) == (0, {"address": server.server.address, "status": "SERVING"})
    assert run_command("health", "--address", server.server.address)[1] == f"{server.server.address}: SERVING\n"


def test_no_server(run_command: Any) -> None:
    code, out, err = run_command("health", "--address", "127.0.0.1:1", "--timeout", "2")
    assert (code, out) == (1, "")
    assert "no server answers at 127.0.0.1:1" in err
