"""Checks of the GPU path, a line each: ``python infra/gpu_check.py [--home WORKSPACE] [--items N] [LINE ...]``.

Every line runs in a process of its own, within its time, and prints ``PASS``, ``FAIL`` or ``SKIP`` with what was found, so that a
crash of one ends no other. What a line needs and does not find is a SKIP that names it. The exit status is 1 with a FAIL, 2 where
every line was skipped.
"""

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

NO_DEVICE = "no CUDA device"
WIDTH, QUERIES, RESULTS = 64, 500, 100
RECALL_LOST = 0.01
"""Recall@100 that codes of a device may lose to the CPU's."""
CLOSE, CLOSE_BF16 = 1e-3, 5e-2
"""Largest relative difference of a loss and of gradients, in float32 and in bfloat16."""


class Skip(Exception):  # noqa: N818
    """Lack of a device or library that a line needs."""


@dataclass(frozen=True)
class Line:
    """A check."""

    run: Callable[[argparse.Namespace], str]
    """Returns what was found; raises where it is not right."""
    seconds: float
    """Most that it may take."""


def need(name: str) -> Any:
    """Import a module.

    Raises:
        Skip: it is not installed, or does not load.
    """
    try:
        return import_module(name)
    except (ImportError, OSError) as error:
        raise Skip(f"cannot import {name} ({str(error).splitlines()[0]}); carry its wheel") from error


def cuda() -> Any:
    """Return torch, which sees a device.

    Raises:
        Skip: it sees none.
    """
    torch = need("torch")
    if not torch.cuda.is_available():
        raise Skip(NO_DEVICE)
    return torch


def device_search() -> SimpleNamespace:
    """Return the indexes and FAISS, which sees a device.

    Raises:
        Skip: it sees none, or FAISS is built for the CPU.
    """
    cuda()
    faiss, index = need("faiss"), need("rf_serving.index")
    device = need("rf_serving.index.device")
    if not device.device_count():
        raise Skip("FAISS has no CUDA device: carry the wheel of faiss-gpu, in parts")
    return SimpleNamespace(faiss=faiss, index=index)


def rows(items: int, seed: int = 0) -> Any:
    """Return unit rows around a thousand centres, [N, 64]."""
    import numpy as np

    draw = np.random.default_rng(seed)
    centres = np.random.default_rng(99).standard_normal((1000, WIDTH), np.float32)
    found = centres[draw.integers(0, len(centres), items)]
    found += 0.7 * draw.standard_normal((items, WIDTH), np.float32)
    return found / np.linalg.norm(found, axis=1, keepdims=True)


