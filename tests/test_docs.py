"""The documentation: Sphinx runs every block of code in its pages, and CONTRIBUTING.md names what is in the tree."""

import ast
import builtins
import pkgutil
import re
from pathlib import Path

import pytest

from condflows import plots

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.glob("*.md"))
RUN = {"{doctest}", "{testcode}", "{testsetup}"}
OTHER = {"{testoutput}", "{toctree}", "{figure}", "{grid}", "{grid-item}", "{grid-item-card}", "{include}",
         "{literalinclude}", "{model-table}", "{model-diagram}", "text", "sh"}
BY_HAND = {
    "conventions.md": 1,  # needs the package of the hub, tested in tests/examples/test_model_files.py
    "numerical_safety.md": 1,  # needs a trained run
    "reproducing.md": 1,  # needs a checkpoint of the authors, tested in tests/examples/test_published.py
    "scaling.md": 1,  # needs two processes, tested in tests/test_wrappers.py
}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_block_of_code_is_run(page):
    text = page.read_text()
    kinds = [fence.split()[0] if fence else "" for fence in re.findall(r"^`{3,}(.*)$", text, re.MULTILINE) if fence]
    assert set(kinds) <= RUN | OTHER | {"python"}
    assert kinds.count("python") == BY_HAND.get(page.name, 0)
    for code in re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        compile(code, page.name, "exec")


def test_code_that_is_shown_from_a_file_is_tested():
    """Allow test files alone, as Sphinx shows what it includes and does not run it."""
    shown = [name for page in PAGES for name in re.findall(r"^`{3,}\{literalinclude\} (\S+)", page.read_text(), re.M)]
    assert shown
    for name in shown:
        path = (DOCS / name).resolve()
        assert path.is_file()
        assert path.is_relative_to(ROOT / "tests")
        assert path.name.startswith("test_")


def test_the_page_on_variational_inference_has_the_examples_diagnostic():
    """Compare it word for word, as tests/test_variational_inference.py tests that of the example."""
    source = (ROOT / "examples" / "variational_inference.py").read_text()
    page = (DOCS / "variational_inference.md").read_text()
    (function,) = [ast.get_source_segment(source, node) for node in ast.parse(source).body
                   if isinstance(node, ast.FunctionDef) and node.name == "pareto_k"]
    assert function in page


SCRIPTS = sorted(path for folder in ("tutorial", "recipe", "gallery") for path in (DOCS / folder).glob("*.py"))


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_every_picture_of_a_script_has_a_title(script):
    """Check that, as sphinx-gallery takes the text that stands in for a picture from its titles."""
    parts = script.read_text().split("plt.show()")
    assert len(parts) > 1
    assert not [part[-300:] for part in parts[:-1] if not re.search(r"\.suptitle\(|title\(\"|title=\"\w{4,} \w+", part)]


@pytest.mark.parametrize("script", sorted((DOCS / "recipe").glob("*.py")), ids=lambda path: path.stem)
def test_a_recipe_trains_and_gives_a_number(script):
    source = script.read_text()
    assert "cf.fit(" in source
    assert re.search(r"^ *print\(f", source, re.MULTILINE)
    assert re.search(r"^ *assert .*[<>]", source, re.MULTILINE)  # the build of this site checks it


def test_the_recipes_are_linked_from_the_first_page():
    assert len(list((DOCS / "recipe").glob("*.py"))) >= 5
    assert "recipes/index" in (DOCS / "index.md").read_text()


def test_the_gallery_has_a_page_for_every_plot():
    scripts = {path.stem.removeprefix("plot_"): path.read_text() for path in (DOCS / "gallery").glob("*.py")}
    assert sorted(scripts) == sorted(plots.__all__)
    for name, script in scripts.items():
        assert f":func:`condflows.plots.{name}`" in script
        assert f"plots.{name}(" in script


def test_the_gallery_has_the_picture_of_every_example():
    page = (DOCS / "gallery" / "GALLERY_HEADER.rst").read_text()
    for path in sorted((ROOT / "examples").glob("*.py")):
        picture = f"figures/examples/{path.stem}.png"
        assert f"``examples/{path.name}``:" in page
        assert f":img-top: /{picture}\n" in page
        assert (DOCS / picture).is_file()
    assert page.count(":img-alt: ") == page.count(":img-top: ")


