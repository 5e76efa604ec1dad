"""What `help` and `inspect.signature` show of the classes of `values`, made when somebody asks for it."""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Iterator, Mapping
from inspect import Parameter, Signature
from itertools import pairwise
from typing import Any

from pykexec.values import FIELDS, REQUIRED

_WIDTH = 76
_DEFAULT_MAX = 40
"""The longest default that is written out."""


def signature(cls: type[Any]) -> Signature:
    """Return the signature of a class: its fields with their types and defaults, as the original has it."""
    types, parameters = _types(cls), []
    for name, field in getattr(cls, FIELDS).items():
        default = Parameter.empty if field.default is REQUIRED else field.default
        annotation = types.get(name, Parameter.empty)
        parameters.append(
            Parameter(name, Parameter.POSITIONAL_OR_KEYWORD, default=default, annotation=annotation)
        )
    return Signature(parameters, return_annotation=None)


def text(cls: type[Any], own: str | None) -> str:
    """Return a class's own docstring (or its name), followed by its fields: types, defaults and meaning."""
    meanings = _meanings(cls)
    lines = [
        "Fields:",
        *(line for each in signature(cls).parameters.values() for line in _told(each, meanings)),
    ]
    return "\n".join([inspect.cleandoc(own or cls.__name__), "", *lines])


def _told(field: Parameter, meanings: Mapping[str, str]) -> Iterator[str]:
    yield f"  {field.name}: {_type(field.annotation)}{_default(field.default)}"
    indent = " " * 6
    meaning = meanings.get(field.name, "")
    yield from textwrap.wrap(
        meaning, _WIDTH, initial_indent=indent, subsequent_indent=indent, break_on_hyphens=False
    )


def _type(annotation: Any) -> str:
    return annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)


def _default(value: object) -> str:
    if value is Parameter.empty:
        return ""
    shown = repr(value)
    return f" = {shown}" if len(shown) <= _DEFAULT_MAX else " = ..."


def _types(cls: type[Any]) -> Mapping[str, Any]:
    return {
        name: kind for base in reversed(cls.__mro__) for name, kind in inspect.get_annotations(base).items()
    }


def _meanings(cls: type[Any]) -> Mapping[str, str]:
    """Return the texts that stand below the fields in the source; none where there is no source."""
    return {name: told for base in reversed(cls.__mro__[:-1]) for name, told in _texts_below_fields(base)}


def _texts_below_fields(cls: type[Any]) -> Iterator[tuple[str, str]]:
    try:
        source = textwrap.dedent(inspect.getsource(cls))
    except (OSError, TypeError):
        return
    (found,) = ast.parse(source).body
    body = found.body if isinstance(found, ast.ClassDef) else []
    for field, below in pairwise(body):
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
            match below:
                case ast.Expr(value=ast.Constant(value=str(told))):
                    yield field.target.id, " ".join(told.split())
