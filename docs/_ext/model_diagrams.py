"""Directives that draw the models of examples/cityscapes, from contexts that are found by running the models.

    model-table          which operation of which model reads what
    model-diagram NAME   the flows of one model side by side, an arrow wherever a context is read;
                         with :entries:, each arrow has the place of its entry in the source's trace

A context is found by its effect: one entry of the source's trace is changed, or the condition, while every operation of
the target receives the inputs that it had before. Those whose outputs change read what was changed.
"""

import importlib
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import torch
from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.util.docutils import SphinxDirective

from condflows import Chain, Inverse, PairedFlow, Split, Squeeze, Trace
from condflows.testing import perturb

EXAMPLE = Path(__file__).parents[2] / "examples" / "cityscapes"
NAMES = {
    "full_glow": "Full-Glow", "published": "Full-Glow, the authors' weights", "c_glow_v1": "C-Glow, version 1",
    "c_glow_v2": "C-Glow, version 2", "dual_glow": "Dual-Glow", "c_flow": "C-Flow", "glow": "Glow",
    "encoded_glow": "Encoded Glow",
}
STEP = ("actnorm", "1x1", "coupling")
KINDS = {**{kind: kind for kind in STEP}, "prior": "prior of a split", "top": "prior at the top"}
CONDITION = "label map"
SIZE = (20, 20)  # the least that the authors' nets take at two levels


@dataclass(frozen=True)
class Operation:
    """One operation of a flow, and its place in the flow's trace."""

    kind: str
    level: int
    place: tuple[int, ...]
    module: Any = field(compare=False)

    @property
    def index(self) -> str:
        return "".join(f"[{i}]" for i in self.place)


@dataclass
class Model:
    """The operations of a model's source (none without a source) and target, and which of them reads what."""

    source: list[Operation]
    target: list[Operation]
    reads: list[tuple[Operation, Operation | None]]
    """The target's operations that read a context, each with the source's operation, or None for the condition."""
    latents_alone: set[tuple[int, ...]]
    """The places of the source's splits of which only the second half, its latents, has an effect."""

    def said_of(self, kind: str) -> str:
        """Describe the context that the operations of a kind read."""
        every = [op for op in self.target if op.kind == kind and op.module is not None]
        said = {self.said_of_one(op) for op in every}
        if len(said) > 1:
            raise ValueError(f"operations of the kind {kind} read different things: {said}")
        return said.pop() if said else "(none)"

    def said_of_one(self, operation: Operation) -> str:
        read = [of for by, of in self.reads if by == operation]
        if not read:
            return "nothing"
        (of,) = read
        if of is None:
            return CONDITION
        if of.place != operation.place:
            raise ValueError(f"{operation} reads {of}, which is at another place")
        if of.kind == "top" or of.place in self.latents_alone:
            return "source latents"
        return f"source {of.kind}"


@cache
def examine(name: str) -> Model:
    """Build a small model of two levels with two steps each, and find which operation reads which context."""
    with torch.random.fork_rng([]), torch.no_grad():
        torch.manual_seed(0)
        flow = build(name)
        x_a, x_b = torch.rand(2, 2, 3, *SIZE)
        target = flow.target if isinstance(flow, PairedFlow) else flow
        operations = list(walk(target.transform))
        if not isinstance(flow, PairedFlow):
            outputs, inputs = run(target, operations, x_b, x_a)
            changed, _ = run(target, operations, x_b, torch.rand_like(x_a), inputs)
            return Model([], operations, [(op, None) for op in different(operations, outputs, changed)], set())
        source = list(walk(flow.source.transform))
        trace = flow.source.transform.forward_with_trace(x_a)[2]
        outputs, inputs = run(target, operations, x_b, trace)
        reads, latents_alone = [], set()
        for of in source:
            first, second = (
                different(operations, outputs,
                          run(target, operations, x_b, change(trace, of.place, half), inputs)[0])
                for half in (first_half, second_half))
            reads += [(op, of) for op in operations if op in first + second]
            if of.kind == "prior" and second and not first:
                latents_alone.add(of.place)
        return Model(source, operations, reads, latents_alone)


