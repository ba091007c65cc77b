"""The published files: the citation, and the contents and metadata of a built wheel and sdist.

``CONDFLOWS_DIST`` names the folder of the two files; ``.ci/distributions`` sets it where it has installed one of them.
"""

import email
import os
import re
import tarfile
import zipfile
from pathlib import Path

import pytest

import condflows

ROOT = Path(__file__).parents[1]
LINK = re.compile(r"!?\[[^\[\]]*\]\(\s*(?!https?://)[^)]*\)|(?:src|href)=[\"'](?!https?://)")
FENCED = re.compile(r"^ *```.*?^ *```", re.MULTILINE | re.DOTALL)


def built(ending):
    """Return the one file with this ending in the folder of built distributions."""
    folder = os.environ.get("CONDFLOWS_DIST")
    if folder is None:
        pytest.skip("no built distributions: .ci/distributions builds and checks them")
    (path,) = Path(folder).glob(f"*{ending}")
    return path


def metadata():
    with zipfile.ZipFile(built(".whl")) as wheel:
        (name,) = [name for name in wheel.namelist() if name.endswith(".dist-info/METADATA")]
        return email.message_from_bytes(wheel.read(name))


def description():
    return metadata().get_payload(decode=True).decode()


def test_citation():
    """Compare its version with the package's, and its date with the changelog's, once that has one."""
    citation = (ROOT / "CITATION.cff").read_text()
    version = re.search(r"^version: (\S+)$", citation, re.MULTILINE)
    assert version
    assert version[1] == condflows.__version__
    dated = re.search(r"^date-released: [\"']?([\d-]+)", citation, re.MULTILINE)
    released = re.search(rf"^## \[?{re.escape(version[1])}\]? - ([\d-]+)$", (ROOT / "CHANGELOG.md").read_text(),
                         re.MULTILINE)
    assert (dated and dated[1]) == (released and released[1])


def test_the_wheel_holds_the_package_only():
    with zipfile.ZipFile(built(".whl")) as wheel:
        names = wheel.namelist()
    assert [name for name in names if not (name.startswith("condflows/") or ".dist-info/" in name)] == []
    assert "condflows/py.typed" in names
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in names)


def test_the_sdist_holds_its_tests_and_no_results():
    with tarfile.open(built(".tar.gz")) as sdist:
        names = {name.partition("/")[2] for name in sdist.getnames()}
    assert names >= {"conftest.py", "pyproject.toml", "constraints.txt", "README.md", "CHANGELOG.md", "CITATION.cff",
                     "tests/registry.py", "tests/test_laws.py", "examples/cityscapes/models/full_glow.py",
                     "docs/conf.py"}
    folders = {name.partition("/")[0] for name in names if "/" in name}
    assert folders == {"condflows", "docs", "examples", "tests"}
    made = re.compile(r"__pycache__|_build/|\.pyc$|^docs/(tutorials|pictures|recipes)/")
    assert [name for name in names if made.search(name)] == []


def test_metadata():
    fields = metadata()
    assert fields["Version"] == condflows.__version__
    assert fields["License-Expression"] == "MIT"
    assert fields["Requires-Python"] == ">=3.10"
    assert fields["Description-Content-Type"] == "text/markdown"
    classifiers = fields.get_all("Classifier", [])
    assert not [line for line in classifiers if line.startswith("License ::")]  # the expression says it
    versions = [line.rpartition(" ")[2] for line in classifiers if re.search(r":: 3\.\d+$", line)]
    assert versions == ["3.10", "3.11", "3.12", "3.13"]


def test_the_long_description_has_no_link_into_the_checkout():
    assert LINK.findall(FENCED.sub("", description())) == []


def test_the_long_description_has_the_code_of_the_readme():
    blocks = FENCED.findall((ROOT / "README.md").read_text())
    text = description()
    assert blocks
    assert [block for block in blocks if block not in text] == []


def test_the_installed_package_is_imported():
    built(".whl")
    assert "site-packages" in Path(condflows.__file__).parts
