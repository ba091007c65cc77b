"""The package: its public names and their documentation, its metadata, the size of its files and its import."""

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
from condflows import affine, conditioners, estimator, plots, testing

ROOT = Path(__file__).parents[1]
SOURCES = sorted(path for folder in ("condflows", "examples") for path in (ROOT / folder).rglob("*.py"))
PYTHON_FILES = sorted([ROOT / "conftest.py", ROOT / "docs" / "conf.py", *(
    path for folder in ("condflows", "examples", "tests", *(f"docs/{name}" for name in (
        "_ext", "figures", "gallery", "recipe", "tutorial")))
    for path in (ROOT / folder).rglob("*.py"))])
PUBLIC = {
    f"{module.__name__}.{name}": getattr(module, name)
    for module in (condflows, affine, conditioners, estimator, plots, testing)
    for name in module.__all__
}
MODULES = ("affine", "conditioners", "estimator", "plots", "testing")
CODE = {name: value for name, value in PUBLIC.items() if inspect.isclass(value) or inspect.isfunction(value)}


def documented_names():
    """Return the full names of all that the pages of docs/api document, as often as they do."""
    names = []
    for page in sorted((ROOT / "docs" / "api").glob("*.rst")):
        module = ""
        for directive, name in re.findall(r"^\.\. (\w+):: ([\w.]+)", page.read_text(), re.MULTILINE):
            if directive in ("currentmodule", "automodule"):
                module = name
            if directive == "automodule":
                names.append(name)
            elif directive.startswith("auto"):
                names.append(f"{module}.{name}")
    return names


def code_lines(path):
    """Count the lines of a file that hold code: no blank lines, comments or docstrings."""
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
def test_public_names_are_on_one_page_of_the_api(name):
    value = PUBLIC[name]
    aliases = {other for other, same in PUBLIC.items() if same is value}
    if inspect.ismodule(value):
        aliases.add(value.__name__)
    places = [documented for documented in documented_names() if documented in aliases]
    assert len(places) == 1, f"document {name} on one of the pages of docs/api, got {places}"


def test_the_api_pages_document_public_names_only():
    assert set(documented_names()) <= set(PUBLIC) | {f"condflows.{name}" for name in MODULES}


def test_the_first_page_of_the_api_links_to_all_names_and_pages():
    page = (ROOT / "docs" / "api.rst").read_text()
    linked = re.findall(r"^(?:   \*|    ) .*$", page, re.MULTILINE)
    names = re.findall(r":(?:class|func|data):`~([\w.]+)`", "\n".join(linked))
    modules = {f"condflows.{name}" for name in MODULES}
    assert sorted(names) == sorted(set(documented_names()) - modules)
    pages = {f"api/{path.stem}" for path in (ROOT / "docs" / "api").glob("*.rst")}
    assert set(re.findall(r"^   (api/\w+)$", page, re.MULTILINE)) == pages


SAYS = {
    "an example": r"^ *>>> ",
    "its map, as a formula": r":math:`|math::",
    "its shapes": r"[Ss]hapes?\b",
    "its source": r"arXiv|Paper: none",
    "its errors": r"^ *Raises:|raises nothing",
    "its log-determinant, with its unit": r"Log-determinant[^.]* (in nats|0)|logabsdet``[^.]* in nats",
    "the unit of log-densities": r"in nats|nats to bits",
}
OF_NETS = {"an example", "its map, as a formula", "its shapes", "its source", "its errors"}


def expected(value):
    """Return the list of what the docstring of a public class or function must say."""
    if (inspect.isclass(value) and issubclass(value, condflows.Bijector)) or value in (
            condflows.glow_step, condflows.multiscale):
        return OF_NETS | {"its log-determinant, with its unit"}
    if value in (condflows.Flow, condflows.PairedFlow, condflows.bits_per_dim):
        return OF_NETS | {"the unit of log-densities"}
    if inspect.isclass(value) and issubclass(value, torch.nn.Module):
        return OF_NETS
    if value is condflows.Trace:
        return OF_NETS - {"its map, as a formula"}
    if value.__module__.startswith("condflows.testing") or value is condflows.compile_steps:
        return {"an example"}  # no maps
    if value.__module__.startswith("condflows.plots"):
        return OF_NETS - {"its map, as a formula"}
    return OF_NETS


@pytest.mark.parametrize("name", CODE)
def test_the_docstring_alone_says_it_all(name):
    text = inspect.getdoc(CODE[name]) or ""
    missing = [what for what in sorted(expected(CODE[name])) if not re.search(SAYS[what], text, re.MULTILINE)]
    assert not missing, f"the docstring of {name} lacks {', '.join(missing)}"


@pytest.mark.parametrize("name", CODE)
def test_docstrings_begin_with_what_it_does(name):
    """Check that functions' docstrings open with a verb, and that public methods have docstrings."""
    value = CODE[name]
    assert value.__doc__, f"{name} has no docstring"
    if inspect.isfunction(value):
        assert not re.match(r"(A|An|The|This|Where|What|Whether)\b", inspect.getdoc(value)), name
    if inspect.isclass(value):
        for attribute, member in vars(value).items():
            if not attribute.startswith("_") and (inspect.isfunction(member) or isinstance(member, property)):
                public = getattr(value, attribute)
                forward_of_a_net = attribute == "forward" and name.startswith("condflows.conditioners.")
                assert inspect.getdoc(public) or forward_of_a_net, f"{name}.{attribute} has no docstring"


@pytest.mark.parametrize("path", PYTHON_FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_docstrings_say_what_a_thing_is(path):
    """Refuse first lines that open with a question word or "of": of modules, classes, functions and fields."""
    strings = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Expr)
               and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)]
    cryptic = [f"line {node.lineno}: {first}" for node in strings
               if re.match(r"(What|Which|Whether|Of|How|Where|Those)\b", first := node.value.value.strip())]
    assert not cryptic, "\n".join(line.partition("\n")[0] for line in cryptic)


def test_version():
    assert importlib.metadata.version("condflows") == condflows.__version__, "install the checkout again"


def test_dependencies():
    requirements = importlib.metadata.requires("condflows") or []
    required = {re.split(r"[^\w-]", line)[0] for line in requirements if "extra ==" not in line}
    assert required == {"torch", "numpy", "nflows", "tqdm"}


def test_typed():
    assert importlib.resources.files("condflows").joinpath("py.typed").is_file()


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_file_can_be_held_in_the_head(path):
    assert code_lines(path) <= 150


def test_an_operation_is_short():
    assert code_lines(ROOT / "condflows" / "couplings" / "affine.py") <= 70


def test_code_lines_are_counted_without_blanks_comments_and_docstrings(tmp_path):
    path = tmp_path / "example.py"
    header = '"""Two\n\nlines."""\n\n# why\n'
    path.write_text(header + 'x = (\n    1,  # one\n\n)\n\n\ndef f():\n    """Doc."""\n    return x\n')
    assert code_lines(path) == 5


def test_import_is_quick():
    """Import in less than half a second on top of torch and nflows, at the best of three tries."""
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
