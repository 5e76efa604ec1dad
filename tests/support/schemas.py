"""The JSON Schemas that are shipped, and whether an output is what they promise."""

import json
from collections.abc import Iterator, Mapping
from importlib.resources import files
from typing import Any

from jsonschema import Draft202012Validator

FOLDER = files("pykexec") / "schemas"


def names() -> list[str]:
    """Return the names of all that are shipped."""
    return sorted(
        each.name.removesuffix(".json") for each in FOLDER.iterdir() if each.name.endswith(".json")
    )


def schema(name: str) -> dict[str, Any]:
    """Return that schema."""
    found: dict[str, Any] = json.loads((FOLDER / f"{name}.json").read_text("utf-8"))
    return found


def require_valid(name: str, output: str) -> Any:
    """Return what a command printed as JSON. Raises ValidationError where the schema forbids it."""
    found = json.loads(output)
    Draft202012Validator(schema(name)).validate(found)
    return found


def objects(node: Any) -> Iterator[Mapping[str, Any]]:
    """Yield all objects that a schema describes, itself and those in it."""
    if isinstance(node, list):
        for each in node:
            yield from objects(each)
    elif isinstance(node, dict):
        if "properties" in node:
            yield node
        for each in node.values():
            yield from objects(each)
