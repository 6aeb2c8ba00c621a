"""The rules of docs/design.md that no single function can keep: imports, docstrings, sizes."""

import ast
import configparser
import graphlib
import re
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DESIGN = (ROOT / "docs" / "design.md").read_text(encoding="utf-8")

# Imports run one way: a module imports from earlier lines, or from its own package. A line is a
# module or a package with all that is in it; docs/design.md, "The house", has the same order.
ORDER = """
    tinynet.backend
    tinynet.engine.gpu.capture
    tinynet.engine.precision
    tinynet.engine.storage
    tinynet.engine.memory
    tinynet.layer
    tinynet.initializers
    tinynet.layers
    tinynet.engine.plan.epilogues
    tinynet.losses.base
    tinynet.losses.auxiliary
    tinynet.losses
    tinynet.regularizers
    tinynet.optimizers.base
    tinynet.optimizers
    tinynet.schedules
    tinynet.metrics
    tinynet.ensemble
    tinynet.summary
    tinynet.gradient_check
    tinynet.testing
    tinynet.gradient_tour
    tinynet.gradient_tour
    tinynet.models
    tinynet.seeing
    tinynet.engine.plan.nodes
    tinynet.engine.plan.build
    tinynet.engine.plan.micro_batches
    tinynet.engine.kernels
    tinynet
    tinynet.train.data
    tinynet.train.checkpoint
    tinynet.engine.gpu.upload
    tinynet.engine.gpu.cuda_graph
    tinynet.engine.gpu.predict
    tinynet.train.evaluation
    tinynet.interop
    tinynet.train.interrupts
    tinynet.train.progress
    tinynet.engine.passes
    tinynet.engine.gpu.watch
    tinynet.engine.gpu.step
    tinynet.train.step
    tinynet.train.run_folder
    tinynet.train
    tinynet.seeing.__main__
    tinynet.train.transfer
    tinynet.train.features
    tinynet.doctor
    tinynet.__main__
    examples.mura.errors
    examples.mura.alone
    examples.mura.phantom
    examples
""".split()  # noqa: SIM905 - one to a line, as in a table

# Loaded when they are called: Layer.summary(), a view on the layers, and the checker's tour.
DEFERRED = {
    ("tinynet.layer", "tinynet.summary"),
    ("tinynet.gradient_check.__main__", "tinynet.gradient_tour"),
}

# What tinynet needs besides the core's dependencies, and where.
OPTIONAL = {
    ("tinynet.testing.strategies", "hypothesis"),
    ("tinynet.gradient_check.picture", "matplotlib"),
    ("tinynet.interop.h5_file", "h5py"),
    ("tinynet.engine.precision", "ml-dtypes"),
    ("tinynet.interop.onnx_graph", "onnx"),
    ("tinynet.engine.kernels.numba.compile", "numba"),
    ("tinynet.engine.kernels.numba.vector", "numba"),
    ("tinynet.engine.kernels.numba.vector", "llvmlite"),  # a part of numba
    ("tinynet.seeing.pictures", "matplotlib"),
}
PACKAGE_OF = {"PIL": "pillow", "ml_dtypes": "ml-dtypes"}
NEVER = {"torch", "keras", "tensorflow", "jax", "sklearn", "autograd"}  # no other library's maths
NEVER |= {"pickle", "shelve", "marshal", "joblib", "dill"}  # no format that can execute code


def modules(*folders: str) -> dict[str, Path]:
    """Dotted name -> file."""
    found = {}
    for folder in folders:
        for file in sorted((ROOT / folder).rglob("*.py")):
            parts = file.relative_to(ROOT).with_suffix("").parts
            found[".".join(parts).removesuffix(".__init__")] = file
    return found


SOURCES = modules("tinynet", "examples")
LIBRARY = {name: file for name, file in SOURCES.items() if name.split(".")[0] == "tinynet"}
FILES = modules("tinynet", "examples", "tests", "benchmarks")
each_source = pytest.mark.parametrize("name", SOURCES)
each_library_module = pytest.mark.parametrize("name", LIBRARY)


@cache
def tree(file: Path) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"))