def milliseconds(search: Callable[[Any], Any], queries: Any) -> float:
    """Return the median time of single queries."""
    times = []
    for query in queries[:100, None]:
        begin = time.perf_counter()
        search(query)
        times.append(time.perf_counter() - begin)
    return 1000 * sorted(times)[len(times) // 2]


def compared(kind: str, arguments: argparse.Namespace, lost: float) -> str:
    """Compare an index on the device with the same on the CPU, in recall@100 and time."""
    indexes = device_search().index
    vectors, queries = rows(arguments.items), rows(QUERIES, seed=1)
    index = indexes.INDEX_KINDS[kind].build(vectors)
    if not index.exact:
        indexes.tune(index, vectors, rows(QUERIES, seed=2), recall=0.95, numbers=(RESULTS,))
    single = {}
    recall = {}
    for where in ("CPU", "device"):
        if where == "device":
            index.to_device(0)
            assert index.on_device
        recall[where] = indexes.recall_against_exact(index, vectors, queries, [RESULTS])[RESULTS]
        single[where] = milliseconds(lambda query: index.search(query, RESULTS), queries)
    most = index.search(queries[:2], 2048).rows.shape[1], index.search(queries[:2], 2049).rows.shape[1]
    assert most == (2048, 2049), f"at the device's limit of results: {most}"
    told = ", ".join(f"{where} recall@100 {recall[where]:.4f}, {single[where]:.2f} ms a query" for where in recall)
    assert recall["device"] >= recall["CPU"] - lost, told
    return f"{arguments.items:,} x {WIDTH}: {told}"


def faiss_exact(arguments: argparse.Namespace) -> str:
    """Compare the exact index."""
    return compared("exact", arguments, 0.0005)


def faiss_ivf_pq(arguments: argparse.Namespace) -> str:
    """Compare the IVF-PQ index."""
    return compared("ivf-pq", arguments, RECALL_LOST)


def cagra(arguments: argparse.Namespace) -> str:
    """Build and search a CAGRA graph, by FAISS's wheel or by cuVS's."""
    cuda()
    import numpy as np

    vectors, queries = rows(arguments.items), rows(QUERIES, seed=1)
    truth = np.argpartition(-(queries[:50] @ vectors.T), RESULTS, axis=1)[:, :RESULTS]
    faiss = need("faiss")
    if hasattr(faiss, "GpuIndexCagra") and hasattr(faiss, "StandardGpuResources"):
        graph = faiss.GpuIndexCagra(faiss.StandardGpuResources(), WIDTH, faiss.METRIC_INNER_PRODUCT)
        graph.train(vectors)

        def search(some: Any) -> Any:
            return graph.search(some, RESULTS)[1]

        by = "faiss"
    else:
        module = need("cuvs.neighbors.cagra")
        cupy = need("cupy")
        made = module.build(module.IndexParams(metric="inner_product"), cupy.asarray(vectors))

        def search(some: Any) -> Any:
            found = module.search(module.SearchParams(itopk_size=256), made, cupy.asarray(some), RESULTS)[1]
            return cupy.asnumpy(cupy.asarray(found))

        by = "cuvs"
    recall = float(np.mean([np.isin(t, f).mean() for t, f in zip(truth, search(queries[:50]), strict=True)]))
    assert recall > 0.9, f"recall@100 {recall:.4f}"
    return f"{by}: recall@100 {recall:.4f}, {milliseconds(search, queries):.2f} ms a query"


def step(arguments: argparse.Namespace, precision: str) -> dict[str, tuple[float, Any]]:
    """Return loss and gradients of one batch of the newest dataset, without dropout and noise, by device."""
    torch = cuda()
    need("torchrec")
    settings, dataset = need("rf_platform.settings"), need("rf_platform.dataset")
    config, batches = need("rf_training.config"), need("rf_training.loading.batches")
    model_module, training = need("rf_training.model.retrievalformer"), need("rf_training.step")
    directory = settings.get_settings().workspace.datasets
    found = sorted(directory.glob("*/manifest.json")) if directory.is_dir() else []
    if not found:
        raise Skip(f"no dataset under {directory}: carry a workspace with one, and name it by --home")
    data, recipe = dataset.Dataset.open(found[-1].parent), config.Recipe(name="check")
    train = replace(recipe.train, precision=precision)
    torch.manual_seed(0)
    model = model_module.RetrievalFormer(recipe.model, data.encoder).eval()
    batch = next(iter(batches.BatchLoader(data, recipe).epoch(0)))
    results = {}
    for name in ("cpu", "cuda"):
        where = torch.device(name)
        model.to(where).zero_grad()
        loss = training.batch_loss(model, batch.to(where), train).loss
        loss.backward()
        gradients = [p.grad.detach().float().cpu().reshape(-1) for p in model.parameters() if p.grad is not None]
        results[name] = (float(loss), torch.cat(gradients))
    return results


def differences(results: dict[str, tuple[float, Any]], most: float) -> str:
    """Compare loss and gradients of the device with those of the CPU."""
    (loss, gradient), (other_loss, other) = results["cpu"], results["cuda"]
    apart = float((other - gradient).norm() / gradient.norm())
    told = f"loss {loss:.6f} on the CPU and {other_loss:.6f} on the device, gradients {apart:.1e} apart"
    assert abs(other_loss - loss) <= most * abs(loss), told
    assert apart <= most, told
    return told


def training_step(arguments: argparse.Namespace) -> str:
    """Compare a training step in float32."""
    return differences(step(arguments, "float32"), CLOSE)


def bf16(arguments: argparse.Namespace) -> str:
    """Compare a training step in bfloat16."""
    torch = cuda()
    assert torch.cuda.is_bf16_supported(including_emulation=False), "the device does not multiply bfloat16"
    return differences(step(arguments, "bfloat16"), CLOSE_BF16)


def nccl(arguments: argparse.Namespace) -> str:
    """Sum and gather in a world of one process."""
    torch = cuda()
    distributed = torch.distributed
    if not distributed.is_nccl_available():
        raise Skip("torch has no NCCL")
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29512", "RANK": "0", "WORLD_SIZE": "1"}
    distributed.init_process_group("nccl")
    try:
        value = torch.arange(4.0, device="cuda")
        distributed.all_reduce(value)
        parts = [torch.empty_like(value)]
        distributed.all_gather(parts, value)
        torch.cuda.synchronize()
        assert parts[0].tolist() == [0.0, 1.0, 2.0, 3.0]
    finally:
        distributed.destroy_process_group()
    return "all_reduce and all_gather of one process"


def fused_adamw(arguments: argparse.Namespace) -> str:
    """Compare ten steps of torch's fused AdamW, which updates what is not sharded."""
    torch = cuda()
    weights = {}
    for name in ("cpu", "cuda"):
        torch.manual_seed(0)
        weight = torch.nn.Parameter(torch.randn(300, 64).to(name))
        optimizer = torch.optim.AdamW([weight], lr=1e-3, betas=(0.9, 0.98), weight_decay=0.05, fused=True)
        target = torch.randn(300, 64).to(name)
        for _ in range(10):
            optimizer.zero_grad()
            ((weight - target) ** 2).sum().backward()
            optimizer.step()
        weights[name] = weight.detach().cpu()
    apart = float((weights["cpu"] - weights["cuda"]).abs().max())
    assert apart < 1e-5, f"weights {apart:.1e} apart"
    return f"weights {apart:.1e} apart after 10 steps"


def fused_table_adam(arguments: argparse.Namespace) -> str:
    """Update rows of a table by fbgemm's Adam, which sharded tables have on devices only."""
    torch = cuda()
    need("fbgemm_gpu")
    ops = need("fbgemm_gpu.split_table_batched_embeddings_ops_training")
    embedding = need("fbgemm_gpu.split_embedding_configs")
    common = need("fbgemm_gpu.split_table_batched_embeddings_ops_common")
    try:
        table = ops.SplitTableBatchedEmbeddingBagsCodegen(
            [(100, 64, common.EmbeddingLocation.DEVICE, ops.ComputeDevice.CUDA)],
            optimizer=embedding.EmbOptimType.ADAM,
            learning_rate=0.1,
        )
        before = table.split_embedding_weights()[0].detach().clone()
        output = table(torch.tensor([1, 5], device="cuda"), torch.tensor([0, 2], device="cuda"))
        output.sum().backward()
    except (RuntimeError, NotImplementedError) as error:
        if "CUDA" in str(error) or "not implemented" in str(error).lower() or "no kernel" in str(error).lower():
            raise Skip(f"fbgemm is a build for CPUs ({str(error).splitlines()[0]})") from error
        raise
    changed = (table.split_embedding_weights()[0] != before).any(dim=1).nonzero().flatten().tolist()
    assert changed == [1, 5], f"rows {changed} changed, not 1 and 5"
    return "the rows of a step are updated, and no others"


def rf(*words: str, **variables: str) -> str:
    """Run a command of the platform, and return what it says.

    Raises:
        Skip: its libraries are not here.
    """
    need("rf_platform.cli")
    ended = subprocess.run(
        [sys.executable, "-m", "rf_platform.cli", *words],
        env=os.environ | variables,
        capture_output=True,
        text=True,
        check=False,
    )
    if "ModuleNotFoundError" in ended.stderr or "No module named" in ended.stderr:
        raise Skip(f"rf {words[0]}: {ended.stderr.strip().splitlines()[-1]}; carry its wheel")
    assert ended.returncode == 0, f"rf {' '.join(words)}: {(ended.stderr or ended.stdout).strip()[-600:]}"
    return ended.stdout


def bench_train(arguments: argparse.Namespace) -> str:
    """Run the benchmark of training on the device."""
    cuda()
    need("rf_bench")
    need("duckdb")
    small = ["--rounds=1", "--steps=5", "--users=2000", "--events=20000", "--items=1000"]
    rf("bench", "train", *small, "--set=train.device=cuda", "--output=build/gpu/train")
    return "report in build/gpu/train"


def bench_latency(arguments: argparse.Namespace) -> str:
    """Run the benchmark of searching on the device."""
    device_search()
    need("rf_bench")
    rf("bench", "latency", "--sizes=100k", "--kinds=ivf-pq", "--queries=200", "--rounds=3", "--device=cuda",
       "--output=build/gpu/latency")  # fmt: skip
    return "report in build/gpu/latency"


@contextmanager
def served(port: int) -> Any:
    """Serve the workspace's bundle with its index on the device."""
    server = subprocess.Popen(
        [sys.executable, "-m", "rf_platform.cli", "serve", f"--port={port}"],
        env=os.environ | {"RF_INDEX_DEVICE": "cuda"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        yield server
    finally:
        server.terminate()
        server.wait(20)


def retrieve(arguments: argparse.Namespace) -> str:
    """Ask a server with ``RF_INDEX_DEVICE=cuda`` for an anonymous session's items, and one on the CPU."""
    device_search()
    for name in ("feast", "grpc", "duckdb", "torchrec"):
        need(name)
    grpc = need("grpc")
    stub = need("rf_protos.v1.retrieval_pb2_grpc").RetrievalServiceStub
    messages = need("rf_protos.v1.retrieval_pb2")
    port = 50_551
    with served(port) as server, grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        try:
            grpc.channel_ready_future(channel).result(90)
        except grpc.FutureTimeoutError as error:
            server.terminate()
            raise AssertionError(f"the server does not start: {server.stdout.read()[-600:]}") from error
        user = arguments.user
        begin = time.perf_counter()
        answer = stub(channel).Retrieve(messages.RetrieveRequest(user_id=user, k=10), timeout=30)
        seconds = time.perf_counter() - begin
    assert len(answer.items) == 10, f"{len(answer.items)} items"
    return f"10 items of bundle {answer.bundle} in {1000 * seconds:.1f} ms"


LINES = {
    "faiss exact": Line(faiss_exact, 60),
    "faiss ivf-pq": Line(faiss_ivf_pq, 150),
    "cagra": Line(cagra, 60),
    "training step": Line(training_step, 60),
    "bfloat16": Line(bf16, 60),
    "nccl": Line(nccl, 30),
    "fused adamw": Line(fused_adamw, 30),
    "fused adam of tables": Line(fused_table_adam, 30),
    "rf bench train": Line(bench_train, 90),
    "rf bench latency": Line(bench_latency, 120),
    "retrieve": Line(retrieve, 120),
}
"""All checks by name, in their order."""
TOGETHER_SECONDS = 470.0
"""Most that all of them take."""


def told(name: str, arguments: argparse.Namespace) -> str:
    """Return the verdict on one line, which runs in this process."""
    try:
        return f"PASS {name}: {LINES[name].run(arguments)}"
    except Skip as reason:
        return f"SKIP {name}: {reason}"
    except Exception as error:
        said = next(iter(str(error).splitlines()), "")
        return f"FAIL {name}: {type(error).__name__}: {said}"


def run_alone(name: str, arguments: argparse.Namespace, seconds: float) -> str:
    """Return the verdict on one line, which runs in a process of its own."""
    command = [sys.executable, __file__, f"--items={arguments.items}", f"--user={arguments.user}", "--here", name]
    try:
        ended = subprocess.run(command, capture_output=True, text=True, timeout=seconds, check=False)
    except subprocess.TimeoutExpired:
        return f"FAIL {name}: no end within {seconds:.0f} s"
    verdicts = [line for line in ended.stdout.splitlines() if line[:5] in ("PASS ", "FAIL ", "SKIP ")]
    if verdicts:
        return verdicts[-1]
    last = (ended.stderr.strip().splitlines() or ["nothing said"])[-1]
    return f"FAIL {name}: ended with status {ended.returncode} ({last})"


def main(words: list[str]) -> int:
    """Run the lines that are named, or all of them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("lines", nargs="*", metavar="LINE", help=f"of {', '.join(LINES)}; default: all")
    parser.add_argument("--home", help="workspace with a dataset and a promoted bundle")
    parser.add_argument("--items", type=int, default=1_000_000, help="rows of the indexes")
    parser.add_argument("--user", default="1", help="user of the workspace that the server is asked for")
    parser.add_argument("--seconds", type=float, default=TOGETHER_SECONDS, help="most that all lines take")
    parser.add_argument("--here", action="store_true", help="in this process")
    arguments = parser.parse_args(words)
    if unknown := [name for name in arguments.lines if name not in LINES]:
        parser.error(f"no line {unknown[0]!r}; choose from {', '.join(LINES)}")
    if arguments.home:
        os.environ["RF_HOME"] = str(Path(arguments.home).resolve())
    end = time.monotonic() + arguments.seconds
    verdicts = []
    for name in arguments.lines or LINES:
        left = min(LINES[name].seconds, end - time.monotonic())
        if arguments.here:
            verdict = told(name, arguments)
        elif left <= 0:
            verdict = f"SKIP {name}: no time is left"
        else:
            verdict = run_alone(name, arguments, left)
        print(verdict, flush=True)  # noqa: T201
        verdicts.append(verdict[:4])
    if "FAIL" in verdicts:
        return 1
    return 0 if "PASS" in verdicts else 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
