"""Limit of open files of the process: every connection is one."""

import resource

import structlog

_OTHERS = 512
"""For what else a server has open: bundles, stores, journals, logs."""
_LEAST = 16


def room_for(connections: int) -> int:
    """Return how many connections may be open, after raising the process's own limit as far as it may.

    Args:
        connections: wanted; fewer fit where the system's hard limit is lower, and the log says so.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = connections + _OTHERS
    if resource.RLIM_INFINITY != soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return connections
    fit = min(connections, max(soft - _OTHERS, _LEAST))
    structlog.get_logger("rf_serving").warning(
        "fewer connections than --max-connections", connections=fit, wanted=connections, open_files=soft
    )
    return fit
