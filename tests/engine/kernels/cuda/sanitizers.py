"""Sanitizers of g++ watch a CUDA source run on the processor.

A program of its own, since a sanitizer must be there from a process's start. "thread" sees what two
threads do to one place in memory with no barrier between, whether or not the numbers are right;
"address" sees what is read or written past the end of an array, whether or not it is used.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.engine.kernels.cuda.on_cpu import COMPILER, KERNEL, SHIM, compiled, parameters, shim

LIBRARIES = ("tsan", "asan")


def complaints(
    code: str,
    options: tuple[str, ...],
    kernel: str,
    grid: tuple[int, int, int],
    block: tuple[int, int, int],
    arguments: tuple[int | str, ...],
    folder: Path,
    shared: int = 0,
    sanitizer: str = "thread",
) -> str:
    """What the sanitizer says of one launch of ``kernel``; "" if it has nothing to say.

    code, options   the source and its macros, as ``source.text`` and ``source.options`` give them
    arguments       for an array the number of its elements, all 0; for a number itself, as C has it
    folder          for the program
    shared          bytes of shared memory that the launch gives
    sanitizer       "thread" or "address"
    Copies to shared memory are made at once (EAGER of ``shim_tensor.cpp``).
    """
    if COMPILER is None:
        pytest.skip("g++ is not installed")
    given = parameters(dict(KERNEL.findall(code))[kernel])
    lines = []
    for (kind, name), value in zip(given, arguments, strict=True):
        if isinstance(value, int):
            element = kind.replace("const ", "").rstrip("* ")
            lines.append(f"{kind} {name} = new {element}[{value}]();")
        else:
            lines.append(f"{kind} {name} = {value};")
    call = f"{kernel}({', '.join(name for _, name in given)});"
    sizes = [f"{{{', '.join(map(str, size))}}}" for size in (grid, block)]
    main = f"""int main() {{
    const unsigned grid[] = {sizes[0]}, block[] = {sizes[1]};
    {" ".join(lines)}
    run(grid, block, {shared}, [=] {{ {call} }});
}}"""
    source, program = folder / "watched.cpp", folder / "watched"
    source.write_text("\n".join([f'#include "{SHIM}"', code, main]), encoding="utf-8")
    macros = [option for option in options if option.startswith("-D")]
    flags = "-std=c++20", "-O1", "-g", f"-fsanitize={sanitizer}", "-DEAGER"
    try:
        compiled(*flags, *macros, source, *shim(flags), "-pthread", "-o", program)
    except AssertionError as error:
        if any(f"{lib}{library}" in str(error) for lib in ("lib", "-l") for library in LIBRARIES):
            pytest.skip(f"g++ has no library for -fsanitize={sanitizer}")
        raise
    settings = {"TSAN_OPTIONS": "halt_on_error=1", "ASAN_OPTIONS": "detect_leaks=0"}
    ran = subprocess.run(
        [str(program)], capture_output=True, text=True, env={**os.environ, **settings}
    )
    if "unexpected memory mapping" in ran.stderr:
        pytest.skip("ThreadSanitizer does not run with this machine's memory layout")
    assert ran.returncode == 0 or "Sanitizer" in ran.stderr, ran.stderr
    return ran.stderr
