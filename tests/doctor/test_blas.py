"""Whose copy of BLAS is which, and how wide its kernels are."""

import pytest

from tinynet.doctor.blas import Blas, libraries, owner_of, processor_bits, read_blas, vector_bits


def info(file, **more):
    return {"user_api": "blas", "internal_api": "openblas", "filepath": file, **more}


def test_the_libraries_of_this_process():
    found = read_blas()
    assert " and ".join(blas.used_by for blas in found) == "NumPy and SciPy"
    assert processor_bits() in (128, 256, 512, None)


@pytest.mark.parametrize(
    ("file", "owner"),
    [
        ("/v/lib/python3.13/site-packages/numpy.libs/libscipy_openblas64_-1.so", "NumPy"),
        ("/v/lib/python3.13/site-packages/scipy.libs/libscipy_openblas-2.so", "SciPy"),
        ("/v/site-packages/numpy/.dylibs/libscipy_openblas64_.dylib", "NumPy"),
        (r"C:\v\Lib\site-packages\numpy.libs\libscipy_openblas64_-3.dll", "NumPy"),
        ("/home/me/numpy/v/site-packages/scipy.libs/libscipy_openblas-2.so", "SciPy"),
        ("/opt/conda/lib/libmkl_rt.so.2", "NumPy and SciPy"),
        ("", "NumPy and SciPy"),
    ],
)
def test_the_owner_of_a_file(file, owner):
    assert owner_of(file) == owner


def test_two_copies():
    infos = [
        info("/s/scipy.libs/b.so", version="0.3.30", architecture="Zen", num_threads=2),
        info("/s/numpy.libs/a.so", version="0.3.31", architecture="Haswell", num_threads=4),
        {"user_api": "openmp", "filepath": "/s/sklearn.libs/libgomp.so"},
    ]
    assert libraries(infos, "scipy-openblas") == [
        Blas("NumPy", "openblas", "0.3.31", "Haswell", 4),
        Blas("SciPy", "openblas", "0.3.30", "Zen", 2),
    ]


def test_one_copy_for_both():
    assert libraries([info("/opt/conda/lib/libopenblas.so")], "openblas") == [
        Blas("NumPy and SciPy", "openblas")
    ]


def test_a_library_that_threadpoolctl_does_not_know():
    (blas,) = libraries([], "accelerate")
    assert blas == Blas("NumPy and SciPy", "accelerate")
    assert blas.tuned
    assert blas.kernel_bits is None
    assert not Blas("NumPy", "blas").tuned


@pytest.mark.parametrize(
    ("kernels", "bits"),
    [("Katmai", 128), ("Haswell", 256), ("SkylakeX", 512), ("NeoverseN1", None)],
)
def test_widths_of_kernels(kernels, bits):
    assert Blas("NumPy", "openblas", kernels=kernels).kernel_bits == bits


@pytest.mark.parametrize(
    ("features", "bits"),
    [
        (["X86_V2", "X86_V3", "X86_V4"], 512),
        (["SSE2", "AVX2", "FMA3", "AVX512F"], 512),
        (["X86_V2", "X86_V3"], 256),
        (["X86_V2"], 128),
        (["NEON", "ASIMD"], None),
    ],
)
def test_widths_of_processors(features, bits):
    assert vector_bits(features) == bits
