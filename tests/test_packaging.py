"""What a user gets: the public names, their documentation, the package's metadata, its size and its import."""

import ast
import importlib.metadata
import importlib.resources
import inspect
import io
import re
import subprocess
import sys
import tokenize
from pathlib import Path

import pytest
import torch

import condflows
from condflows import affine, conditioners, testing

ROOT = Path(__file__).parents[1]
SOURCES = sorted((ROOT / "condflows").glob("*.py"))
PUBLIC = {
    f"{module.__name__}.{name}": getattr(module, name)
    for module in (condflows, affine, conditioners, testing)
    for name in module.__all__
}
CODE = {name: value for name, value in PUBLIC.items() if inspect.isclass(value) or inspect.isfunction(value)}


def documented_names():
    """The full names of all that docs/api.rst documents, and what it says of each beside the docstring."""
    page = (ROOT / "docs" / "api.rst").read_text()
    names, module = {}, ""
    for directive, name, body in re.findall(r"^\.\. (\w+):: ([\w.]+)(?:\(\))?\n((?:\n|   .*\n)*)", page, re.MULTILINE):
        if directive in ("currentmodule", "automodule"):
            module = name
            names[name] = body
        elif directive.startswith("auto"):
            names[f"{module}.{name}"] = body
    return names


def documentation(name):
    """The docstring of a public name, and what docs/api.rst adds to it."""
    value, documented = PUBLIC[name], documented_names()
    added = [documented.get(other, "") for other, same in PUBLIC.items() if same is value]
    return "\n".join([value.__doc__ or "", *added])


def code_lines(path):
    """The lines of a file that hold code: no blank lines, comments or docstrings."""
    source = path.read_text()
    lines = set()
    ignored = (tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER)
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in ignored:
            lines.update(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            lines.difference_update(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    return len(lines)


@pytest.mark.parametrize("name", PUBLIC)
def test_public_names_are_in_the_api_pages(name):
    value = PUBLIC[name]
    aliases = {other for other, same in PUBLIC.items() if same is value}
    if inspect.ismodule(value):
        aliases.add(value.__name__)
    assert aliases & set(documented_names()), f"add {name} to docs/api.rst"


def test_the_api_pages_document_public_names_only():
    modules = {"condflows", "condflows.affine", "condflows.conditioners", "condflows.testing"}
    assert set(documented_names()) <= set(PUBLIC) | modules


@pytest.mark.parametrize("name", CODE)
def test_public_names_have_an_example(name):
    """In the docstring, which pytest runs, or on the API page, which the documentation's doctests run."""
    assert ">>>" in documentation(name), f"show {name} in a doctest"


@pytest.mark.parametrize("name", CODE)
def test_bijectors_and_flows_have_a_map_shapes_and_a_paper(name):
    text = documentation(name)
    if inspect.isclass(CODE[name]) and issubclass(CODE[name], (torch.nn.Module,)):
        assert ":math:" in text or "math::" in text, f"write down the map of {name}"
        assert re.search(r"[Ss]hapes?\b", text), f"say the shapes of {name}"
    if inspect.isclass(CODE[name]) and issubclass(CODE[name], condflows.Bijector) and name != "condflows.Inverse":
        assert "arXiv" in text, f"name the paper of {name}"


@pytest.mark.parametrize("name", CODE)
def test_docstrings(name):
    """Public code and its methods say what they do; bijectors state their log-determinant or show it."""
    value = CODE[name]
    assert value.__doc__, f"{name} has no docstring"
    if inspect.isclass(value):
        for attribute, member in vars(value).items():
            if not attribute.startswith("_") and (inspect.isfunction(member) or isinstance(member, property)):
                public = getattr(value, attribute)
                forward_of_a_net = attribute == "forward" and name.startswith("condflows.conditioners.")
                assert inspect.getdoc(public) or forward_of_a_net, f"{name}.{attribute} has no docstring"
        if issubclass(value, condflows.Bijector):
            assert re.search(r"log-determinant|logabsdet|>>>", value.__doc__, re.IGNORECASE), (
                f"the docstring of {name} should state its log-determinant or show it in a doctest")


def test_version():
    assert importlib.metadata.version("condflows") == condflows.__version__, "install the checkout again"


def test_dependencies():
    requirements = importlib.metadata.requires("condflows") or []
    required = {re.split(r"[^\w-]", line)[0] for line in requirements if "extra ==" not in line}
    assert required == {"torch", "numpy", "nflows"}


def test_typed():
    assert importlib.resources.files("condflows").joinpath("py.typed").is_file()


def test_sizes():
    assert sum(len(path.read_text().splitlines()) for path in SOURCES) < 2000
    assert code_lines(ROOT / "condflows" / "coupling.py") <= 70


def test_code_lines_are_counted_without_blanks_comments_and_docstrings(tmp_path):
    path = tmp_path / "example.py"
    header = '"""Two\n\nlines."""\n\n# why\n'
    path.write_text(header + 'x = (\n    1,  # one\n\n)\n\n\ndef f():\n    """Doc."""\n    return x\n')
    assert code_lines(path) == 5


def test_import_is_quick():
    """Less than half a second on top of torch and nflows, at the best of three tries."""
    script = (
        "import time, torch, nflows.transforms, nflows.flows\n"
        "start = time.perf_counter()\n"
        "import condflows\n"
        "print(time.perf_counter() - start)"
    )

    def seconds():
        done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
        return float(done.stdout)

    tries = []
    while len(tries) < 3 and min(tries, default=1.0) >= 0.5:
        tries.append(seconds())
    assert min(tries) < 0.5
