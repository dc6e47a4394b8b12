"""The walk of somebody with odd files: from a draft of the mapping to answers, and a catalog that follows the next export."""

import gzip
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from rf_platform.settings import get_settings

SMALL = ("model.dim=8", "model.layers=1", "model.heads=1", "train.epochs=1", "train.batch_size=8")
KINDS = ("Tee", "Käse", "Brot")


def products(count: int, more: float = 0.0) -> bytes:
    """An export of a spreadsheet: cp1252, semicolons, prices with a comma and a unit, days as numbers, a line break in a text."""
    lines = ["Art.Nr;Bezeichnung;Preis;Kategorie;angelegt_date"]
    for n in range(count):
        text = f'"Nr. {n}, \nim Beutel"' if n % 5 == 0 else f"Nr. {n}"
        lines.append(
            f"A-{n:03d};{text};{n + more:.2f} €;{KINDS[n % 3]};{45000 + n}".replace(".00", ",00").replace(".50", ",50")
        )
    return "\r\n".join(lines).encode("cp1252") + b"\r\n"


def events() -> bytes:
    """A log from another program: UTF-8 with a byte order mark, tabs, times of a spreadsheet, gaps for visitors; packed."""
    lines = ["Kunde\tSitzung\tArtikel\tDatum\tAktion"]
    for n in range(240):
        user = "" if n % 12 == 0 else str(100 + n % 17)
        lines.append(
            f"{user}\ts{n // 6}\tA-{(n * 7 + n // 17) % 24:03d}\t{45200 + n / 4}\t{('klick', 'kauf')[n % 4 == 0]}"
        )
    return gzip.compress("\n".join(lines).encode("utf-8-sig"))


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    torch.set_num_threads(1)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RF_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("RF_FEATURE_REPO", str(tmp_path / "features"))
    monkeypatch.delenv("RF_ADDRESS", raising=False)
    (tmp_path / "produkte.csv").write_bytes(products(24))
    (tmp_path / "log.tsv.gz").write_bytes(events())
    get_settings.cache_clear()
    yield tmp_path
    get_settings.cache_clear()


def test_from_odd_files_to_a_catalog_that_follows(
    directory: Path, run_command: Callable[..., tuple[int, str, str]], start_server: Callable[..., Any]
) -> None:
    def rf(*arguments: str) -> str:
        code, out, err = run_command(*arguments)
        assert code == 0, (arguments, err)
        return out

    rf("data", "guess", "log.tsv.gz", "produkte.csv", "--out", "laden.yaml")
    draft = (directory / "laden.yaml").read_text()
    for expected in ("encoding: cp1252", 'unit: "€"', "format: excel", "fallback: Sitzung", "display: true"):
        assert expected in draft, draft
    (directory / "laden.yaml").write_text(draft.replace("timezone: UTC", "timezone: Europe/Berlin"))
    rf("data", "import", "custom", "--mapping", "laden.yaml")
    rf("data", "init-repo", "features")
    rf("features", "apply")
    rf("features", "materialize")
    rf("dataset", "build")
    rf("train", "--name", "laden", *(word for change in SMALL for word in ("--set", change)))
    rf("index", "build", "laden")
    rf("promote", "laden-1")
    with start_server(get_settings()) as running:
        address = ("--address", running.server.address)

        def items(*arguments: str) -> list[dict[str, Any]]:
            found = json.loads(rf("query", *arguments, "--json", *address))
            return list(found["items"])

        assert len(items("--user", "101", "-k", "5")) == 5
        assert len(items("--user", "session:s0", "-k", "5")) == 5
        # The next export: two items more, one less, and all are dearer.
        lines = products(26, more=0.5).split(b"\r\n")
        (directory / "produkte2.csv").write_bytes(b"\r\n".join(line for line in lines if not line.startswith(b"A-003")))
        plan = json.loads(
            rf("items", "sync", "produkte2.csv", "--mapping", "laden.yaml", "--dry-run", "--json", *address)
        )
        assert (plan["ADDED"], plan["DELETED"], plan["deleted"]) == (2, 1, ["A-003"])
        done = json.loads(rf("items", "sync", "produkte2.csv", "--mapping", "laden.yaml", "--json", *address))
        assert (done["ADDED"], done["CHANGED"], done["DELETED"], done["REJECTED"]) == (2, 23, 1, 0)
        shown = {each["item_id"] for each in items("--user", "101", "-k", "30")}
        assert {"A-024", "A-025"} <= shown
        assert "A-003" not in shown
        got = json.loads(rf("items", "get", "A-024", "--json", *address))
        assert "24.5" in json.dumps(got)
        again = json.loads(rf("items", "sync", "produkte2.csv", "--mapping", "laden.yaml", "--json", *address))
        assert (again["ADDED"], again["CHANGED"], again["DELETED"]) == (0, 0, 0)