def imports(name: str) -> list[tuple[str, bool]]:
    """(dotted name of a module that this one imports, whether it does so inside a function)."""
    inside = {
        id(inner)
        for node in ast.walk(tree(SOURCES[name]))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        for inner in ast.walk(node)
    }
    found = []
    for node in ast.walk(tree(SOURCES[name])):
        if isinstance(node, ast.Import):
            found += [(alias.name, id(node) in inside) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{name} imports by dots; want the full name"
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                found.append((inner if inner in SOURCES else node.module, id(node) in inside))
    return found


def place(name: str) -> str:
    """The line of ORDER that a module belongs to: the longest that it is, or is inside of."""
    fits = [p for p in ORDER if name == p or (name.startswith(p + ".") and p != "tinynet")]
    assert fits, f"{name} has no line in ORDER: give it one, and a place in docs/design.md"
    return max(fits, key=len)


@each_source
def test_imports_run_one_way(name):
    own = place(name)
    for other, _ in imports(name):
        if other in SOURCES and (name, other) not in DEFERRED:
            theirs = place(other)
            assert theirs == own or ORDER.index(theirs) < ORDER.index(own), (
                f"{name} imports {other}, which comes after it in ORDER"
            )


def test_no_module_imports_itself_in_a_circle():
    graph = {
        name: {
            other
            for other, deferred in imports(name)
            if not deferred and other in SOURCES and not name.startswith(other + ".")
        }
        for name in SOURCES
    }
    assert list(graphlib.TopologicalSorter(graph).static_order())


def test_the_order_is_that_of_the_design():
    table = DESIGN.split("## The house")[1].split("\n## ")[0]
    folders = re.findall(r"`([\w/.]+)`", "\n".join(re.findall(r"^\| (.*?) \|", table, re.M)))
    named, folder = [], ""
    for path in folders:  # `data.py` after `tinynet/layer.py` is in tinynet/ too
        folder = "" if path.startswith(("tinynet/", "examples/")) else "tinynet/"
        named.append((folder + path).removesuffix(".py").rstrip("/").replace("/", "."))
    assert [name for name in named if name not in SOURCES] == []
    order = [ORDER.index(place(name)) for name in named]
    assert len(named) > 10
    assert order == sorted(order)


@each_source
def test_imports_only_what_is_declared(name):
    core, example = requirements("install_requires"), requirements("example")
    allowed = core if name in LIBRARY else core | example
    for other, _ in imports(name):
        top = other.split(".")[0]
        if top in sys.stdlib_module_names or top in ("tinynet", "examples"):
            continue
        package = PACKAGE_OF.get(top, top)
        assert package in allowed or (name, package) in OPTIONAL, f"{package} is not in setup.cfg"


@each_library_module
def test_imports_no_other_deep_learning_library_and_no_pickle(name):
    assert not {other.split(".")[0] for other, _ in imports(name)} & NEVER
    for node in ast.walk(tree(SOURCES[name])):
        if isinstance(node, ast.keyword) and node.arg == "allow_pickle":
            assert isinstance(node.value, ast.Constant)
            assert node.value.value is False


def numpy_uses(node: ast.AST) -> Iterator[tuple[str, int]]:
    """(dotted name, line) of each use of np."""
    inner = set()
    for part in ast.walk(node):
        if isinstance(part, ast.Attribute) and id(part) not in inner:
            names, base = [], part
            while isinstance(base, ast.Attribute):
                inner.add(id(base))
                names.append(base.attr)
                base = base.value
            if isinstance(base, ast.Name) and base.id == "np":
                inner.add(id(base))
                yield ".".join(reversed(names)), part.lineno
        elif isinstance(part, ast.Name) and part.id == "np" and id(part) not in inner:
            yield "np", part.lineno


def functions(module: ast.Module) -> Iterator[ast.FunctionDef]:
    return (node for node in ast.walk(module) if isinstance(node, ast.FunctionDef))


@pytest.mark.parametrize("name", [n for n in LIBRARY if place(n) == "tinynet.layers"])
def test_layers_leave_the_choice_of_library_to_the_array(name):
    """np. in a layer is a generator's type, or the start of a parameter; never maths."""
    started = {
        line
        for function in functions(tree(LIBRARY[name]))
        if function.name == "__init__"
        for use, line in numpy_uses(function)
        if use in ("ones", "zeros")
    }
    wrong = [
        f"{name}:{line}: np.{use}; want xp = array_module(x)"
        for use, line in numpy_uses(tree(LIBRARY[name]))
        if use != "random.Generator" and line not in started
    ]
    assert wrong == []


@pytest.mark.parametrize("name", ["tinynet.losses", "tinynet.optimizers"])
def test_pure_functions_leave_the_choice_of_library_to_the_array(name):
    pure = [
        function
        for function in functions(tree(LIBRARY[name]))
        if function.name.endswith(("_forward", "_backward", "_update"))
    ]
    uses = [use for function in pure for use, _ in numpy_uses(function)]
    assert len(pure) >= 4
    assert set(uses) <= {"errstate"}  # quiets NumPy; CuPy never warns


def class_definitions() -> dict[str, ast.ClassDef]:
    """Class name -> definition, over all sources."""
    return {
        node.name: node
        for file in SOURCES.values()
        for node in ast.walk(tree(file))
        if isinstance(node, ast.ClassDef)
    }


CLASSES = class_definitions()


def inherits_docstring(owner: ast.ClassDef, method: str) -> bool:
    """Whether a base class of the sources documents the method."""
    for base in owner.bases:
        parent = CLASSES.get(ast.unparse(base).split("[")[0].split(".")[-1])
        if parent is None:
            continue
        for node in parent.body:
            if (
                isinstance(node, ast.FunctionDef)
                and node.name == method
                and ast.get_docstring(node)
            ):
                return True
        if inherits_docstring(parent, method):
            return True
    return False


def undocumented(node: ast.Module | ast.ClassDef) -> Iterator[str]:
    """Public functions, classes and methods that have no docstring and inherit none."""
    for part in node.body:
        if isinstance(part, ast.FunctionDef | ast.ClassDef) and not part.name.startswith("_"):
            inherited = isinstance(node, ast.ClassDef) and inherits_docstring(node, part.name)
            setter = any(ast.unparse(d).endswith(".setter") for d in part.decorator_list)
            if not (ast.get_docstring(part) or inherited or setter):
                yield f"{part.name}, line {part.lineno}"
            if isinstance(part, ast.ClassDef):
                yield from undocumented(part)


@each_source
def test_everything_public_has_a_docstring(name):
    assert list(undocumented(tree(SOURCES[name]))) == []
    if SOURCES[name].read_text(encoding="utf-8").strip():
        assert ast.get_docstring(tree(SOURCES[name])), f"{name} has no docstring"


@pytest.mark.parametrize("name", FILES)
def test_files_are_short(name):
    lines = len(FILES[name].read_text(encoding="utf-8").splitlines())
    limit = 350 if name in SOURCES else 700  # a test file mirrors one source file
    assert lines < limit, f"{name} has {lines} lines: part it by purpose"


def test_nothing_is_left_to_do():
    words = re.compile(r"\b(?:TO" + r"DO|FIX" + r"ME|XX" + r"X|NotImplemented" + r"Error)\b")
    files = [*FILES.values(), ROOT / ".ci" / "run"]
    files += [
        *ROOT.glob("*.md"),
        *ROOT.glob("docs/*.md"),
        *ROOT.glob("*.cfg"),
        *ROOT.glob("*.toml"),
    ]
    files += ROOT.glob("examples/**/*.html")
    found = [
        f"{file.relative_to(ROOT)}:{number}"
        for file in files
        for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), start=1)
        if words.search(line)
    ]
    assert found == []


