"""Links from the names of scripts of examples/ in the text to the scripts."""

from __future__ import annotations

import re
from pathlib import Path

from docutils import nodes
from sphinx.addnodes import download_reference
from sphinx.transforms import SphinxTransform

SCRIPT = re.compile(r"examples/[\w/]+\.py")


class ScriptLinks(SphinxTransform):
    """Make each ``examples/name.py`` in the text a link that downloads the file, where there is one."""

    default_priority = 400

    def apply(self, **kwargs) -> None:
        """Wrap the names that are no links yet."""
        for literal in list(self.document.findall(nodes.literal)):
            name = literal.astext()
            linked = isinstance(literal.parent, nodes.reference | download_reference)
            if not linked and SCRIPT.fullmatch(name) and (Path(self.env.srcdir).parent / name).is_file():
                link = download_reference("", reftarget=f"/../{name}", refdoc=self.env.docname, refdomain="",
                                          reftype="download", refexplicit=False, refwarn=True)
                literal.replace_self(link)
                link += literal


def setup(app) -> dict[str, bool]:
    app.add_transform(ScriptLinks)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