def build(name: str) -> Any:
    """Build the model with random parameters, so that no net is at its zero output."""
    added = str(EXAMPLE) not in sys.path
    sys.path[:0] = [str(EXAMPLE)] * added
    try:
        if name == "published":
            published = importlib.import_module("models.published")
            return perturb(published.build(SIZE, (2, 2), filters=8)[0])
        return perturb(importlib.import_module("models").MODELS[name](steps=(2, 2), width=8))
    finally:
        if added:
            sys.path.remove(str(EXAMPLE))


def walk(chain: Chain, place: tuple[int, ...] = (), level: int = 1) -> Iterator[Operation]:
    """Yield the operations of a multiscale flow except squeezes; a split without a prior gives one without a module."""
    for i, part in enumerate(chain.parts):
        here = (*place, i)
        if isinstance(part, Chain):
            for j, (kind, module) in enumerate(zip(STEP, part.parts, strict=True)):
                yield Operation(kind, level, (*here, j), module)
        elif isinstance(part, Split):
            yield Operation("prior", level, (*here, 0), part.prior)
            yield from walk(part.inner, (*here, 1), level + 1)
        elif not isinstance(part, (Squeeze, Inverse)):
            yield Operation("top", level, here, part)


def run(flow: Any, operations: Sequence[Operation], x: torch.Tensor, context: Any, inputs: Any = None) -> Any:
    """Return outputs and inputs of every operation; with ``inputs``, each receives those in place of its own."""
    outputs, seen, hooks = {}, {}, []
    for op in operations:
        if op.module is not None:
            def before(module: Any, args: Any, op: Operation = op) -> Any:
                seen[op] = args[0] if inputs is None else inputs[op]
                return seen[op], *args[1:]

            def after(module: Any, args: Any, result: Any, op: Operation = op) -> None:
                outputs[op] = result[0]

            hooks += [op.module.register_forward_pre_hook(before), op.module.register_forward_hook(after)]
    try:
        flow.log_prob(x, context)
    finally:
        for hook in hooks:
            hook.remove()
    return outputs, seen


def different(operations: Sequence[Operation], outputs: Any, others: Any) -> list[Operation]:
    return [op for op in operations if op in outputs and not torch.equal(outputs[op], others[op])]


def change(trace: Any, place: tuple[int, ...], part: Any) -> Any:
    """Return the trace with the entry at one place changed."""
    if not place:
        return part(trace)
    return Trace([change(entry, place[1:], part) if i == place[0] else entry for i, entry in enumerate(trace)])


def first_half(entry: torch.Tensor) -> torch.Tensor:
    kept = entry.shape[1] // 2
    return torch.cat([torch.randn_like(entry[:, :-kept]), entry[:, -kept:]], dim=1)


def second_half(entry: torch.Tensor) -> torch.Tensor:
    kept = entry.shape[1] // 2
    return torch.cat([entry[:, :-kept], torch.randn_like(entry[:, -kept:])], dim=1)


# The drawing: rows are shared by both columns, so that what has one place has one height.
WIDTH, COLUMN, HIGH, PITCH = 400, 132, 24, 35
LINE, FAINT = "stroke:currentColor;fill:none;", "opacity:.55;"
READER = "stroke:var(--color-brand-primary, #0a4bff);"
FILLED = "fill:var(--color-brand-primary, #0a4bff);"


