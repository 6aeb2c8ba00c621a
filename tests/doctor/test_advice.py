"""Each cause gives its advice, and a healthy machine none."""

from dataclasses import replace

import pytest

from tests.doctor.facts import HEALTHY, MACHINE, OPENBLAS, measuring, on
from tinynet.doctor.advice import advise
from tinynet.doctor.blas import Blas
from tinynet.doctor.gpu import Gpu
from tinynet.doctor.gpu_packages import Fault
from tinynet.doctor.openblas import Trial
from tinynet.doctor.packages import Package


def only(findings):
    """(what is, what to do) of the one piece of advice."""
    (advice,) = advise(findings)
    return advice.found, advice.step


def kernels(name):
    return ({"architecture": name},)


def exporting(as_is, bare, **settings):
    settings = settings or {"OPENBLAS_CORETYPE": "Nehalem"}
    return replace(HEALTHY, settings=settings, as_is=as_is, bare=bare)


def test_a_healthy_machine_gets_no_advice():
    assert advise(HEALTHY) == []


def test_a_slow_core_type_is_to_be_unset():
    slow, fast = Trial(None, kernels("Nehalem"), 9.0), Trial(None, kernels("Haswell"), 80.0)
    found, step = only(exporting(slow, fast))
    assert found == (
        "OPENBLAS_CORETYPE=Nehalem is exported: one thread does 9 GFLOP/s with Nehalem kernels, "
        "and 80 with Haswell kernels without it"
    )
    assert step == "unset OPENBLAS_CORETYPE"


def test_settings_are_unset_together():
    both = {"OPENBLAS_CORETYPE": "Haswell", "OPENBLAS_L2_SIZE": "64"}
    slow, fast = Trial(None, kernels("Haswell"), 60.0), Trial(None, kernels("Haswell"), 80.0)
    found, step = only(exporting(slow, fast, **both))
    assert "kernels" not in found  # the same ones run: the cache size is what differs
    assert step == "unset OPENBLAS_CORETYPE OPENBLAS_L2_SIZE"


def test_a_setting_that_changes_little_is_left_alone():
    trial = Trial(None, kernels("Haswell"), 80.0)
    assert advise(exporting(trial, replace(trial, rate=84.0))) == []


def test_a_setting_that_openblas_needs_is_left_alone():
    good = Trial(None, kernels("Haswell"), 10.0)
    assert advise(exporting(good, Trial("it ends with SIGILL"))) == []


def test_a_setting_that_crashes_is_to_be_unset():
    crash = replace(
        exporting(Trial("it ends with SIGILL"), Trial(None, kernels("Zen"), 80.0)), rates=None
    )
    found, step = only(crash)
    assert "SIGILL" in found
    assert step.startswith("unset OPENBLAS_CORETYPE")


def test_products_that_fail_either_way_call_for_another_numpy():
    crash = Trial("it ends with SIGSEGV")
    found, step = only(replace(exporting(crash, crash), rates=None))
    assert "with and without" in found
    assert "--force-reinstall numpy scipy" in step


def test_kernels_narrower_than_the_processor_call_for_a_newer_numpy():
    old = replace(OPENBLAS, used_by="NumPy", version="0.3.21", kernels="Zen")
    found, step = only(replace(HEALTHY, blas=[old, replace(OPENBLAS, used_by="SciPy")]))
    assert "256 bits where the processor has 512" in found
    assert step == "python -m pip install --upgrade numpy"


def test_unknown_kernels_give_no_advice():
    assert advise(replace(HEALTHY, blas=[replace(OPENBLAS, kernels="NeoverseN1")])) == []
    assert advise(replace(HEALTHY, blas=[Blas("NumPy and SciPy", "accelerate")])) == []


def test_a_reference_blas_is_named():
    found, step = only(replace(HEALTHY, blas=[Blas("NumPy", "blas"), OPENBLAS]))
    assert "NumPy's BLAS is 'blas'" in found
    assert step.endswith("numpy")


def test_a_missing_fast_extra_is_named_and_a_missing_optional_one_is_not():
    missing = [Package("numba", "fast", None), Package("pillow", "example", None)]
    found, step = only(replace(HEALTHY, packages=missing))
    assert "numba is missing" in found
    assert step == 'python -m pip install "tinynet-dl[fast]"'


def test_a_numba_that_does_not_import_is_told_from_a_missing_one():
    broken = Package("numba", "fast", "0.60.0", "ImportError: Numba needs NumPy 2.0 or less")
    found, step = only(replace(HEALTHY, packages=[broken]))
    assert "Numba needs NumPy 2.0 or less" in found
    assert step == "python -m pip install --upgrade numba"


