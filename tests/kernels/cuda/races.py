"""Races in a CUDA source: ThreadSanitizer watches it run on the processor.

A program of its own, since the sanitizer must be there from a process's start. It sees what two
threads do to one place in memory with no barrier between, whether or not the numbers are right.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.kernels.cuda.on_cpu import COMPILER, KERNEL, SHIM, parameters


def races(
    code: str,
    options: tuple[str, ...],
    kernel: str,
    grid: tuple[int, int, int],
    block: tuple[int, int, int],
    arguments: tuple[int | str, ...],
    folder: Path,
    shared: int = 0,
) -> str:
    """What ThreadSanitizer says of one launch of ``kernel``; "" if it has nothing to say.

    code, options   the source and its macros, as ``source.text`` and ``source.options`` give them
    arguments       for an array the number of its elements, all 0; for a number itself, as C has it
    folder          for the program
    shared          bytes of shared memory that the launch gives
    Copies to shared memory are made at once (EAGER of ``shim_tensor.h``).
    """
    if COMPILER is None:
        pytest.skip("g++ is not installed")
    given = parameters(dict(KERNEL.findall(code))[kernel])
    lines = []
    for (kind, name), value in zip(given, arguments, strict=True):
        if isinstance(value, int):
            element = kind.replace("const ", "").rstrip("* ")
            lines.append(f"std::vector<{element}> of_{name}({value});")
            lines.append(f"{kind} {name} = of_{name}.data();")
        else:
            lines.append(f"{kind} {name} = {value};")
    call = f"{kernel}({', '.join(name for _, name in given)});"
    sizes = [f"{{{', '.join(map(str, size))}}}" for size in (grid, block)]
    main = f"""int main() {{
    const unsigned grid[] = {sizes[0]}, block[] = {sizes[1]};
    {" ".join(lines)}
    run(grid, block, {shared}, [=] {{ {call} }});
}}"""
    source, program = folder / "races.cpp", folder / "races"
    source.write_text("\n".join([f'#include "{SHIM}"', code, main]), encoding="utf-8")
    macros = [option for option in options if option.startswith("-D")]
    flags = ["-std=c++20", "-O1", "-g", "-fsanitize=thread", "-pthread", "-DEAGER"]
    built = subprocess.run(
        [COMPILER, *flags, *macros, str(source), "-o", str(program)], capture_output=True, text=True
    )
    if "libtsan" in built.stderr or "-ltsan" in built.stderr:
        pytest.skip("ThreadSanitizer's library is not installed")
    assert built.returncode == 0, built.stderr
    options_of_tsan = {"TSAN_OPTIONS": "halt_on_error=1 report_signal_unsafe=0"}
    ran = subprocess.run(
        [str(program)], capture_output=True, text=True, env={**os.environ, **options_of_tsan}
    )
    if "unexpected memory mapping" in ran.stderr:
        pytest.skip("ThreadSanitizer does not run on this kernel's memory layout")
    assert ran.returncode == 0 or "data race" in ran.stderr, ran.stderr
    return ran.stderr
