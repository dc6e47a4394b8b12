"""Detection of a failed peer process from the error of a collective operation."""

import torch.distributed as dist

SIGNS = {
    "Connection closed": "connection closed",
    "Connection reset": "connection reset",
    "Connection refused": "connection refused",
    "Broken pipe": "broken pipe",
    "Socket closed": "socket closed",
    "imed out": "no answer in time",
    "NCCL": "NCCL error",
}


def lost_peer(error: BaseException) -> str | None:
    """Return in some words how a collective operation failed because another process is gone or does not answer; else None.

    Gloo raises plain errors with the words of the operating system, so that these are all there is to go by.
    """
    found = next((words for sign, words in SIGNS.items() if sign in str(error)), None)
    return found or (type(error).__name__ if isinstance(error, dist.DistError) else None)
