"""The rules of docs/design.md that no single function can keep: imports, dependencies, README."""

import ast
import configparser
import graphlib
import importlib
import inspect
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DESIGN = (ROOT / "docs" / "design.md").read_text(encoding="utf-8")

# The floors of the house, from the ground up: a module imports from its own floor and those below.
# docs/design.md, "The house", has the same.
FLOORS = {
    "ground": "_version backend layer",
    "report": "layers losses optimizers schedules initializers regularizers metrics ensemble"
    " models",
    "checker": "gradient_check",
    "testing": "testing",
    "engine": "engine",
    "train": "train",
    "tools": "interop visualize doctor __main__",
    "examples": "examples",
}
REPORT_ALONE = ("ground", "report", "checker", "testing")  # know nothing of the engine

# Imported when it is called: the checker's tour.
DEFERRED = {("tinynet.gradient_check.__main__", "tinynet.testing.tour")}

# What tinynet needs besides the core's dependencies, and where.
OPTIONAL = {
    ("tinynet.testing", "hypothesis"),
    ("tinynet.gradient_check", "matplotlib"),
    ("tinynet.gradient_check.pytest_plugin", "pytest"),
    ("tinynet.interop", "h5py"),
    ("tinynet.interop", "onnx"),
    ("tinynet.engine", "ml-dtypes"),
    ("tinynet.engine.kernels.numba", "numba"),
    ("tinynet.engine.kernels.numba", "llvmlite"),  # a part of numba
    ("tinynet.visualize", "matplotlib"),
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
# One-line modules keep the import paths of version 0.1 alive; they are not part of the house.
MOVED = {name for name, file in SOURCES.items() if '"""Moved to' in file.read_text("utf-8")[:12]}
SOURCES = {name: file for name, file in SOURCES.items() if name not in MOVED}
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


def floor(name: str) -> int:
    """Number of the floor that a module is on, from 0."""
    top, _, rest = name.partition(".")
    room = rest.partition(".")[0] if top == "tinynet" else top
    found = [i for i, rooms in enumerate(FLOORS.values()) if room in rooms.split()]
    assert found, f"{name} is on no floor: give it a place in FLOORS and in docs/design.md"
    return found[0]


RULES = [
    name for name in LIBRARY if re.fullmatch(r"tinynet\.optimizers\.(?!base|clipping)\w+", name)
]


@each_source
def test_imports_run_downwards(name):
    if name == "tinynet":
        return
    for other, _ in imports(name):
        if other not in SOURCES or (name, other) in DEFERRED:
            continue
        assert other != "tinynet" or not name.startswith("tinynet."), f"{name} imports the root"
        if other != "tinynet":
            assert floor(other) <= floor(name), f"{name} imports {other}, from a floor above"


def test_the_report_knows_nothing_of_the_engine():
    alone = {list(FLOORS).index(name) for name in REPORT_ALONE}
    for name in LIBRARY:
        if name != "tinynet" and floor(name) in alone:
            assert not [n for n, _ in imports(name) if n.startswith("tinynet.engine")], name


def test_train_uses_only_what_the_door_of_the_engine_offers():
    used = {
        other
        for name in LIBRARY
        if name.startswith("tinynet.train")
        for other, _ in imports(name)
        if other.startswith("tinynet.engine")
    }
    assert used == {"tinynet.engine"}


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


def test_the_floors_are_those_of_the_design():
    table = DESIGN.split("## The house")[1].split("\n## ")[0]
    named = set(re.findall(r"`(?:tinynet/)?(\w+)(?:\.py|/)`", table))
    assert {room for rooms in FLOORS.values() for room in rooms.split()} - named == {"examples"}


def test_few_names_at_the_top():
    top = {name.split(".")[1] for name in LIBRARY if name != "tinynet"} - {"__main__"}
    assert len(top) <= 20, sorted(top)


@each_source
def test_imports_only_what_is_declared(name):
    core, example = requirements("install_requires"), requirements("example")
    allowed = core if name in LIBRARY else core | example
    for other, _ in imports(name):
        top = other.split(".")[0]
        if top in sys.stdlib_module_names or top in ("tinynet", "examples"):
            continue
        package = PACKAGE_OF.get(top, top)
        optional = any(name.startswith(room) for room, needs in OPTIONAL if needs == package)
        assert package in allowed or optional, f"{package} is not in setup.cfg"


def test_import_tinynet_needs_numpy_alone():
    """Everything else is imported where it is used: the library also runs in a browser."""
    code = (
        "import sys, numpy\n"
        "sys.path[:] = [p for p in sys.path if 'site-packages' not in p]\n"
        "import tinynet, tinynet.models, tinynet.train, tinynet.visualize, tinynet.doctor\n"
        "import tinynet.gradient_check, tinynet.testing.planted\n"
        "print(tinynet.check_gradients, tinynet.draw, tinynet.fit)\n"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert run.returncode == 0, run.stderr


@each_library_module
def test_imports_no_other_deep_learning_library_and_no_pickle(name):
    assert not {other.split(".")[0] for other, _ in imports(name)} & NEVER
    for node in ast.walk(tree(SOURCES[name])):
        if isinstance(node, ast.keyword) and node.arg == "allow_pickle":
            assert isinstance(node.value, ast.Constant)
            assert node.value.value is False


def numpy_uses(node: ast.AST) -> Iterator[tuple[str, int]]:
    """(dotted name, line) of each use of np."""
    parts = list(ast.walk(node))
    inner = {id(part.value) for part in parts if isinstance(part, ast.Attribute)}
    for part in parts:
        whole = isinstance(part, ast.Attribute | ast.Name) and id(part) not in inner
        if whole and re.fullmatch(r"np(\.\w+)*", name := ast.unparse(part)):
            yield name.removeprefix("np."), part.lineno


def functions(module: ast.Module) -> Iterator[ast.FunctionDef]:
    return (node for node in ast.walk(module) if isinstance(node, ast.FunctionDef))


@pytest.mark.parametrize("name", [n for n in LIBRARY if n.startswith("tinynet.layers")])
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


@pytest.mark.parametrize("name", ["tinynet.losses.cross_entropy", *RULES])
def test_pure_functions_leave_the_choice_of_library_to_the_array(name):
    pure = [
        function
        for function in functions(tree(LIBRARY[name]))
        if function.name.endswith(("_forward", "_backward", "_update"))
    ]
    uses = [use for function in pure for use, _ in numpy_uses(function)]
    assert pure
    assert set(uses) <= {"errstate"}  # quiets NumPy; CuPy never warns


@pytest.mark.parametrize("name", LIBRARY)
def test_what_a_module_exports_has_a_docstring(name):
    """Public is what ``__all__`` lists; functions, classes and their public methods."""
    module = importlib.import_module(name) if name != "tinynet.__main__" else None
    for public in getattr(module, "__all__", []):
        value = getattr(module, public)
        if not (inspect.isclass(value) or inspect.isfunction(value)):
            continue
        assert inspect.getdoc(value), f"{name}.{public} has no docstring"
        if inspect.isclass(value) and value.__module__.startswith("tinynet"):
            for method, function in vars(value).items():
                if inspect.isfunction(function) and not method.startswith("_"):
                    assert inspect.getdoc(getattr(value, method)), f"{name}.{public}.{method}"


def test_nothing_is_left_to_do():
    words = re.compile(r"\b(?:TO" + r"DO|FIX" + r"ME|XX" + r"X)\b")
    files = [*FILES.values(), ROOT / ".ci" / "run"]
    for pattern in ("*.md", "docs/*.md", "*.cfg", "*.toml", "examples/**/*.html"):
        files += ROOT.glob(pattern)
    found = [
        f"{file.relative_to(ROOT)}:{number}"
        for file in files
        for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), start=1)
        if words.search(line)
    ]
    assert found == []


def test_no_test_fixes_what_hypothesiss_profile_decides():
    fixed = re.compile(r"\b(?:derandomize|database|deadline)=|@seed\(")
    files = {name: file for name, file in modules("tests").items() if "conftest" not in name}
    del files["tests.test_house"]
    assert [n for n, file in files.items() if fixed.search(file.read_text(encoding="utf-8"))] == []


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
    assert "pytest" in test
    ci = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert "README.md" in ci, "CI does not read its test command from the README"
    for command in (demo, test):
        for extra in re.findall(r'"\.\[([\w,]+)\]"', command):
            assert requirements(*extra.split(","))


def test_the_readme_shows_a_complete_model_by_line_30():
    lines = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    start = lines.index("```python")
    end = lines.index("```", start)
    assert end <= 30
    program = ast.parse("\n".join(lines[start + 1 : end]))
    names = {node.id for node in ast.walk(program) if isinstance(node, ast.Name)}
    assert {"Sequential", "fit"} <= names