def test_descriptions_and_links_of_the_site(tmp_path):
    """Build a small site: its page is described by its first paragraph, and the script that it names can be loaded."""
    application = pytest.importorskip("sphinx.application")
    source = tmp_path / "docs"
    source.mkdir()
    (tmp_path / "examples").mkdir()
    (tmp_path / "examples" / "here.py").write_text("print(1)\n")
    (source / "conf.py").write_text(f"import sys\nsys.path.append({str(DOCS / '_ext')!r})\n"
                                    "extensions = ['descriptions', 'script_links']\n")
    (source / "index.rst").write_text(
        "Title\n=====\n\n.. note::\n\n   Not this text, however long it may be in the end.\n\n"
        "A description of pages with a <, which is long enough.\n\n``examples/here.py`` and ``examples/there.py``.\n")
    out = str(tmp_path / "out")
    application.Sphinx(str(source), str(source), out, out, "html", status=None, warning=None).build()
    page = (tmp_path / "out" / "index.html").read_text()
    assert '<meta name="description" content="A description of pages with a &lt;, which is long enough."' in page
    assert len(re.findall(r'href="_downloads/\w+/here\.py"', page)) == 1
    assert "there.py" in page
    assert not re.search(r'href="[^"]*there\.py"', page)


def test_thumbnails_have_the_texts_of_their_pictures(tmp_path):
    """Build an index of two pages, one of which chooses its second picture."""
    application = pytest.importorskip("sphinx.application")
    folder = tmp_path / "docs" / "jobs"
    folder.mkdir(parents=True)
    (tmp_path / "docs" / "conf.py").write_text(f"import sys\nsys.path.append({str(DOCS / '_ext')!r})\n"
                                               "extensions = ['thumbnails']\nexclude_patterns = ['jobs']\n")
    index = "Title\n=====\n"
    for name, script in {"one": "", "two": "# sphinx_gallery_thumbnail_number = 2\n"}.items():
        index += f"\n.. image:: /jobs/images/thumb/sphx_glr_{name}_thumb.png\n    :alt:\n"
        (folder / f"{name}.py").write_text(script)
        (folder / f"{name}.rst").write_text(f".. image-sg:: a\n   :alt: {name}, first\n\n"
                                            f".. image-sg:: b\n   :alt: {name}, second\n")
    (tmp_path / "docs" / "index.rst").write_text(index)
    source, out = str(tmp_path / "docs"), str(tmp_path / "out")
    application.Sphinx(source, source, out, out, "html", status=None, warning=None).build()
    page = (tmp_path / "out" / "index.html").read_text()
    assert re.findall(r'<img alt="(.*?)"', page) == ["one, first", "two, second"]


def test_the_landing_page_shows_the_first_part_of_the_readme():
    """Check that the markers between which it includes the README are there, around both examples."""
    page, readme = (DOCS / "index.md").read_text(), (ROOT / "README.md").read_text()
    first, last = re.findall(r':(?:start-after|end-before): "(<!-- .*? -->)"', page)
    shown = readme.partition(first)[2].partition(last)[0]
    assert shown.count("```python") == readme.count("```python") == 2
    assert "docs/figures/first_spiral.png" in shown


CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text()
FILE = r"[\w./<>-]+\.(?:py|md|toml|rst|yaml|cff|txt)\b"
NOT_PYTHON = {"PYTHON", "Unreleased", "Repository", "Documentation", "Changelog", "version", "dependencies"}
TREE = re.compile(r"^## How the code is organised\n(.*?)(?=^\S)", re.MULTILINE | re.DOTALL)


def found(name, *folders):
    """Tell whether a file or folder of this name is in one of the folders; ``<name>`` stands for any name."""
    return any(next(folder.glob(re.sub(r"<\w+>", "*", name.rstrip("/"))), None) for folder in folders)


def missing_from_tree(text):
    """List the files and folders that the page's drawing of the tree names and the tree lacks.

    A line begins with names of files and folders. They are in the folder of the line above that is indented less. Two
    spaces separate them from a text, which may name files too.
    """
    missing, folders = [], [(-1, ROOT)]
    (drawing,) = TREE.findall(text)
    for line in filter(str.strip, drawing.splitlines()):
        indent = len(line) - len(line.lstrip())
        while folders[-1][0] >= indent:
            folders.pop()
        parent = folders[-1][1]
        listed, _, note = line.strip().partition("  ")
        names = listed.split()
        if not all(name.endswith("/") or re.fullmatch(FILE, name) for name in names):  # a further line of text
            names, note = [], line
        missing += [name for name in names if not found(name, parent, ROOT)]
        if len(names) == 1 and names[0].endswith("/"):
            folders.append((indent, parent / names[0] if found(names[0], parent) else ROOT / names[0]))
        words = [word.strip("`,;:()").rstrip(".") for word in note.split()]
        paths = [word for word in words if "/" in word and (word.endswith("/") or (ROOT / word.split("/")[0]).is_dir())]
        files = [word for word in words if re.fullmatch(FILE, word)]
        missing += [name for name in dict.fromkeys(paths + files) if not found(name, folders[-1][1], parent, ROOT)]
    return missing