class Drawing:
    """The drawing of one model, as SVG."""

    def __init__(self, name: str, model: Model, entries: bool):
        self.name, self.model, self.entries = name, model, entries
        self.out: list[str] = []
        self.rows = ["data"]
        last = max(op.level for op in model.target)
        for level in range(1, last + 1):
            kinds = ["squeeze", *STEP, "top", "latents"] if level == last else ["squeeze", *STEP, "prior", "latents"]
            self.rows += [(level, kind) for kind in kinds]
        self.two = bool(model.source) or any(of is None for _, of in model.reads)
        self.width = WIDTH if self.two else COLUMN + 104
        self.right = self.width - COLUMN - 14

    def y(self, row: Any) -> int:
        """Return the height of the middle of a row; levels have some space between them."""
        level = row[0] if isinstance(row, tuple) else 0
        return 40 + PITCH * self.rows.index(row) + 16 * level

    def svg(self) -> str:
        height = self.y(self.rows[-1]) + 26
        last = self.rows[-1][0]
        for level in range(1, last + 1):
            top, bottom = (self.y(row) for row in ((level, "squeeze"), (level, "latents")))
            self.out.append(f'<rect x="1" y="{top - 20}" width="{self.width - 2}" height="{bottom - top + 40}" rx="6" '
                            f'style="{LINE}opacity:.3;stroke-dasharray:3 3"/>')
            self.text(WIDTH / 2 if self.two else 14, self.y((level, "squeeze")) + 1, f"level {level}",
                      "font-weight:bold;", "middle" if self.two else "start")
        if self.model.source:
            self.flow(8, self.model.source, "source flow", "label map")
        elif self.two:
            self.condition()
        self.flow(self.right, self.model.target, "target flow" if self.model.source else "flow", "photo")
        for by, of in self.first_steps(self.model.reads):
            self.arrow(by, of)
        said = "; ".join(f"{KINDS[kind]}: {self.model.said_of(kind)}" for kind in KINDS)
        label = f"{NAMES[self.name]}. What the operations of the photo's flow read: {said}."
        return (f'<svg class="model-diagram" viewBox="0 0 {self.width} {height}" role="img" aria-label="{label}" '
                f'xmlns="http://www.w3.org/2000/svg" font-family="inherit" font-size="13" '
                f'style="width:100%;max-width:{self.width}px;height:auto;display:block;margin:0 auto">'
                f'<title>{NAMES[self.name]}</title>{"".join(self.out)}</svg>')

    def first_steps(self, reads: Any) -> list[Any]:
        """Keep the first step of each level; the others read the same, or said_of refuses."""
        return [(by, of) for by, of in reads if by == self.first(by) and (of is None or of == self.first(of))]

    def first(self, operation: Operation) -> Operation:
        alike = (op for op in self.model.target if (op.level, op.kind) == (operation.level, operation.kind))
        return next(alike)  # of a source too, whose places are those of the target

    def flow(self, x: int, operations: Sequence[Operation], heading: str, data: str) -> None:
        """Draw a column from data to latents."""
        middle = x + COLUMN / 2
        self.text(middle, 14, heading, "font-weight:bold;")
        self.line(f"M {middle} {self.y('data')} V {self.y(self.rows[-1])}", FAINT)
        self.box(x, "data", data, rounded=True)
        readers = {by for by, _ in self.model.reads}
        for row in self.rows[1:]:
            level, kind = row
            ops = [op for op in operations if (op.level, op.kind) == row and op.module is not None]
            if kind == "squeeze":
                self.box(x, row, "squeeze", FAINT)
            elif kind == "latents" and level == self.rows[-1][0]:
                self.box(x, row, "latents", rounded=True)
            elif kind == "latents":
                y = self.y(row)
                self.line(f"M {middle} {y} H {x + COLUMN - 58}", FAINT)
                self.box(x + COLUMN - 58, row, "latents", rounded=True, width=58)
                self.text(x + 4, y + 4, "split", FAINT, "start")
            elif ops:
                if kind == "actnorm" and len(ops) > 1:  # the other steps, behind the first
                    for shift in (3, 0):
                        self.card(x - 5, self.y(row) - 18 - shift, self.y((level, "coupling")) + 18 - shift)
                    self.line(f"M {middle} {self.y(row)} V {self.y((level, 'coupling'))}", FAINT)
                reads = operations is self.model.target and ops[0] in readers
                self.box(x, row, "prior" if kind == "top" else kind, READER if reads else "", bold=reads)

    def condition(self) -> None:
        """Draw a column that holds the condition alone, and the line from it to its readers."""
        x, rows = 8, [self.y((by.level, by.kind)) for by, _ in self.first_steps(self.model.reads)]
        self.text(x + COLUMN / 2, 14, "condition", "font-weight:bold;")
        self.line(f"M {x + COLUMN / 2} {self.y('data')} V {max(rows)}", READER)
        self.box(x, "data", "label map", rounded=True)

    def arrow(self, by: Operation, of: Operation | None) -> None:
        y, start = self.y((by.level, by.kind)), 8 + COLUMN
        end, begin = self.right - 4, y
        if of is None:
            path = f"M {8 + COLUMN / 2} {y} H {end - 6}"
        else:
            begin = self.y((of.level, "latents" if of.place in self.model.latents_alone else of.kind))
            path = f"M {start} {begin} H {end - 22} V {y} H {end - 6}"
        self.line(path, READER)
        self.out.append(f'<path d="M {end} {y} l -8 -4 v 8 z" style="{FILLED}"/>')
        if self.entries and of is not None:
            self.text((start + end) / 2 - 4, begin - 5, of.index, "font-family:var(--font-stack--monospace, monospace);"
                      "font-size:11px;")

    def box(self, x: float, row: Any, text: str, style: str = "", rounded: bool = False, width: int = COLUMN,
            bold: bool = False) -> None:
        y = self.y(row)
        self.out.append(f'<rect x="{x}" y="{y - HIGH / 2}" width="{width}" height="{HIGH}" rx="{12 if rounded else 3}" '
                        f'style="stroke:currentColor;fill:var(--color-background-primary, Canvas);'
                        f'{style.replace("opacity:.55;", "stroke-opacity:.4;")}stroke-width:{2 if bold else 1}"/>')
        self.text(x + width / 2, y + 4.5, text, style if style == FAINT else "")

    def card(self, x: float, top: float, bottom: float) -> None:
        self.out.append(f'<rect x="{x}" y="{top}" width="{COLUMN + 10}" height="{bottom - top}" rx="6" style="'
                        f'stroke:currentColor;stroke-opacity:.3;fill:var(--color-background-secondary, Canvas)"/>')

    def line(self, path: str, style: str) -> None:
        self.out.append(f'<path d="{path}" style="{LINE}{style}stroke-width:1.5"/>')

    def text(self, x: float, y: float, text: str, style: str = "", anchor: str = "middle") -> None:
        self.out.append(f'<text x="{x}" y="{y}" text-anchor="{anchor}" style="fill:currentColor;{style}">{text}</text>')


