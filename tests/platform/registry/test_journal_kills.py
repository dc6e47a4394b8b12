"""No acknowledged change is lost, whenever the process that made it is killed."""

import json
import os
import random
import subprocess
import sys
from collections import Counter
from pathlib import Path

from rf_platform.registry.journal import CatalogJournal

PROGRAM = Path(__file__).with_name("journal_killing.py")
KILLS = 60


def test_sixty_kills_lose_nothing_that_was_acknowledged(registry_url: str, tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    journal = CatalogJournal.open(registry_url)
    chance, log = random.Random(), tmp_path / "acknowledged"
    delays = [f"{chance.uniform(0, 0.2):.3f}" for _ in range(KILLS)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, PROGRAM, registry_url, log, *delays], env=environment, check=True)

    acknowledged = [json.loads(line) for line in log.read_text().splitlines()]
    entries = list(journal.read(0))
    found = {entry.sequence: (entry.item_id, entry.features) for entry in entries}
    assert len(acknowledged) > 2 * KILLS, "the processes were killed before they did anything"
    assert [found.get(sequence) for sequence, *_ in acknowledged] == [(item, state) for _, item, state in acknowledged]
    assert list(found) == list(range(1, len(found) + 1)), "numbers are missing"
    newest = {entry.item_id: entry for entry in entries}
    assert list(journal.newest()) == sorted(newest.values(), key=lambda entry: entry.sequence)
    # Of a batch, all upserts are there or none; `rows` is what of it is there, and it was made of `size` changes at most.
    batches = Counter(tuple(json.loads(state)) for _, state in found.values() if state is not None)
    assert all(rows <= size for (_, size), rows in batches.items())
    journal.close()
