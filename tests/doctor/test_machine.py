"""What is read of a machine, from folders that stand for its root, and where there are none."""

import os

import pytest

from tinynet.doctor import machine
from tinynet.doctor.machine import (
    cpu_quota,
    huge_pages,
    memory_sizes,
    physical_cores,
    processor_name,
    read_machine,
    stolen_time,
    sysctl,
)

MEMINFO = "MemTotal:       16000000 kB\nMemFree: 1 kB\nMemAvailable:    8000000 kB\n"


@pytest.fixture
def root(tmp_path):
    """``root(path=text, ...)``: a root with these files."""

    def make(files):
        for path, text in files.items():
            file = tmp_path / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding="utf-8")
        return tmp_path

    return make


def test_this_machine():
    here = read_machine()
    assert 1 <= here.usable <= here.cores
    assert here.processor
    assert here.memory is None or here.free is None or 0 < here.free <= here.memory


def test_a_system_without_proc_is_read_without_error(tmp_path, monkeypatch):
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.delattr(os, "getloadavg", raising=False)
    bare = read_machine(tmp_path)
    assert bare.usable == bare.cores
    assert (bare.physical, bare.quota, bare.huge_pages, bare.load) == (None, None, None, None)


@pytest.mark.parametrize("platform", ["darwin", "win32"])
def test_other_systems_than_linux(tmp_path, monkeypatch, platform):
    monkeypatch.setattr(machine.sys, "platform", platform)
    monkeypatch.setattr(machine, "sysctl", lambda name: "Apple M9")
    named = read_machine(tmp_path)
    assert named.processor
    if platform == "darwin":
        assert named.processor == "Apple M9"


def test_a_question_nobody_answers_is_an_empty_string(monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert sysctl("machdep.cpu.brand_string") == ""


def test_the_processor_by_its_name(root):
    files = {"proc/cpuinfo": "processor\t: 0\nmodel name\t: Example  CPU @ 2 GHz\n"}
    assert processor_name(root(files)) == "Example CPU @ 2 GHz"


def test_hyperthreads_are_counted_once(root):
    place = "sys/devices/system/cpu/cpu{}/topology/thread_siblings_list"
    files = {place.format(n): f"{n % 2},{n % 2 + 2}\n" for n in range(4)}
    assert physical_cores({0, 1, 2, 3}, root(files)) == 2
    assert physical_cores({0, 2}, root(files)) == 1
    assert physical_cores({0, 9}, root(files)) is None


@pytest.mark.parametrize(
    ("files", "quota"),
    [
        ({"sys/fs/cgroup/cpu.max": "150000 100000\n"}, 1.5),
        ({"sys/fs/cgroup/cpu.max": "max 100000\n"}, None),
        (
            {
                "proc/self/cgroup": "0::/a/b\n",
                "sys/fs/cgroup/a/cpu.max": "200000 100000\n",
                "sys/fs/cgroup/a/b/cpu.max": "max 100000\n",
            },
            2.0,
        ),
        (
            {
                "proc/self/cgroup": "3:cpuacct,cpu:/job\n",
                "sys/fs/cgroup/cpu/job/cpu.cfs_quota_us": "50000\n",
                "sys/fs/cgroup/cpu/job/cpu.cfs_period_us": "100000\n",
            },
            0.5,
        ),
        (
            {
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n",
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
            },
            None,
        ),
    ],
)
def test_the_quota_of_a_container(root, files, quota):
    assert cpu_quota(root(files)) == quota


def test_memory_of_the_machine_and_of_its_container(root):
    whole = {"proc/meminfo": MEMINFO}
    assert memory_sizes(root(whole)) == (16_384_000_000, 8_192_000_000)
    limited = {
        "sys/fs/cgroup/memory.max": "4000000000\n",
        "sys/fs/cgroup/memory.current": "3000000000\n",
        "sys/fs/cgroup/memory.stat": "anon 1\ninactive_file 500000000\n",
    }
    assert memory_sizes(root(limited)) == (4_000_000_000, 1_500_000_000)


def test_a_limit_that_is_none(root):
    files = {
        "proc/meminfo": MEMINFO,
        "sys/fs/cgroup/memory.max": "max\n",
        "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
    }
    assert memory_sizes(root(files)) == (16_384_000_000, 8_192_000_000)


def test_huge_pages_and_stolen_time(root):
    files = {
        "sys/kernel/mm/transparent_hugepage/enabled": "always [madvise] never\n",
        "proc/stat": "cpu  10 0 20 60 0 0 2 8 5 5\ncpu0 1 2 3\n",
    }
    assert huge_pages(root(files)) == "madvise"
    assert stolen_time(root(files)) == (8, 100)
