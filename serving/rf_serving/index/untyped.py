"""FAISS without its type stubs: they lack much of what is used here, and contradict some of it."""

from typing import Any

import faiss as _faiss

faiss: Any = _faiss
