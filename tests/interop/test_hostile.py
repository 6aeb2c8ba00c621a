"""Every reader takes memory and time in proportion to the file, and says so when it stops."""

import json
import os
import subprocess
import sys
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from tests.interop.hostile import (
    READERS,
    arrays_of_numpy,
    bad_arrays,
    files,
    h5_files,
    headers,
    positions,
    run_file,
)
from tinynet.train.reading import FileError

MEGABYTES, TIMES, SECONDS = 64, 20, 5  # 64 MB and 20 times the file; of the processor's time


def run_files(folder):
    for name, position in positions(np.random.default_rng(0), 1000):
        yield name, "resume", run_file(folder, position)
    for name, arrays in bad_arrays():
        yield name, "resume", run_file(folder, arrays=arrays)


def made(reader, suffix, rows):
    def write(folder):
        if reader == "read_keras":
            pytest.importorskip("h5py", reason="h5py is not installed")
        for name, data in rows:
            (folder / f"a.{suffix}").write_bytes(data)
            yield name, reader, folder / f"a.{suffix}"

    return write


FAMILIES = {
    "checkpoints": run_files,
    "safetensors": made("read_torch", "safetensors", headers(np.random.default_rng(0), 1000)),
    "features": made("features", "npy", arrays_of_numpy()),
    "HDF5": made("read_keras", "h5", islice(h5_files(np.random.default_rng(0)), 7)),
}


@pytest.mark.parametrize("family", FAMILIES)
def test_a_damaged_file_is_refused_in_one_line(tmp_path, family):
    for name, reader, path in FAMILIES[family](tmp_path):
        try:
            READERS[reader](path)
        except FileError as error:
            message = str(error)
        else:
            pytest.fail(f"{name} is read")
        assert message.startswith(f"{path}: "), name
        assert message.isprintable(), name
        assert len(message) < 1200, name


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the peak is Linux's, in kB")
def test_hostile_files(tmp_path):
    pytest.importorskip("h5py", reason="h5py is not installed")
    root = Path(__file__).parents[2]
    command = [sys.executable, "-m", "tests.interop.hostile"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    environment = os.environ | {"PYTHONPATH": str(root), "TINYNET_KERNELS": "numpy"}
    faults, seen = [], []
    with subprocess.Popen(command, cwd=root, env=environment, **pipes) as child:
        for name, reader, path in files(tmp_path, 0):
            print(reader, path, sep="\t", file=child.stdin, flush=True)
            found = json.loads(child.stdout.readline())
            size = path.stat().st_size / 2**20
            right = found["what"] in ("read", "refused") and found["message"].isprintable()
            right &= found["megabytes"] <= MEGABYTES + TIMES * size
            right &= found["seconds"] < SECONDS
            seen.append(f"{name}: {size:.2f} MB: {found}")
            faults += [] if right else seen[-1:]
        child.stdin.close()
    assert not faults, "\n".join(faults)
    assert len(seen) >= 200
