"""One thread of FAISS and torch for each of ours: concurrent requests share the cores, so that none is split."""

import faiss
import torch


def use_one_thread() -> None:
    """Have what the calling thread computes run in it alone."""
    torch.set_num_threads(1)
    faiss.omp_set_num_threads(1)
