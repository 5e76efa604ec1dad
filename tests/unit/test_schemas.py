"""The shipped JSON Schemas: complete, and closed, so that an output with a field they lack is found."""

import pytest
from jsonschema import Draft202012Validator

from tests.support import schemas


@pytest.mark.parametrize("name", schemas.names())
def test_a_schema_describes_every_field(name: str) -> None:
    schema = schemas.schema(name)
    Draft202012Validator.check_schema(schema)
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert schema["title"]
    assert schema["properties"]["schema"]["const"] == 1
    for each in schemas.objects(schema):
        assert each.get("additionalProperties") is False, each
        assert sorted(each["required"]) == sorted(each["properties"]), each
        assert all(field.get("description") for field in each["properties"].values()), each