class FromModels(SphinxDirective):
    def note(self) -> None:
        """Rebuild the page when a model changes."""
        for path in [*sorted((EXAMPLE / "models").glob("*.py")), Path(__file__)]:
            self.env.note_dependency(str(path))


class ModelTable(FromModels):
    """A table with a row for each model and a column for each kind of operation."""

    def run(self) -> list[nodes.Node]:
        self.note()
        head = ["model", *KINDS.values()]
        rows = [[NAMES[name], *(examine(name).said_of(kind) for kind in KINDS)] for name in NAMES]
        group = nodes.tgroup("", *(nodes.colspec(colwidth=1) for _ in head), cols=len(head))
        group += nodes.thead("", table_row(head))
        group += nodes.tbody("", *(table_row(row) for row in rows))
        return [nodes.table("", group)]


class ModelDiagram(FromModels):
    """The drawing of one model; builders other than those of HTML leave it out."""

    required_arguments = 1
    option_spec = {"entries": directives.flag}  # noqa: RUF012

    def run(self) -> list[nodes.Node]:
        self.note()
        name = self.arguments[0]
        if name not in NAMES:
            raise self.error(f"no model {name}: one of {', '.join(NAMES)}")
        return [nodes.raw("", Drawing(name, examine(name), "entries" in self.options).svg(), format="html")]


def table_row(texts: Sequence[str]) -> nodes.row:
    return nodes.row("", *(nodes.entry("", nodes.paragraph(text=text)) for text in texts))


def setup(app: Any) -> dict[str, Any]:
    app.add_directive("model-table", ModelTable)
    app.add_directive("model-diagram", ModelDiagram)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
