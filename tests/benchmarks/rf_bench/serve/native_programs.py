"""Programs in C: the load generator and the bare echo server, compiled by the system's gcc when they are first used."""

import asyncio
import json
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from rf_bench.serve.load import CONNECTIONS, Generator, Load, LoadPlan
from rf_bench.serve.python_generator import python_load
from rf_platform.errors import RunError
from rf_platform.files import new_file

_SOURCES = Path(__file__).parent / "native"
_LIBRARIES = ("-lnghttp2", "-lm")


def compiled(name: str, cache: Path) -> Path:
    """Return a program, compiled if the directory does not have it from these sources yet.

    Args:
        name: of its source file, without the suffix.
        cache: directory of compiled programs.

    Raises:
        RunError: gcc or the headers of nghttp2 (Debian: libnghttp2-dev) are not there.
    """
    sources = sorted([*_SOURCES.glob("*.c"), *_SOURCES.glob("*.h")])
    program = cache / f"{name}-{sha256(b''.join(each.read_bytes() for each in sources)).hexdigest()[:16]}"
    if program.exists():
        return program
    if shutil.which("gcc") is None:
        raise RunError("there is no gcc")
    with new_file(program, durable=False) as file:
        command = ["gcc", "-O2", str(_SOURCES / f"{name}.c"), "-o", str(file), *_LIBRARIES]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            error = next((line for line in done.stderr.splitlines() if "error" in line), done.stderr.strip())
            raise RunError(f"gcc: {error.partition('error: ')[2] or error}")
        file.chmod(0o755)
    return program


@dataclass(frozen=True)
class Tools:
    """Load generator of a run, and the floor that it is compared with."""

    generator: Generator
    name: str
    """Of the generator, and why it is not the native one."""
    echo: Path | None
    """Bare echo server in C."""

    @classmethod
    def found(cls, cache: Path) -> "Tools":
        """Return the native programs, or the generator in Python where they cannot be compiled."""
        try:
            program, echo = compiled("generator", cache), compiled("echo", cache)
        except RunError as error:
            return cls(python_load, f"Python ({error})", None)
        return cls(NativeGenerator(program), "native (C, nghttp2)", echo)


@dataclass(frozen=True)
class NativeGenerator:
    """Load generator in C, a process of its own."""

    program: Path

    async def __call__(self, plan: LoadPlan) -> Load:
        """Send the calls of a plan.

        Raises:
            RunError: no connection takes calls.
        """
        host, _, port = plan.address.rpartition(":")
        with tempfile.NamedTemporaryFile() as file:
            file.write(b"".join(b"\0" + len(each).to_bytes(4, "big") + each for each in plan.requests))
            file.flush()
            options = {
                "host": host.strip("[]"),
                "port": port,
                "method": plan.method,
                "requests": file.name,
                "rate": plan.rate,
                "seconds": plan.seconds,
                "seed": plan.seed,
                "connections": CONNECTIONS,
                "timeout-ms": plan.timeout * 1000,
                "max-open": plan.max_open,
            }
            arguments = [f"--{name}={value}" for name, value in options.items()]
            pipe = asyncio.subprocess.PIPE
            process = await asyncio.create_subprocess_exec(self.program, *arguments, stdout=pipe, stderr=pipe)
            try:
                printed, errors = await process.communicate()
            finally:
                if process.returncode is None:
                    process.kill()
        if process.returncode:
            raise RunError(f"the load generator failed: {errors.decode().strip()}")
        told = json.loads(printed)
        statuses = {status: each.pop("calls") for status, each in told["statuses"].items()}
        return Load(
            rate=plan.rate,
            seconds=told["seconds"],
            statuses=statuses,
            in_time=told["in_time"],
            milliseconds=told["statuses"],
            late_ms=told["late_ms"],
            reply_bytes=told["reply_bytes"],
            generator_us=told["cpu_us"],
        )
