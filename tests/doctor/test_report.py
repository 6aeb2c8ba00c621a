"""The report: aligned short lines, advice as what is → what to do, JSON with the same."""

import json
from dataclasses import replace

from tests.doctor.facts import HEALTHY, MACHINE, measuring
from tinynet.doctor.advice import Advice
from tinynet.doctor.gpu import Device, Gpu
from tinynet.doctor.openblas import Trial
from tinynet.doctor.report import LABEL, WIDTH, as_json, as_text, by_threads, printable

ADVICE = [Advice("OMP_NUM_THREADS=1: tinynet's threads use 1 of 4 cores", "unset it")]


def value(text, label):
    """What stands beside a label, its continued lines joined."""
    lines = text.splitlines()
    start = next(i for i, line in enumerate(lines) if line[:LABEL].rstrip() == label)
    parts = [lines[start][LABEL:]]
    for line in lines[start + 1 :]:
        if not line.startswith(" " * LABEL):
            break
        parts.append(line.strip())
    return " ".join(parts)


def test_lines_are_short_and_values_aligned():
    text = as_text(HEALTHY, [])
    assert max(map(len, text.splitlines())) <= WIDTH
    assert text.startswith("tinynet 0.1.0, Python 3.13.1, NumPy 2.4.6, SciPy 1.17.1\n")
    assert value(text, "processor") == "Example 9000, vectors of 512 bits"
    assert value(text, "extra weights") == "h5py missing"
    assert value(text, "extra fast").startswith("numba 0.68.1, 40 compiled functions")
    assert value(text, "product") == (
        "80 GFLOP/s on 1 thread, 152 on 2, 290 on 4 (float32, 1024 × 1024)"
    )
    assert "pip install cupy-cuda13x" in value(text, "GPU")
    assert text.endswith("Nothing was found that holds this machine back.")


def test_advice_is_what_is_and_what_to_do():
    lines = as_text(HEALTHY, ADVICE).splitlines()
    assert lines[-3] == "What holds this machine back:"
    assert lines[-2] == f"- {ADVICE[0].found}"
    assert lines[-1] == "  → unset it"


def test_limits_of_the_cores_are_said():
    machine = replace(MACHINE, cores=16, usable=8, physical=4, quota=2.5)
    text = as_text(replace(HEALTHY, machine=machine, threads=8), [])
    assert value(text, "cores") == (
        "16, 8 of them for this process, hyperthreads of 4, limited to the time of 2.5, load 0.1, "
        "tinynet uses 8 threads"
    )


def test_exported_settings_with_both_outcomes():
    kernels = ({"architecture": "Nehalem"},)
    found = replace(
        HEALTHY,
        settings={"OPENBLAS_CORETYPE": "Nehalem"},
        as_is=Trial(None, kernels, 9.0),
        bare=Trial("it ends with SIGILL"),
        variables={"OMP_NUM_THREADS": "1"},
    )
    assert value(as_text(found, []), "exported") == (
        "OPENBLAS_CORETYPE=Nehalem: 9 GFLOP/s on one thread, Nehalem kernels; without: the trial "
        "failed (it ends with SIGILL) OMP_NUM_THREADS=1"
    )


def test_a_device():
    gpu = Gpu(
        "14.1.0",
        "cupy-cuda12x",
        "13.0",
        (Device("Example H1", 80 * 10**9, 70 * 10**9, (9, 0)),),
        compiles=True,
        precisions=("fp32", "tf32", "bf16"),
    )
    assert value(as_text(replace(HEALTHY, gpu=gpu), []), "GPU") == (
        "Example H1, compute capability 9.0, 80 GB (70 free); driver for CUDA 13.0, CuPy 14.1.0 "
        "(cupy-cuda12x); kernels compile; precisions fp32, tf32, bf16"
    )
    bare = replace(gpu, package=None, compiles=False, precisions=("fp32",))
    assert value(as_text(replace(HEALTHY, gpu=bare), []), "GPU").endswith(
        "CuPy 14.1.0; kernels do not compile; precisions fp32"
    )


def test_nothing_measured_is_said():
    assert "nothing" in value(as_text(replace(HEALTHY, rates=None), []), "measured")


def test_what_is_unknown_is_left_out():
    machine = replace(MACHINE, physical=None, memory=None, free=None, load=None)
    bare = replace(measuring(running=None, stolen=None), machine=machine, processor_bits=None)
    text = as_text(bare, [])
    assert "None" not in text
    assert not [line for line in text.splitlines() if line.startswith("memory")]


def test_rates_by_threads():
    assert by_threads({0: 912.4}, "GFLOP/s") == "912 GFLOP/s"
    assert by_threads({1: 9.16, 2: 18.0}, "GB/s") == "9.2 GB/s on 1 thread, 18.0 on 2"
    assert by_threads({2: 30.0}, "GB/s") == "30 GB/s on 2 threads"


def test_json_has_everything_and_plain_types():
    read = json.loads(as_json(HEALTHY, ADVICE))
    assert read["advice"] == [{"found": ADVICE[0].found, "step": "unset it"}]
    assert read["machine"]["usable"] == 4
    assert read["rates"]["products"] == {"1": 80.0, "2": 152.0, "4": 290.0}
    assert read["blas"][0]["kernels"] == "SkylakeX"


def test_an_encoding_without_the_arrow_gets_another():
    assert printable("a → 2 × 2", "utf-8") == "a → 2 × 2"
    assert printable("a → 2 × 2", "cp1252") == "a -> 2 x 2"
    assert printable("a → 2 × 2 µ", None) == "a -> 2 x 2 ?"
