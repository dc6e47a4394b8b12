"""Store of a run's re-rankers: ``rerankers/NAME/`` each, and ``reranker``, a link to the one that is served."""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from rf_platform.bundle.manifest import check_name
from rf_platform.errors import CorruptError, NotFoundError, UsageError
from rf_platform.failures import read_json, reading
from rf_platform.files import replace_link
from rf_platform.staging import staged
from rf_training.rerank.kinds import CONFIG, load_ranker, served_kinds
from rf_training.rerank.ranker import Ranker
from rf_training.tensors import weights_file

RERANKERS_DIRECTORY = "rerankers"
CHOSEN = "reranker"
"""Link in a run's directory, relative, to the re-ranker that `rf index build` puts into bundles."""
TRAINING, METRICS = "training.json", "metrics.json"
"""Files of a re-ranker: its training data and recipe; its metrics on the validation targets."""
_STAGING = ".training-"
_REMEDY = "restore the directory or train it again"


def reranker_names(run: Path) -> list[str]:
    """Return the names of a run's complete re-rankers, in alphabetical order."""
    found = (run / RERANKERS_DIRECTORY).glob(f"*/{CONFIG}")
    return sorted(path.parent.name for path in found if not path.parent.name.startswith("."))


def chosen_reranker(run: Path) -> Path | None:
    """Return the directory of the re-ranker that a run is served with, or None.

    Raises:
        CorruptError: the link leads nowhere.
    """
    link = run / CHOSEN
    if not link.is_symlink() and not link.exists():
        return None
    if not (link / CONFIG).is_file():
        raise CorruptError(f"{link} leads to no re-ranker; `rf rerank use NAME` chooses one, or remove the link")
    return link.resolve()


def choose_reranker(run: Path, name: str) -> None:
    """Serve a run with one of its re-rankers, from the next `rf index build` on.

    Raises:
        NotFoundError: it has none of that name.
        UsageError: it is of a kind that is no second stage but a bound or a baseline of one.
    """
    path = _existing(run, name) / CONFIG
    with reading(path, _REMEDY):
        kind = read_json(path, _REMEDY)["kind"]
    if kind not in (served := served_kinds()):
        raise UsageError(
            f"re-ranker '{name}' is of the kind {kind}, which is there to compare with; only {' and '.join(served)} are served"
        )
    replace_link(run / CHOSEN, Path(RERANKERS_DIRECTORY, name))


def open_reranker(run: Path, name: str) -> Ranker:
    """Read one of a run's re-rankers.

    Raises:
        NotFoundError: it has none of that name.
        CorruptError: it is damaged, or the run's towers are not those it was trained on.
    """
    directory = _existing(run, name)
    check_towers(run, directory)
    return load_ranker(directory)


def check_towers(run: Path, reranker: Path) -> None:
    """Make sure that a re-ranker was trained on the towers that the run has now.

    Raises:
        CorruptError: it was not.
    """
    with reading(reranker / TRAINING, _REMEDY):
        known = read_json(reranker / TRAINING, _REMEDY)["towers_sha256"]
    if known != towers_sha256(run):
        raise CorruptError(
            f"the re-ranker {reranker} was trained on other weights than those in {run / 'best'}; train it again with "
            f"`rf rerank train --run {run.name}`"
        )


def towers_sha256(run: Path) -> str:
    """Return the checksum of a run's weights."""
    path = weights_file(run / "best")
    with reading(path, "train the run again"), path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_free(run: Path, name: str, *, replace: bool) -> None:
    """Check the name of a new re-ranker, before anything is computed for it.

    Raises:
        UsageError: the name is no path component, or taken and not to be replaced.
    """
    check_name("re-ranker", name)
    if (run / RERANKERS_DIRECTORY / name).exists() and not replace:
        raise UsageError(
            f"run '{run.name}' has a re-ranker '{name}' already; --replace trains it anew, --name trains another one beside it"
        )


@contextmanager
def publish_reranker(run: Path, name: str) -> Iterator[Path]:
    """Yield an empty directory to write a re-ranker into, and publish it when the block ends without an error.

    Publication is atomic: after an error nothing is left behind, and what a killed training left is removed by the next one.
    A re-ranker of that name goes away only then.
    """
    parent = run / RERANKERS_DIRECTORY
    try:
        with staged(parent / name, _STAGING, replace=True) as staging:
            yield staging
    except BaseException:
        with suppress(OSError):
            parent.rmdir()  # unless there are others
        raise


def write_facts(directory: Path, training: dict[str, Any], metrics: dict[str, Any]) -> None:
    """Write what a re-ranker was trained on, and how well it ranks."""
    for name, values in ((TRAINING, training), (METRICS, metrics)):
        (directory / name).write_text(json.dumps(values, indent=2, sort_keys=True) + "\n")


def _existing(run: Path, name: str) -> Path:
    known = reranker_names(run)
    if name not in known:
        there = f"it has {', '.join(known)}" if known else f"train one with `rf rerank train --run {run.name}`"
        raise NotFoundError(f"run '{run.name}' has no re-ranker '{name}'; {there}")
    return run / RERANKERS_DIRECTORY / name
