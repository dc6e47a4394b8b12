"""Take the pictures of the console in the README from the demo: ``docs/pictures/console-*.png``.

Needs Chromium, Node and RF_TEST_NODE_MODULES, the ``node_modules`` of ``npm install playwright-core axe-core``. The demo is made
if there is none yet; ``--quick`` takes the small one, for trying.
"""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
TARGET = ROOT / "docs" / "pictures"
SCRIPT = ROOT / "tests" / "serving" / "console" / "browser.mjs"
PAGES = {
    "overview": "/",
    "catalog": "/catalog?q=star",
    "item": "/item?id=50",
    "user": "/user?id=42&k=8&drop=0&drop=1",
    "features": "/features",
    "deployments": "/deployments",
}
WIDTH, HEIGHT, COLOURS, MOST_BYTES = 1280, 800, 64, 80_000


def main() -> int:
    """Run the demo with its console, and take the pictures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="of the small demo")
    parser.add_argument("--out", type=Path, default=TARGET, help="directory of the pictures")
    given = parser.parse_args()
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    modules = os.environ.get("RF_TEST_NODE_MODULES")
    if chromium is None or modules is None:
        parser.error("needs chromium and RF_TEST_NODE_MODULES")
    command = [sys.executable, "-m", "rf_platform.cli", "demo", "--keep", *(["--quick"] if given.quick else [])]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as demo, tempfile.TemporaryDirectory() as shots:
        assert demo.stdout is not None
        try:
            lines = (line.rstrip() for line in demo.stdout)
            url = next(line.split()[-1] for line in lines if line.startswith("console at "))
            asked = {
                "pages": [*PAGES.values()],
                "shots": shots,
                "widths": [WIDTH],
                "schemes": ["light"],
                "height": HEIGHT,
            }
            looked = ["node", str(SCRIPT), modules, chromium, url.rstrip("/"), json.dumps(asked)]
            found = json.loads(subprocess.run(looked, check=True, stdout=subprocess.PIPE, text=True).stdout)
            given.out.mkdir(parents=True, exist_ok=True)
            for (name, path), each in zip(PAGES.items(), found, strict=True):
                if each["status"] != 200 or each["complaints"]:
                    raise SystemExit(f"{path}: {each}")
                size = _compress(Path(shots, each["shot"]), given.out / f"console-{name}.png")
                sys.stdout.write(f"console-{name}.png {size:,} bytes, {each['timing']:.0f} ms of the console's time\n")
        finally:
            demo.send_signal(signal.SIGINT)
            demo.wait(60)
    return 0


def _compress(source: Path, target: Path) -> int:
    """Write a picture with few colours, and return its size."""
    with Image.open(source) as picture:
        picture.convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE).save(target, optimize=True)
    size = target.stat().st_size
    if size > MOST_BYTES:
        raise SystemExit(f"{target} has {size:,} bytes, more than {MOST_BYTES:,}; show less, or in fewer colours")
    return size


if __name__ == "__main__":
    sys.exit(main())
