"""The load generators, what is read off servers, and the figures made of it, on servers whose behaviour is known."""

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import numpy as np
import psutil
import pytest

from rf_bench.serve import native_programs, overload, processes, rounds
from rf_bench.serve.benchmark import echo, parse_rates, requests_of
from rf_bench.serve.charts import latency_chart, stages_chart
from rf_bench.serve.load import Generator, Load, LoadPlan, percentiles
from rf_bench.serve.native_programs import NativeGenerator, Tools, compiled
from rf_bench.serve.overload import Overload
from rf_bench.serve.processes import Scheduling, Usage
from rf_bench.serve.python_generator import python_load, run_on_time
from rf_bench.serve.rounds import ECHO, FLOOR, Rounds, Turn, find_peak, run_rounds
from rf_bench.serve.soak import Soak
from rf_bench.serve.stages import Told, told_by
from rf_bench.serve.stretch import Stretch, Target, stretch
from rf_bench.serve.tables import tables, verdict
from rf_platform.errors import RunError, UsageError
from rf_protos.v1.retrieval_pb2 import RetrieveRequest
from rf_serving.server.metrics import ServerMetrics, exposed

METHOD = "/test.Test/Call"


@pytest.fixture(scope="module")
def tools(tmp_path_factory: pytest.TempPathFactory) -> Tools:
    found = Tools.found(tmp_path_factory.mktemp("programs"))
    if found.echo is None:
        pytest.skip(found.name)
    return found


@pytest.fixture(params=["native", "python"])
def generator(request: pytest.FixtureRequest) -> Generator:
    if request.param == "python":
        return python_load
    found: Tools = request.getfixturevalue("tools")
    return found.generator


@asynccontextmanager
async def served(answer: Any) -> AsyncIterator[str]:
    server = grpc.aio.server()
    handler = grpc.unary_unary_rpc_method_handler(answer)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Test", {"Call": handler}),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    yield f"127.0.0.1:{port}"
    await server.stop(None)


def loaded(generator: Generator, answer: Any, rate: float, seconds: float, **plan: Any) -> Load:
    async def run() -> Load:
        async with served(answer) as address:
            return await generator(
                LoadPlan(
                    address=address,
                    method=METHOD,
                    rate=rate,
                    seconds=seconds,
                    **{"requests": [b"a", b"bb"], **plan},
                )
            )

    return run_on_time(run())


def test_calls_are_due_whether_or_not_earlier_ones_were_answered(generator: Generator) -> None:
    open_calls, most = 0, 0
    got: list[bytes] = []

    async def slow(request: bytes, context: Any) -> bytes:
        nonlocal open_calls, most
        got.append(request)
        open_calls += 1
        most = max(most, open_calls)
        await asyncio.sleep(0.3)
        open_calls -= 1
        return request

    load = loaded(generator, slow, rate=100, seconds=0.5)
    assert load.statuses == {"OK": 50}
    assert most > 10
    assert load.percentile(50) >= 300
    assert load.seconds >= 0.5
    assert load.in_time == load.ok == load.calls == 50
    assert (got.count(b"a"), got.count(b"bb")) == (25, 25)
    assert load.reply_bytes == 1.5
    assert set(load.late_ms) == set(load.milliseconds["OK"]) == {"p50", "p90", "p99", "p99.9", "max"}


def test_latencies_count_from_when_calls_were_due(generator: Generator) -> None:
    calls = 0

    async def stop_the_generator(request: bytes, context: Any) -> bytes:
        nonlocal calls
        calls += 1
        if calls == 1:
            native = psutil.Process().children()
            for process in native:
                process.suspend()
            time.sleep(0.6)  # blocks the generator in Python, which shares the event loop
            for process in native:
                process.resume()
        return request

    load = loaded(generator, stop_the_generator, rate=100, seconds=0.4)
    assert load.statuses == {"OK": 40}
    assert load.late_ms["p50"] > 200
    assert load.milliseconds["OK"]["p50"] >= load.late_ms["p50"]