def missing_files(text):
    """List the files that a page names and the tree lacks; those of the library may be named without their folder."""
    names = {name for name in re.findall(FILE, TREE.sub("", text)) if not name.startswith("//")}
    library = [ROOT / "condflows", *(path for path in (ROOT / "condflows").rglob("*") if path.is_dir())]
    return sorted(name for name in names if not found(name, ROOT, *([] if "/" in name else library)))


def names_of(path):
    """Return the names of all functions, classes, arguments and variables of a module."""
    nodes = list(ast.walk(ast.parse(path.read_text())))
    defined = {node.name for node in nodes if isinstance(node, (ast.FunctionDef, ast.ClassDef))}
    stored = {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    return defined | stored | {node.arg for node in nodes if isinstance(node, ast.arg)}


def exists(name):
    """Tell whether a dotted name can be imported."""
    try:
        return pkgutil.resolve_name(name) is not None
    except (ImportError, AttributeError):
        return False


def missing_names(text):
    """List the Python names in backticks that the library lacks, or the module lacks to which the page ascribes them.

    The page ascribes names by "`a` and `b` of `c.py`" or "`a` in `c.py`". A call is the name of its function.
    """
    text = re.sub(r"\s+", " ", re.sub(r"^```.*?^```", "", TREE.sub("", text), flags=re.MULTILINE | re.DOTALL))
    modules = sorted((ROOT / "condflows").rglob("*.py"))
    missing, elsewhere = [], set()
    for quoted, module in re.findall(r"((?:`[^`]+`(?:,? and|,)? )+)(?:of|in) `([^`]+\.py)`", text):
        names = set(re.findall(r"`(\w+)(?:\([^`]*\))?`", quoted))
        paths = [path for path in (ROOT / module, *modules) if path.is_file() and path.match(module)]
        known = set().union(*map(names_of, paths))
        missing += [f"{name} of {module}" for name in sorted(names - known)]
        elsewhere |= names
    known = set().union(*map(names_of, modules), vars(builtins), NOT_PYTHON)
    for name in sorted(set(re.findall(r"`([A-Za-z_][\w.]*)(?:\([^`]*\))?`", text)) - elsewhere):
        if not re.fullmatch(FILE + r"|v[\d.]+", name):
            missing += [] if name in known or ("." in name and exists(name)) else [name]
    return missing


def test_the_contributing_page_names_what_exists():
    assert missing_from_tree(CONTRIBUTING) == []
    assert missing_files(CONTRIBUTING) == []
    assert missing_names(CONTRIBUTING) == []


@pytest.mark.parametrize(("right", "wrong", "missing", "expected"), [
    ("squeeze.py", "squeeze2.py", missing_from_tree, ["squeeze2.py"]),
    ("conditioners/", "conditioner/", missing_from_tree, ["conditioner/"]),
    ("registry.py lists", "registers.py lists", missing_from_tree, ["registers.py"]),
    ("`tests/test_rows.py`", "`tests/test_row.py`", missing_files, ["tests/test_row.py"]),
    ("of `checks.py`", "of `check.py`", missing_files, ["check.py"]),
    ("tests/test_<name>.py", "tests/tests_<name>.py", missing_files, ["tests/tests_<name>.py"]),
    ("`check_inputs`", "`check_context`", missing_names, ["check_context of checks.py"]),
    ("`ENTRIES`", "`ENTRY`", missing_names, ["ENTRY of tests/registry.py"]),
    ("`initialize_from`", "`initialise_from`", missing_names, ["initialise_from"]),
    ("condflows.testing.check_bijector", "condflows.testing.check", missing_names, ["condflows.testing.check"]),
])
def test_a_wrong_name_on_the_contributing_page_is_found(right, wrong, missing, expected):
    assert right in CONTRIBUTING
    assert missing(CONTRIBUTING.replace(right, wrong)) == expected


def test_the_tree_may_show_folders_within_folders():
    lines = """
    examples/         scripts; examples/cityscapes/models has one file per model
      cityscapes/     for street scenes,
                      with a note of two lines
        models/       full_glow.py, and `glow.py`
          glow.py absent.py
    tests/examples/   absent/ is not there
"""
    assert missing_from_tree(f"## How the code is organised\n{lines}\n## Style\n") == ["absent.py", "absent/"]


def test_the_tests_that_the_table_of_torch_names_exist():
    rows = [line for line in (DOCS / "torch.md").read_text().splitlines() if line.startswith("| ")][1:]
    named = {name for row in rows for name in re.findall(r"`((?:\w+/)*test_\w+\.py)`", row.rsplit("|", 2)[1])}
    assert len(named) >= 10
    assert not [name for name in named if not (ROOT / "tests" / name).exists()]
    untested = [row for row in rows if "test_" not in row.rsplit("|", 2)[1]]
    assert all(row.endswith("| no |") for row in untested)
