"""Which device and how many threads a run uses, decided once and on purpose."""

from __future__ import annotations

import os
import sys
from contextlib import AbstractContextManager

import torch

from cl_suite.core.errors import UsageError


def choose_device(wanted: str) -> torch.device:
    """Return the device for "auto", "cpu", "cuda" or "cuda:N". Raise UsageError if it is not there."""
    if wanted == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(wanted)
    except RuntimeError as problem:
        raise UsageError(f"--device {wanted} is not a device. Use auto, cpu, cuda or cuda:1.") from problem
    if device.type == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if (device.index or 0) >= count:
            raise UsageError(f"--device {wanted}: this machine has {count} usable GPUs. Use --device cpu.")
    elif device.type != "cpu":
        raise UsageError(f"--device {wanted} is not supported. Use auto, cpu, cuda or cuda:1.")
    return device


def forked_rng(device: torch.device | None = None) -> AbstractContextManager[None]:
    """Within it random numbers are drawn from torch's global generators, and given back at the end.

    device: whose generator counts beside the CPU's
    """
    return torch.random.fork_rng(devices=[device] if device is not None and device.type == "cuda" else [])


def peak_memory(device: torch.device) -> int | None:
    """Return the peak bytes: allocated on a GPU, resident in the process on a CPU; None where the platform says none.

    Linux and macOS answer through `resource`, in KiB and in bytes; Windows has no such module, and psutil asks it.
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    try:
        import resource
    except ImportError:
        return _peak_working_set()
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _peak_working_set() -> int | None:
    try:
        import psutil
    except ImportError:
        return None
    return getattr(psutil.Process().memory_info(), "peak_wset", None)  # only Windows keeps it


def available_cores() -> int:
    """Return how many cores this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def set_threads(wanted: int) -> int:
    """Let torch use `wanted` CPU threads (0: OMP_NUM_THREADS if set, else every core it may use); return how many.

    More threads than cores make a run many times slower. The count is part of a record's provenance: results on a
    CPU are bitwise equal only for equal counts.
    """
    if wanted < 0:
        raise UsageError(f"--threads {wanted} is not a number of threads. Use 1 or more, or 0 for all cores.")
    configured = os.environ.get("OMP_NUM_THREADS", "")
    threads = wanted or (int(configured) if configured.isdigit() and int(configured) > 0 else available_cores())
    torch.set_num_threads(threads)
    return threads
