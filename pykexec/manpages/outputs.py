"""pykexec-json(5): what commands print as JSON, from the JSON Schemas of it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from importlib.resources import files
from typing import Any

from pykexec import roff

_DATE = "2026-11-30"
"""The day of the last change of the texts here."""

Schema = Mapping[str, Any]

_DESCRIPTION = (
    "With --json commands print one JSON object (RFC 8259) to standard output, or, where a form says so, one"
    " in each line. Messages go to standard error, and exit statuses are those without --json.",
    "Addresses are physical, sizes are in bytes, ends of ranges are exclusive, times are in seconds, unless"
    " a field says otherwise. Numbers are integers of up to 64 bits: a program that takes them for doubles"
    " loses the last digits of large ones.",
    "A field that is not known is there, and null. A text that is said to be for people may change in any"
    " version; ids, and words that are listed here, do not.",
)
_PROMISE = (
    "The number in the field schema, which comes first, is raised when a field goes away, or changes its"
    " type or meaning. Fields may be added, and words to a list of them, without that: a program should pass"
    " over those that it does not know.",
    "Each form is written down as a JSON Schema (draft 2020-12) of this version's fields, closed, so that a"
    " misspelt one is found. They are in the folder schemas of the Python package pykexec.",
)
_NOTATION = (
    "Below, a.b is the field b of the object a, a[] each element of the list a, and a.* each value of the"
    " object a, whatever its name."
)
_EXAMPLES = (
    ("Whether there will be a dump, for a script:", ("pykdump doctor --json | jq -e .armed",)),
    (
        "How much memory the segments of a plan take:",
        (
            "pykexec -p vmlinuz --initrd=kdump.img --dry-run --json |",
            "    jq '[.segments[].memsz] | add'",
        ),
    ),
    (
        "Where the folder schemas is:",
        ("python3 -c 'import pykexec; print(pykexec.__path__[0])'",),
    ),
)


def page() -> str:
    """Return the page, in roff."""
    lines = [
        roff.title("pykexec-json", _DATE, section=5),
        *roff.section("Name", "pykexec\\-json \\- what pykexec and pykdump print as JSON"),
        *roff.section("Synopsis", *roff.lines([schema["title"] for schema in schemas().values()])),
        *roff.section("Description", *roff.paragraphs(_DESCRIPTION)),
        *roff.section("Versions", *roff.paragraphs(_PROMISE)),
        *roff.section("Fields", *roff.prose(_NOTATION)),
    ]
    for schema in schemas().values():
        lines += roff.subsection(schema["title"], *roff.prose(schema["description"]))
        lines += roff.definitions(fields(schema))
    lines += roff.section("Examples", *roff.examples(_EXAMPLES))
    lines += roff.section("See also", *roff.references("jq(1)", "pykdump(8)", "pykexec(8)"))
    return "\n".join(lines) + "\n"


def schemas() -> Mapping[str, Schema]:
    """Return the shipped schemas by name, in the order of the commands that print such a form."""
    folder = files("pykexec") / "schemas"
    found = {each.name: json.loads(each.read_text("utf-8")) for each in folder.iterdir()}
    return dict(sorted(found.items(), key=lambda item: str(item[1]["title"])))


def fields(schema: Schema) -> Sequence[tuple[str, str]]:
    """Return the path of each field, with its text and its type."""
    return list(_fields(_without_references(schema, schema.get("$defs", {})), ""))


def _without_references(node: Any, definitions: Schema) -> Any:
    """Return a schema with the definitions in the places that refer to them; none refers to itself."""
    if isinstance(node, list):
        return [_without_references(each, definitions) for each in node]
    if not isinstance(node, dict):
        return node
    if "$ref" in node:
        defined = definitions[node["$ref"].removeprefix("#/$defs/")]
        node = {**defined, **{name: value for name, value in node.items() if name != "$ref"}}
    return {name: _without_references(value, definitions) for name, value in node.items()}


def _fields(schema: Schema, prefix: str) -> Iterator[tuple[str, str]]:
    for name, field in schema.get("properties", {}).items():
        yield f"{prefix}{name}", f"{field['description']} ({_type(field)})"
        yield from _below(field, f"{prefix}{name}")


def _below(schema: Schema, path: str) -> Iterator[tuple[str, str]]:
    yield from _fields(schema, f"{path}.")
    if isinstance(schema.get("items"), dict):
        yield from _below(schema["items"], f"{path}[]")
    if isinstance(schema.get("additionalProperties"), dict):
        yield from _below(schema["additionalProperties"], f"{path}.*")


def _type(schema: Schema) -> str:
    """Return what a field can be, in words."""
    if "const" in schema:
        return json.dumps(schema["const"])
    if "enum" in schema:
        return ", ".join(map(json.dumps, schema["enum"]))
    types = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    return " or ".join(_plain(each, schema) for each in types)


def _plain(kind: str, schema: Schema) -> str:
    inner = schema.get("items" if kind == "array" else "additionalProperties")
    if not isinstance(inner, dict):
        return kind
    return f"{kind} of {_type(inner)}"
