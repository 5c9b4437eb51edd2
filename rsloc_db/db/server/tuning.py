"""Settings of an embedded server, fitted to this machine at every start."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

MIB = 1 << 20
SAFE_PARALLEL_BUILD = (0, 8, 2)
"""pgvector before this can overflow a buffer in a parallel HNSW build (CVE-2026-3172)."""

SAFE_VACUUM = (0, 8, 3)
"""In pgvector before this, vacuum can corrupt an HNSW index."""


def conf(port: int, pgvector: tuple[int, ...]) -> str:
    """Return the text of rsloc.conf. Durable, and fit for replicas: an acknowledged batch outlives a power cut."""
    cores = len(os.sched_getaffinity(0))
    ram = _ram_bytes() // MIB
    maintenance = max(64, min(2048, ram // 8))
    values: dict[str, str | int] = {
        "listen_addresses": "127.0.0.1",
        "port": port,
        "unix_socket_directories": "",
        "password_encryption": "scram-sha-256",
        "fsync": "on",
        "synchronous_commit": "on",
        "wal_level": "replica",
        "max_wal_size": "4GB",
        "checkpoint_timeout": "15min",
        "shared_buffers": f"{max(128, min(2048, ram // 8))}MB",
        "effective_cache_size": f"{ram // 2}MB",
        "work_mem": "64MB",
        "maintenance_work_mem": f"{maintenance}MB",
        "dynamic_shared_memory_type": _shared_memory(maintenance),
        "max_worker_processes": max(8, cores),
        "max_parallel_workers": cores,
        "max_parallel_workers_per_gather": max(1, cores - 1),
        "max_parallel_maintenance_workers": cores if pgvector >= SAFE_PARALLEL_BUILD else 0,
        "random_page_cost": "1.1",
        "jit": "off",
        "timezone": "UTC",
        "log_timezone": "UTC",
        "log_checkpoints": "off",
    }
    lines = [f"{name} = '{value}'" for name, value in values.items()]
    return "\n".join(["# Written at every start; put settings of your own into local.conf.", *lines, ""])


def _shared_memory(maintenance_mib: int) -> str:
    """Choose where parallel workers share memory.

    A parallel index build takes all of maintenance_work_mem from /dev/shm at once, and containers have 64 MB there.
    """
    shm = Path("/dev/shm")  # noqa: S108 - POSIX shared memory, no temporary file
    return "posix" if shm.is_dir() and shutil.disk_usage(shm).free > (maintenance_mib + 256) * MIB else "mmap"


def _ram_bytes() -> int:
    """Return this machine's memory, or its container's limit where that is less."""
    ram = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        limit = Path(path)
        if limit.exists() and (text := limit.read_text().strip()).isdigit():
            ram = min(ram, int(text))
    return ram
