"""Options in groups for the help of a script, made of a configuration without groups, which stays as it is."""

import ast
import dataclasses
import inspect
import itertools
import textwrap
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Generic, TypeVar, get_type_hints

import tyro

Config = TypeVar("Config")


class Grouped(Generic[Config]):
    """The options of a configuration as a class of groups, each a class of its own.

    The names of options do not tell their groups, and their help texts are single paragraphs.
    """

    def __init__(self, kind: type[Config], groups: Mapping[str, Sequence[str]]):
        self.kind, texts, hints = kind, help_texts(kind), get_type_hints(kind, include_extras=True)
        own: dict[str, Any] = {
            field.name: (field.name, Annotated[hints[field.name], tyro.conf.arg(
                help=texts.get(field.name), help_behavior_hint=hint)], dataclasses.field(default=default_of(field)))
            for field in fields_of(kind)}
        self.groups = {group: here for group, names in groups.items() if (here := [n for n in names if n in own])}
        members = {name for names in self.groups.values() for name in names}
        fields = [field for name, field in own.items() if name not in members]
        self.classes = {group: dataclasses.make_dataclass(group, [own[name] for name in names], kw_only=True)
                        for group, names in self.groups.items()}
        self.whole = dataclasses.make_dataclass("Options", [*fields, *self.classes.items()], kw_only=True)

    def of(self, config: Config) -> Any:
        """Put the values of a configuration into groups."""
        values = vars(config).copy()
        groups = {group: self.classes[group](**{name: values.pop(name) for name in names})
                  for group, names in self.groups.items()}
        return self.whole(**values, **groups)

    def flat(self, options: Any) -> Config:
        """Take the values out of their groups."""
        values = vars(options).copy()
        for group in self.groups:
            values |= vars(values.pop(group))
        return self.kind(**values)


def hint(default: str) -> str:
    """Write the default of an option as its help ends with it."""
    return f"(default: {default or 'none'})"


def fields_of(kind: Any) -> tuple[dataclasses.Field, ...]:
    """Return the fields of a dataclass."""
    return dataclasses.fields(kind)


def default_of(field: dataclasses.Field) -> Any:
    """Return the default of a field, also where a function makes it; MISSING where there is none."""
    made = field.default_factory
    return field.default if made is dataclasses.MISSING else made()


def help_texts(kind: type) -> dict[str, str]:
    """Return the text below each field of a class and of those that it is made of, in one line."""
    texts: dict[str, str] = {}
    for each in reversed(kind.__mro__):
        if not dataclasses.is_dataclass(each):
            continue
        tree: Any = ast.parse(textwrap.dedent(inspect.getsource(each))).body[0]
        lines = ((field, text) for field, text in itertools.pairwise(tree.body)
                 if isinstance(field, ast.AnnAssign) and isinstance(text, ast.Expr))
        texts |= {ast.unparse(field.target): " ".join(ast.literal_eval(text.value).split()) for field, text in lines}
    return texts
