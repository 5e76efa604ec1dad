"""Compiled structures, against construct's own."""

from typing import Any

import construct
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pykexec.records import Numbers, Record, Records

U16, U64 = st.integers(0, (1 << 16) - 1), st.integers(0, (1 << 64) - 1)
ORDERS = {
    "little": (construct.Int16ul, construct.Int64ul),
    "big": (construct.Int16ub, construct.Int64ub),
}
_INNER = Record("=HQ", "small large")
OURS = Record(
    "=H16s20s",
    "first numbers rows",
    inner={"numbers": Numbers("=2Q"), "rows": Records(_INNER, 2)},
)


def theirs(order: str) -> Any:
    small, large = ORDERS[order]
    row = construct.Struct("small" / small, "large" / large)
    return construct.Struct(
        "first" / small, "numbers" / construct.Array(2, large), "rows" / construct.Array(2, row)
    )


ROWS = st.lists(st.fixed_dictionaries({"small": U16, "large": U64}), min_size=2, max_size=2)


@given(
    st.fixed_dictionaries({"first": U16, "numbers": st.lists(U64, min_size=2, max_size=2), "rows": ROWS}),
    st.sampled_from(["little", "big"]),
)
def test_a_structure_in_the_order_of_the_machine(values: dict[str, Any], order: Any) -> None:
    built = OURS.build(values, order)
    assert built == theirs(order).build(values)
    assert OURS.parse(built, order) == values


def test_an_order_is_given_where_it_is_needed_and_nowhere_else() -> None:
    values = {"small": 1, "large": 2}
    with pytest.raises(KeyError):
        _INNER.build(values)
    with pytest.raises(KeyError):
        Record("<HQ", "small large").build(values, "big")
