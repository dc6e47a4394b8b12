"""The console in a real browser: no script fails, nothing is asked of other hosts, nothing is too wide or hard to read."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

SCRIPT = Path(__file__).with_name("browser.mjs")
PAGES = [
    "/",
    "/catalog?q=movie",
    "/item?id=17",
    "/item/edit?id=17",
    "/item/audience?id=17",
    "/user?id=30&k=8",
    "/user?id=30&k=8&drop=0&drop=1",
    "/user?session=17,18",
    "/features",
    "/feature?name=item_attributes__genres",
    "/lineage",
    "/lineage/compare?kind=bundle",
    "/runs",
    "/runs/tiny-run?settings=all",
    "/compare?run=tiny-run",
    "/ablations",
    "/deployments",
    "/quality",
    "/policies",
    "/audit",
]
WIDTHS = [1440, 360]


def test_pages_in_a_browser(chromium: str, browser_modules: str, open_port: int) -> None:
    shots = os.environ.get("RF_TEST_SHOTS")
    given = json.dumps({"pages": PAGES, "shots": shots, "widths": WIDTHS})
    command = ["node", str(SCRIPT), browser_modules, chromium, f"http://127.0.0.1:{open_port}", given]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    found: list[dict[str, Any]] = json.loads(done.stdout)
    assert len(found) == 2 * len(PAGES)
    wrong = [
        each for each in found if each["status"] != 200 or each["complaints"] or each["overflow"] or each["serious"]
    ]
    assert not wrong, json.dumps(wrong, indent=1)
