"""The rules that keep the tree a house, held by reading the source."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.conftest import ROOT

PACKAGE = ROOT / "edgepack"
MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted(PACKAGE.rglob("*.py"))
    if "_data" not in path.parts
}
TREES = {name: ast.parse(path.read_text(encoding="utf-8")) for name, path in MODULES.items()}

#: The order in which a model travels. A module imports from its own floor or from a lower one.
FLOORS = (
    (
        "artifact",
        "cache",
        "errors",
        "extends",
        "names",
        "onnxfile",
        "opsets",
        "ortfile",
        "proc",
        "progress",
        "resources",
        "skeleton",
        "topology",
        "weights",
        "workspace",
        "yamlfile",
    ),
    (
        "runtimes",
        "targets",
        "trust",
        "samples",
        "prove",
        "intake",
        "calibrate",
        "divergence",
        "legality",
        "passes",
    ),
    ("bundle",),
    ("flash",),
    ("stages",),
    ("choose",),
    (
        "buildlog",
        "checking",
        "comparison",
        "conversion",
        "inspection",
        "pipeline",
        "quickstart",
        "reduced_runtime",
    ),
    ("cli",),
    ("__main__",),
)
#: Rooms on one floor that do not know each other.
STRANGERS = {
    "samples": ("prove", "intake", "passes", "calibrate", "divergence", "legality"),
    "prove": ("intake", "passes"),
    "intake": ("passes",),
    "passes": ("intake",),
}
#: Slow to import: only where they are used.
HEAVY = ("tensorflow", "onnxruntime", "onnx", "numpy", "pydantic", "rich", "PIL", "asyncssh")


def room(module: str) -> str:
    """`edgepack.passes.int8` → `passes`; the package itself is ``."""
    return [*module.split("."), ""][1]


def floor(name: str) -> int:
    return next(i for i, rooms in enumerate(FLOORS) if name in rooms)


def imports(tree: ast.AST) -> Iterator[str]:
    """Every imported module, functions' own imports and those for type checking too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative import"
            module = node.module or ""
            inside = [f"{module}.{alias.name}" for alias in node.names]
            yield from (name if name in MODULES else module for name in inside)


def own_imports(module: str) -> set[str]:
    return {name for name in imports(TREES[module]) if name.split(".")[0] == "edgepack"}


INNER = [m for m in MODULES if m != "edgepack"]


def test_the_tree_was_found() -> None:
    assert len(MODULES) > 30
    assert "edgepack.passes.int8" in MODULES
    assert "edgepack.passes.registry" in own_imports("edgepack.passes.plan")


@pytest.mark.parametrize("module", INNER)
def test_imports_go_one_way(module: str) -> None:
    here = floor(room(module))
    upward = {name for name in own_imports(module) if room(name) and floor(room(name)) > here}
    assert not upward


@pytest.mark.parametrize("module", INNER)
def test_rooms_on_one_floor_do_not_know_each_other(module: str) -> None:
    strangers = STRANGERS.get(room(module), ())
    assert not {name for name in own_imports(module) if room(name) in strangers}


def test_nothing_imports_the_command_line() -> None:
    users = {m for m in MODULES if any(room(n) == "cli" for n in own_imports(m))}
    assert {room(m) for m in users} <= {"cli", "__main__"}


def test_only_proc_starts_processes() -> None:
    starters = ("subprocess", "multiprocessing", "pty", "asyncio")
    users = {
        m for m, tree in TREES.items() if any(n.split(".")[0] in starters for n in imports(tree))
    }
    # asyncio drives the connections in flash, and starts nothing there.
    assert {m for m in users if room(m) != "flash"} == {"edgepack.proc"}
    assert not {
        f"{m}: {node.attr}"
        for m, tree in TREES.items()
        if room(m) == "flash"
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and node.attr.startswith("create_subprocess")
    }
    calls = {
        m
        for m, tree in TREES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id == "os"
        and node.attr.startswith(("system", "popen", "spawn", "exec", "fork", "posix_spawn"))
    }
    assert not calls


def test_only_what_the_child_loads_and_the_training_script_import_tensorflow() -> None:
    frameworks = ("tensorflow", "keras", "tf2onnx", "sklearn")
    users = {
        m for m, tree in TREES.items() if any(n.split(".")[0] in frameworks for n in imports(tree))
    }
    child = ("tensorflow.", "tflite.", "vet.", "child_model", "mapping")
    rest = {m for m in users if not m.removeprefix("edgepack.intake.").startswith(child)}
    assert rest == {"edgepack.quickstart.train"}


@pytest.mark.parametrize("module", MODULES)
def test_there_are_no_relative_imports(module: str) -> None:
    levels = [n.level for n in ast.walk(TREES[module]) if isinstance(n, ast.ImportFrom)]
    assert not any(levels)


@pytest.mark.parametrize("module", MODULES)
def test_a_file_has_at_most_350_lines(module: str) -> None:
    assert len(MODULES[module].read_text(encoding="utf-8").splitlines()) <= 350


def test_no_targets_name_stands_in_the_code() -> None:
    names = {p.stem for p in (ROOT / "targets").glob("*.yaml")}
    assert {"android", "web"} <= names
    found = [
        f"{module}:{node.lineno}: {node.value!r}"
        for module, tree in TREES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and node.value in names
    ]
    assert not found


@pytest.mark.parametrize("module", MODULES)
def test_every_public_name_says_what_it_is(module: str) -> None:
    tree = TREES[module]
    public = [
        node
        for node in tree.body
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef))
        and not node.name.startswith("_")
    ]
    silent = [node.name for node in public if not ast.get_docstring(node)]
    assert not silent
    assert ast.get_docstring(tree)


@pytest.mark.parametrize("module", MODULES)
def test_no_module_changes_state_of_its_own(module: str) -> None:
    """No `global`, and no empty list, dict or set at module level waiting to be filled."""
    tree = TREES[module]
    assert not [n for n in ast.walk(tree) if isinstance(n, ast.Global)]
    filled_later = [
        node.lineno
        for node in tree.body
        if isinstance(node, (ast.Assign, ast.AnnAssign))
        and isinstance(node.value, (ast.List, ast.Dict))
        and not ast.unparse(node.value).strip("[]{}")
    ]
    assert not filled_later


# What an import pulls in


def loaded(code: str) -> set[str]:
    """Which of HEAVY a fresh interpreter has loaded after `code`."""
    script = f"import sys, json\n{code}\nprint(json.dumps(sorted(sys.modules)), file=sys.stderr)"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    return set(HEAVY) & set(json.loads(done.stderr.splitlines()[-1]))


def test_import_edgepack_loads_nothing_heavy() -> None:
    assert loaded("import edgepack, edgepack.errors") == set()
    assert "numpy" in loaded("import edgepack; edgepack.build")


def test_the_command_line_starts_without_anything_heavy() -> None:
    assert loaded("import edgepack.cli.app") == set()


@pytest.mark.parametrize("arguments", [["--help"], ["build", "--help"], ["--version"]])
def test_help_loads_nothing_heavy(arguments: list[str]) -> None:
    code = (
        f"sys.argv = ['edgepack', *{arguments}]\n"
        "from edgepack.cli.app import main\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert end.code == 0, end.code"
    )
    # typer itself loads pydantic for a command's parameters (0.29).
    assert loaded(code) <= ({"pydantic"} if "build" in arguments else set())


def test_every_name_of_the_api_is_there() -> None:
    import edgepack

    assert {name for name in edgepack.__all__ if not hasattr(edgepack, name)} == set()
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = edgepack.no_such_name
