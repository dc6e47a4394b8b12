"""What tests of several packages share: tiny tables in the form `rf data import` writes."""

import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.request import Request, urlopen
from uuid import uuid4

import numpy as np
import prometheus_client  # noqa: F401  (before Feast, whose PROMETHEUS_MULTIPROC_DIR would make all servers here share their counters)
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from rf_platform.cli import main
from rf_platform.dataset.protocols import TRAIN, Events, SplitProtocol
from rf_platform.interrupts import SIGNALS

# For torch and FAISS, not loaded yet: on shared cores their threads wait for one another by spinning, at three times the CPU.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# A shell that starts a command in the background has it ignore SIGINT; tests interrupt trainings and servers with it.
signal.signal(signal.SIGINT, signal.default_int_handler)


MICROSECONDS = pa.timestamp("us", tz="UTC")
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
START = datetime(2024, 1, 1, tzinfo=UTC)
GENRES = np.array(["Action", "Comedy", "Drama", "Horror", "Western"])


@pytest.fixture(autouse=True)
def own_signal_handlers() -> Iterator[None]:
    """A command leaves handlers that end its process: it is over, and this one is not."""
    before = {number: signal.getsignal(number) for number in SIGNALS}
    yield
    for number, handler in before.items():
        signal.signal(number, signal.SIG_DFL if handler is None else handler)