def requirements(*names: str) -> set[str]:
    """Packages of install_requires or of extras in setup.cfg; all of them without names."""
    config = configparser.ConfigParser(interpolation=None)
    config.read(ROOT / "setup.cfg", encoding="utf-8")
    lists = {"install_requires": config["options"]["install_requires"]}
    lists |= config["options.extras_require"]
    lines = [line for name in names or lists for line in lists[name].split("\n")]
    return {
        re.match(r"[\w-]+", line)[0] for line in lines if line.strip() and not line.startswith("%")
    }


def test_every_dependency_is_justified():
    table = DESIGN.split("## Dependencies")[1].split("\n## ")[0]
    first_cells = "\n".join(re.findall(r"^\| (.*?) \|", table, re.M))
    assert requirements() - set(re.findall(r"[\w-]+", first_cells)) == set()


def readme_commands() -> list[str]:
    """The lines of the block under "Two commands"."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    block = re.search(r"## Two commands\n.*?```\w*\n(.*?)```", text, re.S)
    assert block, "README.md has no block of commands under 'Two commands'"
    return [line for line in block[1].splitlines() if line.strip()]


def test_the_readme_has_two_commands_and_ci_runs_the_test_command():
    demo, test = readme_commands()
    assert demo.endswith("python -m examples.mura demo")
    assert "examples.mura.__main__" in SOURCES
    ci = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert test.split(" && ")[-1] in ci
    for command in (demo, test):
        for extra in re.findall(r'"\.\[([\w,]+)\]"', command):
            assert requirements(*extra.split(","))
    assert re.search(r"\.\[([\w,]*\b)?test\b", ci), "CI does not install what the tests need"


def test_the_readme_shows_a_complete_model_by_line_30():
    lines = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    start = lines.index("```python")
    end = lines.index("```", start)
    assert end <= 30
    program = ast.parse("\n".join(lines[start + 1 : end]))
    names = {node.id for node in ast.walk(program) if isinstance(node, ast.Name)}
    assert {"Sequential", "fit"} <= names
