"""A process that has imported what commands need and forks one for every command, so that none pays for its imports.

``python fork.py`` reads a request a line, as JSON, and answers each with a line:

* ``{"argv": [...], "env": {...}, "output": DIRECTORY, ...}`` runs ``rf`` with arguments in a fork; the answer is its process id.
* ``{"wait": PID}`` waits for a fork; the answer is its exit code, negative for a signal.

A fork can be hurt where it is known to be: ``"at": [EVENT, TEXT]`` is the first audit event of Python in which a text occurs (a
file that is opened, a module that is imported), ``"do"`` is the number of a signal that the fork sends to itself there, or
``"pause"``: it makes a file and waits until it is gone. With ``"disk"`` its workspace lies on a disk of its own, see
:func:`own_disk`.
"""

import ctypes
import importlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import traceback
from pathlib import Path
from typing import Any

IMPORTED = (
    "torch torchrec faiss feast duckdb pandas pyarrow.parquet sqlalchemy.orm alembic typer rich.table grpc uvloop jinja2 "
    "matplotlib.figure tensorboard.compat.proto.event_pb2 tensorboard.backend.event_processing.event_accumulator structlog "
    "feast.infra.online_stores.sqlite feast.infra.offline_stores.duckdb onnxruntime torch.distributed prometheus_client"
)
NEW_NAMESPACE, NEW_USER = 0x00020000, 0x10000000
PRIVATE, READ_ONLY, REMOUNT, BIND = 0x44000, 1, 32, 4096


def main() -> None:
    """Answer requests until the pipe ends."""
    for name in IMPORTED.split():
        importlib.import_module(name)
    for line in sys.stdin:
        request = json.loads(line)
        if "wait" in request:
            answer = os.waitstatus_to_exitcode(os.waitpid(request["wait"], 0)[1])
        else:
            answer = fork(lambda request=request: on_disk(request) if "disk" in request else command(request))
        sys.stdout.write(f"{answer}\n")
        sys.stdout.flush()


def fork(run: Any) -> int:
    """Run something in a fork; returns its process id."""
    process = os.fork()
    if process:
        return process
    code = 1
    try:
        code = run() or 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def command(request: dict[str, Any]) -> None:
    """Run ``rf``; its output goes to files."""
    os.environ.update(request["env"])
    output = Path(request["output"])
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        path = os.devnull if number == 0 else output / name
        os.dup2(os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC), number)
    sys.stdin = open(0)  # noqa: SIM115  (the one before is the pipe's)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if "at" in request:
        hurt(request["at"], request["do"], output)
    sys.argv = ["rf", *request["argv"]]
    from rf_platform.cli import main as rf

    rf()


def hurt(at: list[str], do: Any, output: Path) -> None:
    """Do something at the first audit event that matches."""
    event, text = at
    done: list[bool] = []

    def heard(name: str, arguments: tuple[Any, ...]) -> None:
        if done or name != event or not any(text in str(each) for each in arguments):
            return
        done.append(True)
        (output / "reached").touch()
        if do == "pause":
            while (output / "reached").exists():
                time.sleep(0.005)
        else:
            os.kill(os.getpid(), do)

    sys.addaudithook(heard)


def on_disk(request: dict[str, Any]) -> None:
    """Run a command on a disk of its own, then others when there is room again; writes ``result.json``."""
    disk, output = request["disk"], Path(request["output"])
    home = own_disk(disk)
    before = files(home)
    filler = home.parent / "filler"
    if disk.get("left") is not None:
        fill(filler, disk["left"])
    if disk.get("read_only"):
        mount(str(home.parent), str(home.parent), None, BIND)
        mount("none", str(home.parent), None, REMOUNT | BIND | READ_ONLY)
    code = os.waitstatus_to_exitcode(os.waitpid(fork(lambda: command(request)), 0)[1])
    left = sorted(set(files(home)) - set(before))
    said = [(output / name).read_text() for name in ("stdout", "stderr")]
    codes, more = [], []
    if disk.get("left") is not None:
        filler.unlink()
        for arguments in disk["then"]:
            process = fork(lambda arguments=arguments: command({**request, "argv": arguments}))
            codes.append(os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]))
            more.append((output / "stderr").read_text())
    (output / "result.json").write_text(
        json.dumps({"code": code, "said": said, "left": left, "then": codes, "more": more})
    )


def own_disk(disk: dict[str, Any]) -> Path:
    """Mount a small disk over a directory, for this process and its forks only, and copy the workspace there."""
    uid, gid = os.getuid(), os.getgid()
    system(libc().unshare(NEW_NAMESPACE if uid == 0 else NEW_NAMESPACE | NEW_USER))
    if uid:
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"0 {uid} 1")
        Path("/proc/self/gid_map").write_text(f"0 {gid} 1")
    mount("none", "/", None, PRIVATE)
    place = Path(disk["place"])
    mount("tmpfs", str(place), "tmpfs", 0, f"size={disk['size']}")
    subprocess.run(["cp", "-RP", disk["template"], place / "home"], check=True)
    return place / "home"


def fill(filler: Path, left: int) -> None:
    """Leave so many bytes on a disk."""
    with filler.open("wb") as file:
        free = shutil.disk_usage(filler.parent).free
        while (most := min(1 << 20, free - left)) > 0:
            file.write(b"\0" * most)
            file.flush()
            free = shutil.disk_usage(filler.parent).free


def files(home: Path) -> list[str]:
    """Paths of all files and directories of a workspace."""
    return [str(path.relative_to(home)) for path in home.rglob("*")]


def mount(source: str, target: str, kind: str | None, flags: int, options: str = "") -> None:
    """Call mount(2)."""
    texts = [None if text is None else text.encode() for text in (source, target, kind)]
    system(libc().mount(*texts, ctypes.c_ulong(flags), options.encode() or None))


def libc() -> Any:
    """The C library."""
    return ctypes.CDLL(None, use_errno=True)


def system(result: int) -> None:
    """Raise what a system call has failed with."""
    if result:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


if __name__ == "__main__":
    main()