def test_failures_are_counted_by_status_with_latencies_of_their_own(generator: Generator) -> None:
    calls = 0

    async def moody(request: bytes, context: Any) -> bytes:
        nonlocal calls
        calls += 1
        if calls % 4 == 0:
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "busy")
        if calls % 4 == 1:
            await asyncio.sleep(20)
        return request

    load = loaded(generator, moody, rate=100, seconds=0.4, timeout=1.5)
    assert load.statuses == {"OK": 20, "RESOURCE_EXHAUSTED": 10, "DEADLINE_EXCEEDED": 10}
    assert load.milliseconds["DEADLINE_EXCEEDED"]["p50"] >= 1500 > load.milliseconds["OK"]["p50"]
    assert load.in_time == 20


def test_deadlines_are_told_to_the_server(generator: Generator) -> None:
    left: list[float] = []

    async def tell(request: bytes, context: Any) -> bytes:
        left.append(context.time_remaining())
        return request

    loaded(generator, tell, rate=20, seconds=0.1, timeout=40)
    assert all(30 < each < 41 for each in left)


def test_beyond_the_most_open_calls_none_is_sent(generator: Generator) -> None:
    calls = 0

    async def stuck(request: bytes, context: Any) -> bytes:
        nonlocal calls
        calls += 1
        await asyncio.sleep(20)
        return request

    load = loaded(generator, stuck, rate=100, seconds=0.3, timeout=2, max_open=7)
    assert load.statuses == {"DEADLINE_EXCEEDED": 7, "NOT_SENT": 23}
    assert calls == 7
    assert load.sent_rate == pytest.approx(7 / load.seconds)


def test_messages_larger_than_frames_and_windows_go_both_ways(generator: Generator) -> None:
    async def back(request: bytes, context: Any) -> bytes:
        return request

    load = loaded(generator, back, rate=20, seconds=0.3, requests=[bytes(300_000)], timeout=30)
    assert load.statuses == {"OK": 6}
    assert load.reply_bytes == 300_000


def test_connections_that_are_lost_end_their_calls(tools: Tools) -> None:
    calls = 0

    async def run() -> Load:
        all_there = asyncio.Event()

        async def slow(request: bytes, context: Any) -> bytes:
            nonlocal calls
            calls += 1
            if calls == 10:
                all_there.set()
            await asyncio.sleep(20)
            return request

        async with served(slow) as address:
            plan = LoadPlan(address=address, method=METHOD, requests=[b""], rate=1000, seconds=0.01, timeout=30)
            load = asyncio.ensure_future(tools.generator(plan))
            await all_there.wait()
        return await load

    load = run_on_time(run())
    assert load.calls == 10
    assert set(load.statuses) <= {"UNAVAILABLE", "CANCELLED"}


def test_a_server_that_is_not_there_is_told(tools: Tools) -> None:
    with pytest.raises(RunError, match=r"127\.0\.0\.1:1: Connection refused"):
        asyncio.run(tools.generator(LoadPlan(address="127.0.0.1:1", requests=[b""], rate=10, seconds=0.1)))


def test_programs_are_compiled_once(tools: Tools) -> None:
    assert isinstance(tools.generator, NativeGenerator)
    assert tools.name.startswith("native")
    before = tools.generator.program.stat().st_mtime_ns
    assert compiled("generator", tools.generator.program.parent) == tools.generator.program
    assert tools.generator.program.stat().st_mtime_ns == before


