"""Launch the processes of a benchmark and wait for what they found."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from rf_bench.train.worker import WorkPlan
from rf_platform.errors import RunError
from rf_training.distributed.launcher import free_port, rank_environment

TAIL = 15
"""Lines of a failed process's messages that are shown."""


def launch(plan: WorkPlan, processes: int) -> list[dict[str, Any]]:
    """Work a plan off in fresh processes, and return what each of them found, by rank.

    Raises:
        RunError: one of them failed; the message ends with what it said.
    """
    with tempfile.TemporaryDirectory(prefix="rf-bench-") as scratch:
        asked, found = Path(scratch, "plan.json"), Path(scratch, "result.json")
        asked.write_text(plan.to_json())
        command = [sys.executable, "-m", "rf_bench.train.worker", str(asked), str(found)]
        port = free_port()
        logs = [Path(scratch, f"rank{rank}.log") for rank in range(processes)]
        started = []
        try:
            for rank, log in enumerate(logs):
                environment = {**os.environ, **rank_environment(rank, processes, port)}
                environment["OMP_NUM_THREADS"] = str(plan.threads)
                environment["PYTHONPATH"] = os.pathsep.join(p for p in sys.path if p)
                with log.open("w") as output:
                    started.append(subprocess.Popen(command, env=environment, stdout=output, stderr=subprocess.STDOUT))
            codes = [process.wait() for process in started]
        finally:
            for process in started:
                process.kill()
                process.wait()
        for rank, code in enumerate(codes):
            if code:
                said = "\n".join(logs[rank].read_text().splitlines()[-TAIL:])
                raise RunError(f"process {rank} of {processes} ended with {code}:\n{said}")
        ranks: list[dict[str, Any]] = json.loads(found.read_text())["ranks"]
        return ranks
