"""The shipped JSON Schemas: complete, and closed, so that an output with a field they lack is found."""

import pytest
from jsonschema import Draft202012Validator

from pykexec.kdump.console import diagnosis
from pykexec.kdump.doctor import Stage, Verdict
from pykexec.purpose import Purpose
from tests.support import schemas


@pytest.mark.parametrize("name", schemas.names())
def test_a_schema_describes_every_field(name: str) -> None:
    schema = schemas.schema(name)
    Draft202012Validator.check_schema(schema)
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert schema["title"]
    assert schema["properties"]["schema"]["const"] >= 1
    assert next(iter(schema["properties"])) == "schema"
    for each in schemas.objects(schema):
        assert each.get("additionalProperties") is False, each
        assert sorted(each["required"]) == sorted(each["properties"]), each
        assert all(field.get("description") for field in each["properties"].values()), each


def words(name: str, *path: str) -> set[str]:
    """Return the words that a field may have; `path` leads to it through the schema."""
    found = schemas.schema(name)["properties"]
    for each in path:
        found = found[each]
    return set(found["enum"])


def test_every_word_that_a_field_can_have_is_listed() -> None:
    finding = ("findings", "items", "properties")
    assert words("doctor", *finding, "stage") == {each.name.lower() for each in Stage}
    assert words("doctor", *finding, "verdict") == {each.name.lower() for each in Verdict}
    stages = {each.name.lower() for each in diagnosis.Stage}
    assert words("console", "stage") == words("doctor", "capture", "properties", "stage") == stages
    for name in ("plan", "file-plan"):
        assert words(name, "purpose") == {each.value for each in Purpose}