def test_without_a_compiler_the_generator_is_in_python(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert Tools.found(tmp_path) == Tools(python_load, "Python (there is no gcc)", None)


def test_without_headers_the_generator_is_in_python(
    tools: Tools, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "generator.c").write_text("#include <nghttp2/absent.h>\n")
    monkeypatch.setattr(native_programs, "_SOURCES", tmp_path)
    found = Tools.found(tmp_path / "programs")
    assert found.generator is python_load
    assert found.name == "Python (gcc: nghttp2/absent.h: No such file or directory)"
    assert list((tmp_path / "programs").iterdir()) == []


def made(rate: float, p50: float = 1.0, failed: int = 0, cpu_us: float = 500.0, **fields: Any) -> Stretch:
    times = np.concatenate([np.full(89, p50), np.full(9, p50 * 2), np.full(2, p50 * 8)]).tolist()
    load = Load(
        rate=rate,
        seconds=(100 + failed) / rate,
        statuses={"OK": 100} | ({"RESOURCE_EXHAUSTED": failed} if failed else {}),
        in_time=100,
        milliseconds={"OK": percentiles(times)},
        late_ms=percentiles([0.0]),
        reply_bytes=1,
        generator_us=30,
    )
    cost = {"cpu_seconds": cpu_us / 1e4, "wait_seconds": 0.02, "pressure": 0.5, "stages": {"encode": 1.0}}
    return Stretch(load=load, **{**cost, **fields})


def known(monkeypatch: pytest.MonkeyPatch, answer: Any) -> list[tuple[str, float]]:
    """Let stretches be what a function of address and rate returns; returns what is asked for."""
    asked = []

    async def stretched(target: Target, rate: float, seconds: float, seed: int = 0, timeout: float = 5.0) -> Stretch:
        asked.append((target.address, rate))
        found: Stretch = answer(target.address, rate)
        return found

    monkeypatch.setattr(rounds, "stretch", stretched)
    monkeypatch.setattr(overload, "stretch", stretched)
    return asked


def target(address: str = "") -> Target:
    return Target(address=address, pid=os.getpid(), generator=python_load, requests=[b""])


def test_a_server_falls_behind_when_calls_fail_or_wait() -> None:
    assert made(100, 7).keeps_up
    assert made(100, 75).keeps_up
    assert not made(100, 150).keeps_up
    assert made(100, failed=5).keeps_up
    assert not made(100, failed=20).keeps_up
    assert not made(100, degraded=11).keeps_up


def test_what_is_late_or_degraded_is_not_good() -> None:
    each = made(100)
    assert replace(each, degraded=10).good_rate == pytest.approx(90)
    assert replace(each, load=replace(each.load, in_time=40)).good_rate == pytest.approx(40)
    assert replace(each, load=replace(each.load, in_time=5), degraded=10).good_rate == 0


def test_servers_take_turns_and_latencies_count_where_the_floor_was_quick(monkeypatch: pytest.MonkeyPatch) -> None:
    floor = iter([0.4, 0.6, 0.4, 0.4, 0.4, 0.6])  # p90 is twice that

    def answer(name: str, rate: float) -> Stretch:
        return made(rate, next(floor) if name == FLOOR else 3.0, failed=500 if rate > 100 else 0)

    asked = known(monkeypatch, answer)
    targets = {name: target(name) for name in (ECHO, "own", FLOOR)}
    found = asyncio.run(run_rounds(targets, [50, 100], 3, 1.0))
    assert asked[:6] == [(name, rate) for rate in (50, 100) for name in (FLOOR, ECHO, "own")]
    own = [turn for turn in found.turns if turn.server == "own"]
    assert [(turn.round, turn.stretch.load.rate) for turn in own] == [(r, rate) for r in range(3) for rate in (50, 100)]
    assert [turn.void for turn in own] == [False, True, False, False, False, True]
    assert [each.server for each in found.overloads] == ["own"] * 3
    assert found.peaks == {"own": pytest.approx(100)}
    assert {(each.server, each.rate): each.valid for each in found.medians}["own", 100.0] == 1


def test_without_the_floor_no_turn_is_void(monkeypatch: pytest.MonkeyPatch) -> None:
    known(monkeypatch, lambda name, rate: made(rate, 50.0, failed=500))
    found = asyncio.run(run_rounds({"own": target("own")}, [50], 1, 1.0))
    assert [turn.void for turn in found.turns] == [False]


def test_medians_are_over_valid_rounds_and_costs_over_all() -> None:
    turns = [
        Turn(server="own", round=number, stretch=made(50, p50, cpu_us=cpu), void=void)
        for number, (p50, cpu, void) in enumerate([(1, 900, False), (9, 500, True), (3, 700, False), (8, 100, True)])
    ]
    (found,) = Rounds(turns=turns).medians
    assert found.milliseconds["p50"] == 2
    assert found.milliseconds["p90"] == pytest.approx(4)
    assert found.cpu_us == pytest.approx(600)
    assert found.wait_us == pytest.approx(200)
    assert (found.valid, found.rounds, found.pressure) == (2, 4, 0.5)
    (found,) = Rounds(turns=[replace(turn, void=True) for turn in turns]).medians
    assert found.milliseconds == {}
    assert found.cpu_us == pytest.approx(600)


def test_the_search_for_the_peak_ends_when_a_server_falls_behind_twice_in_a_row(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    disturbed = [125.0]
    asked = known(
        monkeypatch,
        lambda name, rate: made(rate, 1 if rate < 300 else 200, failed=80 if rate in disturbed or rate > 300 else 0),
    )
    peak = asyncio.run(find_peak(target(), 100, 1.0))
    assert peak.load.rate == pytest.approx(100 * 1.25**4)
    assert [rate for _, rate in asked] == pytest.approx([100 * 1.25**i for i in range(7)])


def test_overload_is_told_against_the_peak() -> None:
    peak = made(1000, cpu_us=400)
    overloaded = made(3000, failed=300, cpu_us=640)
    each = Overload(server="own", round=0, peak=peak, overloaded=overloaded, memory=(100, 101))
    assert each.factor == pytest.approx(3)
    assert each.goodput_share == pytest.approx(0.75)
    assert each.rest == {"RESOURCE_EXHAUSTED": 300}
    assert each.refusal_us == pytest.approx(80)  # (100 * 640 - 100 * 400) / 300
    assert replace(each, overloaded=peak).refusal_us is None


def test_the_report_shows_every_round_and_the_targets() -> None:
    turns = [
        Turn(server=name, round=number, stretch=made(rate, cpu_us=700), void=void)
        for number, void in enumerate([False, True])
        for rate in (500.0, 1000.0)
        for name in (FLOOR, "own")
    ]
    over = Overload(server="own", round=0, peak=made(1900), overloaded=made(5700, failed=50), memory=(100, 101))
    found = Rounds(turns=turns, overloads=[over])
    medians, every, overloads = tables(found)
    assert [row[:3] for row in medians.rows] == [[n, r, "700"] for r in ("500", "1000") for n in (FLOOR, "own")]
    assert len(every.rows) == 8
    assert [row[every.heads.index("")] for row in every.rows] == [""] * 4 + ["void"] * 4
    assert overloads.rows[0][-1] == "RESOURCE_EXHAUSTED 50"
    p90 = "p90 2.0 ms there (at most 7 ms)"
    assert verdict(found, "own").removeprefix("own: ").split("; ") == [
        f"met: 700 µs of CPU a call at 500/s (at most 800), {p90}, {p90}, goodput 200% under overload (at least 90%)",
        "missed: 700 µs of CPU a call at 1000/s (at most 650), peak 1900/s (at least 2000)",
    ]
    void = Rounds(turns=[replace(turn, void=True) for turn in turns])
    assert "missed: p90 void in all rounds there" in verdict(void, "own")
    assert ">$" not in latency_chart(found).svg  # formulas are not set
    assert latency_chart(void).svg
    assert [chart.name for chart in stages_chart(found)] == ["stages"]


@pytest.mark.parametrize("text", ["", "a", "0", "5,-1", "inf", "nan"])
def test_rates_are_above_zero(text: str) -> None:
    with pytest.raises(UsageError, match="--rates="):
        parse_rates(text)


def test_rates_rise() -> None:
    assert parse_rates("500, 150,150") == (150, 500)


def test_requests_are_of_every_user_once() -> None:
    users = [str(number) for number in range(100)]
    asked = [RetrieveRequest.FromString(each).user_id for each in requests_of(users, 20)]
    assert asked != users
    assert sorted(asked) == sorted(users)


def test_stages_are_read_off_the_metrics() -> None:
    metrics = ServerMetrics()
    with exposed(metrics.registry, "127.0.0.1", 0) as port:
        for each in (0.001, 0.003):
            metrics.observe_stage("encode", each)
        metrics.observe_call("Retrieve", "OK", 0.1, cold=False, degraded=True)
        told = told_by(f"http://127.0.0.1:{port}/metrics")
    seconds, count = told.stages["encode"]
    assert told.degraded == 1
    assert seconds == pytest.approx(0.004)
    assert count == 2
    assert told_by(None) == Told({}, 0.0)


def test_usage_counts_memory_and_files() -> None:
    before = Usage.of(os.getpid())
    block = np.ones(64_000_000, np.uint8)  # more than malloc takes from memory that was freed
    with open(os.devnull):
        after = Usage.of(os.getpid())
    assert after.open_files == before.open_files + 1
    assert after.proportional_bytes - before.proportional_bytes > 50_000_000
    assert block[0] == 1


def test_scheduling_adds_up_threads_and_tells_the_pressure(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for thread, text in {"1": "3000000000 500000000 9\n", "2": "1000000000 250000000 4\n", "3": ""}.items():
        path = tmp_path / str(os.getpid()) / "task" / thread / "schedstat"
        path.parent.mkdir(parents=True)
        path.write_text(text)
    (tmp_path / "pressure").mkdir()
    (tmp_path / "pressure" / "cpu").write_text("some avg10=1.0 avg60=2.0 avg300=3.0 total=7000000\nfull total=1\n")
    monkeypatch.setattr(processes, "PROC", tmp_path)
    found = Scheduling.of(os.getpid())
    assert (found.cpu_seconds, found.wait_seconds, found.pressure_seconds) == (4.0, 0.75, 7.0)
    monkeypatch.setattr(processes, "PROC", tmp_path / "none")
    found = Scheduling.of(os.getpid())
    assert found.cpu_seconds > 0  # by the clock's ticks
    assert found.wait_seconds is found.pressure_seconds is None


def test_scheduling_counts_the_work_of_children() -> None:
    before = Scheduling.of(os.getpid())
    code = "import sys\nfor _ in range(10**6): pass\nprint(flush=True)\nsys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stdin is not None
        child.stdout.readline()
        alone, both = Scheduling.of(child.pid), Scheduling.of(os.getpid())
        child.stdin.close()
    assert both.cpu_seconds - before.cpu_seconds >= alone.cpu_seconds > 0


@pytest.mark.parametrize("name", [FLOOR, ECHO])
def test_echo_servers_are_loaded_as_processes_of_their_own(name: str, generator: Generator, tools: Tools) -> None:
    command = [str(tools.echo), "40000"] if name == FLOOR else [sys.executable, "-m", "rf_bench.serve.echo", "40000"]
    with echo(command, replace(target(), generator=generator)) as echoing:
        found = run_on_time(stretch(echoing, 100, 0.5))
    assert found.load.statuses == {"OK": 50}
    assert found.load.reply_bytes == 40_000
    assert found.cpu_us > 0
    assert found.stages == {}


@pytest.mark.parametrize(
    ("memory", "growth"),
    [
        ([50, 90, 100, 160, 160, 100, 101, 160], 0.01),  # a second bundle is loaded in every other moment
        ([50, 90, 100, 160, 160, 100, 120, 160], 0.2),
        ([100, 90], 0.0),
        ([100], 0.0),
    ],
)
def test_growth_is_of_the_memory_that_is_always_there(memory: list[int], growth: float) -> None:
    soak = Soak(
        minutes=1, rate=1, statuses={}, changes={}, errors=[], p99_ms=[], memory=memory, open_files=[0] * len(memory)
    )
    assert soak.growth == pytest.approx(growth)
