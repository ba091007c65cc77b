"""The rooms of the application: arrows one way, no cycle, no script imported, nothing slow before ``--help``."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "examples" / "cityscapes"
SCRIPTS = ("train", "evaluate", "sample", "transfer", "train_classifier", "app", "inspect_data")
MAY_IMPORT = {
    "config": set(),
    "system": set(),
    "data": {"config", "system"},
    "runs": {"config", "system", "data", "models"},
    "training": {"config", "system", "data", "runs", "models"},
    "judging": {"config", "system", "data", "runs", "models", "training"},
    "using": {"config", "system", "data", "runs", "models"},
    "demo": {"config", "system", "data", "runs", "models", "training", "judging", "using"},
    "models": set(),
}
"""Rooms that each room may import, besides itself."""


def module_name(path):
    """``streets.runs.run`` of its file."""
    return ".".join(path.relative_to(FOLDER).with_suffix("").parts).removesuffix(".__init__")


MODULES = {module_name(path): path for path in sorted(FOLDER.rglob("*.py"))}
INSIDE = [name for name in MODULES if name.split(".")[0] in ("streets", "models")]


def room(name):
    first, _, rest = name.partition(".")
    return rest.partition(".")[0] if first == "streets" else first


def imports(path):
    """Names of the modules of this folder that a file imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: relative import"
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name if name in MODULES else node.module for name in names}
    return found


def test_there_are_rooms_and_scripts():
    assert {room(name) for name in INSIDE if "." in name} == MAY_IMPORT.keys()
    assert {name for name in MODULES if name not in INSIDE} == {*SCRIPTS, "pretrained"}


@pytest.mark.parametrize("name", INSIDE)
def test_arrows_point_one_way(name):
    own = room(name)
    for other in imports(MODULES[name]):
        assert other not in SCRIPTS, f"{name} imports the script {other}"
        if other in MODULES and room(other) != own:
            assert room(other) in MAY_IMPORT[own], f"{name} imports {other}"


def test_no_cycle():
    graph = {name: imports(MODULES[name]) & MODULES.keys() - {name} for name in MODULES}
    while graph:
        leaves = {name for name, others in graph.items() if not others & graph.keys()}
        assert leaves, f"these modules import each other: {', '.join(sorted(graph))}"
        graph = {name: others for name, others in graph.items() if name not in leaves}


def test_scripts_are_thin():
    """A script reads its options and calls one function; each has one configuration, in streets/config."""
    classes = [(node.name, name) for name in MODULES for node in ast.parse(MODULES[name].read_text()).body
               if isinstance(node, ast.ClassDef) and node.name == "Config"]
    assert {name for _, name in classes} == {f"streets.config.{name}" for name in (
        "training", "evaluation", "sampling", "transfer", "classifier", "app", "inspection")}
    for script in SCRIPTS:
        tree = ast.parse(MODULES[script].read_text())
        assert sum(len(ast.unparse(node).splitlines()) for node in tree.body[1:]) < 40, script


@pytest.mark.parametrize("name", MODULES)
def test_code_is_plain(name):
    text = MODULES[name].read_text()
    assert "unittest" not in text
    assert "sys.path" not in text
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            assert node.end_lineno - node.lineno < 65, f"{node.name} is too long to be held in the head"


def test_configurations_need_no_torch():
    """Neither do the scripts, until they work."""
    modules = [name for name in MODULES if name.startswith("streets.config")]
    program = f"import sys, {', '.join((*modules, *SCRIPTS))}\nassert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", program], cwd=FOLDER, check=True)


@pytest.mark.parametrize("script", SCRIPTS)
def test_help_names_every_option_without_torch(script):
    result = subprocess.run([sys.executable, "-X", "importtime", FOLDER / f"{script}.py", "--help"],
                            capture_output=True, text=True, check=True)
    assert "| torch" not in result.stderr
    assert ("--overwrite" in result.stdout) == (script != "app")  # which writes into no directory of the user's
    assert "--device" in result.stdout or script == "inspect_data"  # which computes nothing