@pytest.fixture
def run_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    """Run an ``rf`` command in this process; returns exit code, standard output and standard error."""

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["rf", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = capsys.readouterr()
        return int(ended.value.code or 0), out, err

    return run


@pytest.fixture
def closed_port() -> Iterator[int]:
    """A local port that refuses connections: bound, but nobody listens."""
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        yield reserved.getsockname()[1]


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    """Address of a server that speaks S3, in this process."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        yield "http://{}:{}".format(*server.get_host_and_port())
    finally:
        server.stop()


@pytest.fixture
def s3_url(s3_server: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """A place in a new bucket of that server, whose credentials the environment has."""
    given = {
        "ENDPOINT_URL": s3_server,
        "ACCESS_KEY_ID": "tests",
        "SECRET_ACCESS_KEY": "of-tests",
        "REGION": "us-east-1",
    }
    for name, value in given.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    bucket = f"bucket-{uuid4().hex}"
    urlopen(Request(f"{s3_server}/{bucket}", method="PUT")).close()
    return f"s3://{bucket}/shop"


@pytest.fixture(params=["directory", "s3"])
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """URL of an empty object store: of a directory, and of a bucket."""
    if request.param == "s3":
        return str(request.getfixturevalue("s3_url"))
    directory = tmp_path / "away"
    directory.mkdir()
    return directory.as_uri()


def _write_tables(directory: Path, users: int = 24, items: int = 40, events: int = 12, seed: int = 0) -> None:
    """Write MovieLens-like tables in which each user keeps to one genre, so that there is something to learn."""
    rng = np.random.default_rng(seed)
    directory.mkdir(parents=True, exist_ok=True)
    genre = np.arange(items) % len(GENRES)
    pq.write_table(
        pa.table(
            {
                "item_id": pa.array(np.arange(items) + 100),
                "event_timestamp": pa.array([EPOCH] * items, MICROSECONDS),
                "title": [f"Movie {i}" for i in range(items)],
                "genres": [[str(GENRES[g])] + (["Classic"] if i % 4 == 0 else []) for i, g in enumerate(genre)],
                "release_year": pa.array([None if i == 3 else 1990 + i % 7 for i in range(items)], pa.int64()),
                "title_words": [["movie", f"w{i % 6}"] for i in range(items)],
            }
        ),
        directory / "items.parquet",
    )
    pq.write_table(
        pa.table(
            {
                "user_id": pa.array(np.arange(users) + 1),
                "event_timestamp": pa.array([EPOCH] * users, MICROSECONDS),
                "gender": ["M" if u % 2 else "F" for u in range(users)],
                "age_group": pa.array([18 if u % 3 else 35 for u in range(users)]),
                "occupation": ["writer" if u % 5 else None for u in range(users)],
                "zip_area": [str(u % 10) for u in range(users)],
            }
        ),
        directory / "users.parquet",
    )
    rows = []
    for u in range(users):
        own = np.flatnonzero(genre == u % len(GENRES))
        other = np.flatnonzero(genre != u % len(GENRES))
        picks = [*rng.permutation(own)[: events - 4], *rng.choice(other, 4, replace=False)]
        for position, i in enumerate(rng.permutation(picks)):
            when = START + timedelta(hours=int(u) + 7 * position)
            rows.append((u + 1, int(i) + 100, when, float(rng.integers(1, 6))))
    times = [r[2] for r in rows]
    pq.write_table(
        pa.table(
            {
                "user_id": [r[0] for r in rows],
                "item_id": [r[1] for r in rows],
                "event_timestamp": pa.array(times, MICROSECONDS),
                "event_type": ["rating"] * len(rows),
                "rating": pa.array([r[3] for r in rows], pa.float32()),
                "hour": [t.hour for t in times],
                "weekday": [t.weekday() for t in times],
                "input_order": list(range(len(rows))),
            }
        ),
        directory / "interactions.parquet",
    )
    (directory / "import.json").write_text('{"name": "tiny", "feature_repo": "movielens", "time": "observed"}\n')


def _write_static_encoder(directory: Path, words: Mapping[str, Sequence[float]]) -> Path:
    """Write a sentence encoder with a vector for each word; a text is the mean of its known words, not scaled."""
    from safetensors.numpy import save_file
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.normalizers import Lowercase
    from tokenizers.pre_tokenizers import Whitespace

    directory.mkdir(parents=True, exist_ok=True)
    tokenizer = Tokenizer(WordLevel({"[UNK]": 0, **{word: i + 1 for i, word in enumerate(words)}}, unk_token="[UNK]"))
    tokenizer.normalizer, tokenizer.pre_tokenizer = Lowercase(), Whitespace()
    tokenizer.save(str(directory / "tokenizer.json"))
    table = np.array([[0.0] * len(next(iter(words.values()))), *words.values()], np.float32)
    save_file({"embeddings": table}, directory / "model.safetensors")
    (directory / "config.json").write_text('{"model_type": "model2vec", "normalize": false}\n')
    return directory


@pytest.fixture(scope="session")
def write_static_encoder() -> Callable[..., Path]:
    """Write a sentence encoder of chosen words into a directory: ``write_static_encoder(directory, {"war": [1, 0]})``."""
    return _write_static_encoder


@pytest.fixture(scope="session")
def write_tables() -> Callable[..., None]:
    """Write tiny tables into a directory: ``write_tables(directory, users=24, items=40, events=12, seed=0)``."""
    return _write_tables


def _poison_tables(directory: Path, protocol: SplitProtocol) -> None:
    """Change whatever training must not see under a protocol, and nothing else.

    Events that are not for training get ratings, types and hours that occur nowhere else, and so do the attributes of items
    and users without a training event. All others get a second, poisoned state that is known from just after their last
    training event on. Neither ids nor times of events change, so the protocol decides as before.
    """
    log = pq.read_table(directory / "interactions.parquet")
    log = log.take(pc.sort_indices(log, [(k, "ascending") for k in ("user_id", "event_timestamp", "input_order")]))
    user, item = log["user_id"].to_numpy(), log["item_id"].to_numpy()
    moment = log["event_timestamp"].cast(pa.int64()).to_numpy()
    offsets = np.concatenate([[0], np.cumsum(np.unique(user, return_counts=True)[1])])
    events = Events(offsets=offsets, item=np.unique(item, return_inverse=True)[1].astype(np.int32), timestamp=moment)
    held_out = protocol.assign(events).split != TRAIN
    for name, poison in (("rating", 1e6), ("event_type", "poison"), ("hour", 99), ("weekday", 99)):
        values = [poison if out else old for old, out in zip(log[name].to_pylist(), held_out, strict=True)]
        log = log.set_column(log.column_names.index(name), name, pa.array(values, log[name].type))
    pq.write_table(log, directory / "interactions.parquet")

    for table, key, ids in (("items", "item_id", item), ("users", "user_id", user)):
        clean = pq.read_table(directory / f"{table}.parquet")
        last = {i: moment[(ids == i) & ~held_out].max(initial=-1) for i in clean[key].to_pylist()}
        poisoned = []
        for row in clean.to_pylist():
            for name, value in row.items():
                if name not in (key, "event_timestamp"):
                    text = pa.types.is_string(clean.schema.field(name).type)
                    row[name] = ["poison"] if isinstance(value, list) else "poison" if text else 9999
            row["event_timestamp"] = EPOCH + timedelta(microseconds=int(last[row[key]]) + 1)
            poisoned.append(row)
        kept = clean.filter(pa.array([last[i] >= 0 for i in clean[key].to_pylist()]))
        added = pa.Table.from_pylist(poisoned, clean.schema)
        pq.write_table(pa.concat_tables([kept, added]), directory / f"{table}.parquet")


@pytest.fixture(scope="session")
def poison_tables() -> Callable[[Path, SplitProtocol], None]:
    """Change in tiny tables whatever training must not see: ``poison_tables(directory, protocol)``."""
    return _poison_tables
