"""What the operating system says of this machine: processor, cores, limits, memory.

Linux says it in files, macOS in sysctl, Windows in its kernel's functions. What a system does not
say is None, never an error. ``root`` is "/" but in tests.
"""

from __future__ import annotations

import ctypes
import os
import platform
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path("/")
UNLIMITED = 1 << 60  # bytes; what cgroup v1 writes for "no limit" is about 2⁶³


@dataclass(frozen=True)
class Machine:
    """Facts that are read, not measured; None where the system does not say.

    cores      of the machine
    usable     cores this process may run on
    physical   cores among the usable ones; fewer than ``usable`` where hyperthreads are counted
    quota      cores' worth of time that a container may use
    memory     bytes the process may use in all
    free       bytes of it that are free now
    huge_pages "always", "madvise" or "never": large pages for large arrays (Linux)
    load       programs that wanted a core, as a mean over the last minute
    """

    system: str
    processor: str
    cores: int
    usable: int
    physical: int | None = None
    quota: float | None = None
    memory: int | None = None
    free: int | None = None
    huge_pages: str | None = None
    load: float | None = None


def read_machine(root: Path = ROOT) -> Machine:
    """All of it, for this process."""
    usable = usable_cores()
    memory, free = memory_sizes(root)
    return Machine(
        system=f"{platform.system()} {platform.release()}, {platform.machine()}",
        processor=processor_name(root),
        cores=os.cpu_count() or 1,
        usable=len(usable),
        physical=physical_cores(usable, root),
        quota=cpu_quota(root),
        memory=memory,
        free=free,
        huge_pages=huge_pages(root),
        load=os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
    )


def usable_cores() -> set[int]:
    """Numbers of the cores this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return set(os.sched_getaffinity(0))
    return set(range(os.cpu_count() or 1))


def read_text(file: Path) -> str:
    """The file's text; "" if there is no such file, or it may not be read."""
    try:
        return file.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def processor_name(root: Path = ROOT) -> str:
    """Its maker's name for it, or its architecture."""
    named = re.search(r"^model name\s*: *(.+)$", read_text(root / "proc/cpuinfo"), re.M)
    if named:
        return " ".join(named[1].split())
    if sys.platform == "darwin":
        return sysctl("machdep.cpu.brand_string") or platform.machine()
    return platform.processor() or platform.machine() or "unknown"


def sysctl(name: str) -> str:
    """What macOS says of ``name``; "" if it says nothing."""
    try:
        done = subprocess.run(
            ["sysctl", "-n", name], capture_output=True, text=True, timeout=5, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip()


def physical_cores(usable: set[int], root: Path = ROOT) -> int | None:
    """Cores behind the usable processors, by their siblings; None where Linux does not say."""
    siblings = {
        read_text(root / f"sys/devices/system/cpu/cpu{n}/topology/thread_siblings_list").strip()
        for n in usable
    }
    return None if "" in siblings else len(siblings)


def cgroups(controller: str, root: Path = ROOT) -> list[Path]:
    """Folders that may hold this process's limits: its own cgroup and those above it, v2 and v1."""
    found = [root / "sys/fs/cgroup", root / "sys/fs/cgroup" / controller]
    for line in read_text(root / "proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        base = root / "sys/fs/cgroup" / (controller if controllers else "")
        parts = [part for part in path.split("/") if part not in ("", "..")]
        found += [base.joinpath(*parts[:n]) for n in range(1, len(parts) + 1)]
    return found


def cpu_quota(root: Path = ROOT) -> float | None:
    """Cores' worth of time that cgroups allow this process, 1.5 say; None without a limit."""
    allowed = []
    for folder in cgroups("cpu", root):
        v1 = read_text(folder / "cpu.cfs_quota_us"), read_text(folder / "cpu.cfs_period_us")
        words = (read_text(folder / "cpu.max") or " ".join(v1)).split()
        if len(words) == 2 and all(word.isdigit() for word in words) and int(words[1]):
            allowed.append(int(words[0]) / int(words[1]))
    return min(allowed, default=None)


def memory_sizes(root: Path = ROOT) -> tuple[int | None, int | None]:
    """(bytes this process may use, bytes of them that are free); None where nobody says."""
    fields: dict[str, str] = dict(
        re.findall(r"^(\w+): +(\d+) kB", read_text(root / "proc/meminfo"), re.M)
    )
    if "MemTotal" not in fields:
        return windows_memory() if sys.platform == "win32" else (posix_memory(), None)
    total = 1024 * int(fields["MemTotal"])
    free = 1024 * int(fields.get("MemAvailable", fields["MemTotal"]))
    for folder in cgroups("memory", root):
        limit = read_text(folder / "memory.max") or read_text(folder / "memory.limit_in_bytes")
        if limit.strip().isdigit() and int(limit) < UNLIMITED:
            total = min(total, int(limit))
            free = min(free, max(0, int(limit) - memory_held(folder)))
    return total, free


def memory_held(cgroup: Path) -> int:
    """Bytes that a cgroup holds, less files that the system keeps only as long as it has room."""
    used = read_text(cgroup / "memory.current") or read_text(cgroup / "memory.usage_in_bytes")
    kept = re.search(r"^(?:total_)?inactive_file (\d+)$", read_text(cgroup / "memory.stat"), re.M)
    return int(used.strip() or 0) - (int(kept[1]) if kept else 0)


def posix_memory() -> int | None:
    """Bytes of memory where there is no /proc (macOS)."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):
        return None


def windows_memory() -> tuple[int | None, int | None]:
    """(bytes of memory, bytes free) by GlobalMemoryStatusEx."""

    class Status(ctypes.Structure):
        _fields_ = [
            ("length", ctypes.c_ulong),
            ("load", ctypes.c_ulong),
            *((name, ctypes.c_ulonglong) for name in ("total", "free", *"abcde")),
        ]

    status = Status(length=ctypes.sizeof(Status))
    windows = getattr(ctypes, "windll", None)
    if windows is None or not windows.kernel32.GlobalMemoryStatusEx(ctypes.byref(status)):
        return None, None
    return status.total, status.free


def huge_pages(root: Path = ROOT) -> str | None:
    """The chosen word of ``always [madvise] never``."""
    chosen = re.search(r"\[(\w+)\]", read_text(root / "sys/kernel/mm/transparent_hugepage/enabled"))
    return chosen[1] if chosen else None


def stolen_time(root: Path = ROOT) -> tuple[int, int] | None:
    """(ticks the host gave to other virtual machines, all ticks) since the start; Linux only."""
    fields = re.match(r"cpu +([\d ]+)", read_text(root / "proc/stat"))
    ticks = [int(word) for word in fields[1].split()] if fields else []
    return (ticks[7], sum(ticks[:8])) if len(ticks) >= 8 else None