@pytest.mark.parametrize(
    ("variables", "found", "step"),
    [
        ({"OMP_NUM_THREADS": "1"}, "tinynet's threads use 1 of 4", "unset OMP_NUM_THREADS, unless"),
        ({"OPENBLAS_NUM_THREADS": "1"}, "products outside them", "unset OPENBLAS_NUM_THREADS, un"),
        (
            {"OMP_NUM_THREADS": "2", "OPENBLAS_NUM_THREADS": "1"},
            "OMP_NUM_THREADS=2, OPENBLAS_NUM_THREADS=1: ",
            "unset OMP_NUM_THREADS OPENBLAS_NUM_THREADS, unless it is meant",
        ),
        ({"OMP_NUM_THREADS": "8"}, "OMP_NUM_THREADS=8 on 4 cores", "unset OMP_NUM_THREADS"),
        ({"NUMBA_DISABLE_JIT": "1"}, "compiler off", "unset NUMBA_DISABLE_JIT"),
        ({"TINYNET_KERNELS": "reference"}, "passes over faster", "unset TINYNET_KERNELS"),
    ],
)
def test_variables_that_cost_speed(variables, found, step):
    said = only(replace(HEALTHY, variables=variables))
    assert found in said[0]
    assert said[1].startswith(step)


@pytest.mark.parametrize(
    "variables",
    [
        {"OMP_NUM_THREADS": "4"},
        {"OMP_NUM_THREADS": "all"},
        {"MKL_NUM_THREADS": "1"},  # OpenBLAS is in use
        {"NUMBA_DISABLE_JIT": "0"},
        {"TINYNET_KERNELS": "fast"},
    ],
)
def test_variables_that_cost_nothing(variables):
    assert advise(replace(HEALTHY, variables=variables)) == []


def test_a_container_limit_below_the_threads():
    found, step = only(on(quota=1.5))
    assert "allows 1.5 of 4 cores" in found
    assert "OMP_NUM_THREADS=2" in step
    obeyed = replace(on(quota=1.5), threads=2, variables={"OMP_NUM_THREADS": "2"})
    assert advise(obeyed) == []


def test_other_programs_on_the_cores():
    found, step = only(measuring(running=0.6))
    assert "other programs use the cores: one thread ran 60% of the time" in found
    assert step == "stop them, or leave them a core: export OMP_NUM_THREADS=3"
    assert only(replace(measuring(running=0.6), threads=2))[1] == "stop them"


def test_two_slow_threads_have_three_causes():
    slow = measuring(products={1: 80.0, 2: 88.0, 4: 160.0})
    assert "two threads do 1.1 times the work of one" in only(slow)[0]
    busy = replace(slow, machine=replace(MACHINE, load=1.9))
    assert "other programs use the cores: " in only(busy)[0]
    hyperthreads = replace(slow, machine=replace(MACHINE, physical=2))
    assert only(hyperthreads)[1].startswith("export OMP_NUM_THREADS=2")


def test_time_that_the_host_takes():
    assert "the host takes 8%" in only(measuring(stolen=0.08))[0]
    assert "the host takes 8%" in only(measuring(stolen=0.08, running=0.85, median=0.006))[0]
    both = [advice.found for advice in advise(measuring(stolen=0.08, running=0.5))]
    assert [found.split(":")[0] for found in both] == [
        "the host takes 8% of this virtual machine's time",
        "other programs use the cores",
    ]


def test_an_unsteady_clock():
    assert "1.50 times its best time" in only(measuring(median=0.006))[0]


def test_a_blas_whose_threads_cannot_be_counted_is_judged_by_nothing():
    assert advise(measuring(running=None, stolen=None, products={0: 900.0})) == []


def test_little_memory():
    found, step = only(on(free=800 * 10**6))
    assert "0.8 GB" in found
    assert "--batch-size" in step
    assert advise(on(free=None, memory=8 * 10**9)) == []


def test_slow_fresh_memory_has_a_step_only_where_one_is_known():
    slow = measuring(fresh=1.0)
    assert advise(slow) == []
    never = replace(slow, machine=replace(MACHINE, huge_pages="never"))
    assert "7.0 times as slowly" in only(never)[0]
    assert "transparent_hugepage" in only(never)[1]
    hidden = replace(slow, variables={"NUMPY_MADVISE_HUGEPAGE": "0"})
    assert only(hidden)[1] == "unset NUMPY_MADVISE_HUGEPAGE"


def test_what_is_amiss_with_a_gpu_is_advice():
    gpu = Gpu(faults=(Fault("ml_dtypes is missing", "python -m pip install ml-dtypes"),))
    said = only(replace(HEALTHY, gpu=gpu))
    assert said == ("ml_dtypes is missing", "python -m pip install ml-dtypes")


def test_a_debug_build():
    assert "debug build" in only(replace(HEALTHY, debug_build=True))[0]
