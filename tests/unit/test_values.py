"""Values behave as the standard library's dataclasses do: each class is made both ways, and compared."""

import copy
import dataclasses
import functools
import inspect
import operator
import pickle
import pydoc
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pykexec import values

Maker = Callable[..., Any]


def classes(dataclass: Maker, field: Maker) -> dict[str, Any]:
    @dataclass(frozen=True, slots=True, order=True)
    class Point:
        x: int
        y: int = 3

        @property
        def sum(self) -> int:
            return self.x + self.y

    @dataclass(frozen=True)
    class Hidden:
        name: str
        data: bytes = field(default=b"", repr=False, compare=False)

        @functools.cached_property
        def length(self) -> int:
            return len(self.data)

    @dataclass(frozen=True, slots=True)
    class Checked:
        size: int

        def __post_init__(self) -> None:
            if self.size < 0:
                raise ValueError("negative")

    @dataclass(frozen=True, slots=True)
    class Base:
        a: int
        b: int = 1

    @dataclass(frozen=True, slots=True)
    class Derived(Base):
        c: tuple[int, ...] = ()

    return {each.__name__: each for each in (Point, Hidden, Checked, Base, Derived)}


OURS = classes(values.dataclass, values.field)
THEIRS = classes(dataclasses.dataclass, dataclasses.field)
for name, each in OURS.items():
    each.__qualname__ = THEIRS[name].__qualname__ = name
    each.__module__ = THEIRS[name].__module__ = __name__


def outcome(act: Callable[[], Any]) -> Any:
    """What comes of it; of an error its kind."""
    try:
        return act()
    except AttributeError:
        return AttributeError
    except (TypeError, ValueError) as error:
        return type(error)


ARGUMENTS = st.tuples(
    st.sampled_from(sorted(OURS)),
    st.lists(st.integers(-3, 3), max_size=4),
    st.dictionaries(
        st.sampled_from(["x", "y", "name", "data", "size", "a", "b", "c"]), st.integers(-3, 3), max_size=2
    ),
)


def built(made: dict[str, Any], what: tuple[str, list[int], dict[str, int]]) -> Any:
    name, positional, named = what
    return outcome(lambda: made[name](*positional, **named))


@given(ARGUMENTS, ARGUMENTS)
def test_everything_compares(one: Any, other: Any) -> None:
    ours, theirs = ([built(made, each) for each in (one, other)] for made in (OURS, THEIRS))
    assert [isinstance(each, type) for each in ours] == [isinstance(each, type) for each in theirs]
    for act in (
        lambda a, b: (repr(a), repr(b)),
        lambda a, b: a == b,
        lambda a, b: hash(a) == hash(b),
        operator.lt,
        operator.le,
        operator.gt,
        operator.ge,
        lambda a, b: (dataclasses.astuple(a), dataclasses.asdict(b)),
        lambda a, b: [each.name for each in dataclasses.fields(a)],
        lambda a, b: repr(copy.replace(a, b=7) if hasattr(copy, "replace") else dataclasses.replace(a, b=7)),
        lambda a, b: repr(copy.deepcopy(a)),
        lambda a, b: setattr(a, dataclasses.fields(a)[0].name, 1),
        lambda a, b: delattr(a, dataclasses.fields(a)[0].name),
        lambda a, b: a.__match_args__,
    ):
        assert outcome(lambda act=act: act(*ours)) == outcome(lambda act=act: act(*theirs))  # type: ignore[misc]


@given(ARGUMENTS)
def test_the_first_instance_is_made_as_the_thousandth(what: tuple[str, list[int], dict[str, int]]) -> None:
    fresh, used = (classes(values.dataclass, values.field) for _ in range(2))
    for each in used.values():
        for _ in range(1000):
            each(1)
    theirs, *ours = (built(made, what) for made in (THEIRS, fresh, used))
    first, thousandth = (each if isinstance(each, type) else dataclasses.astuple(each) for each in ours)
    assert first == thousandth == (theirs if isinstance(theirs, type) else dataclasses.astuple(theirs))


@given(st.integers(-3, 3), st.integers(-3, 3))
def test_replace(x: int, y: int) -> None:
    point = OURS["Point"](x)
    since_3_13 = operator.attrgetter("__replace__")  # what copy.replace() calls
    for replace in (values.replace, dataclasses.replace, lambda point, **new: since_3_13(point)(**new)):
        assert replace(point, y=y) == OURS["Point"](x, y)
        with pytest.raises(TypeError):
            replace(point, z=1)
    assert point.sum == x + 3


@pytest.mark.parametrize("name", sorted(OURS))
def test_the_signature_is_the_same(name: str) -> None:
    assert str(inspect.signature(OURS[name])) == str(inspect.signature(THEIRS[name]))
    assert inspect.signature(OURS[name]) == inspect.signature(THEIRS[name])


@values.dataclass(frozen=True, slots=True)
class Explained:
    """A class to ask about."""

    size: int
    """How much there is,
    in bytes."""
    name: str = "x"
    much: tuple[int, ...] = tuple(range(100))
    """So much that its default is not shown."""

    def method(self) -> None:
        """Do nothing."""


@values.dataclass(frozen=True, slots=True)
class ExplainedToo(Explained):
    last: bool = False
    """What only this one has."""


def test_help_shows_fields_with_types_defaults_and_meaning() -> None:
    assert inspect.getdoc(Explained) == (
        "A class to ask about.\n\nFields:\n"
        "  size: int\n      How much there is, in bytes.\n"
        "  name: str = 'x'\n"
        "  much: tuple[int, ...] = ...\n      So much that its default is not shown."
    )
    inherited = inspect.getdoc(ExplainedToo) or ""
    assert inherited.startswith("ExplainedToo\n\nFields:\n  size: int\n      How much there is, in bytes.\n")
    assert inherited.endswith("  last: bool = False\n      What only this one has.")
    assert Explained(1).__doc__ == Explained.__doc__
    assert "How much there is" in pydoc.plain(pydoc.render_doc(Explained))


def test_a_class_without_source_has_its_types() -> None:
    space: dict[str, Any] = {"dataclass": values.dataclass}
    exec("@dataclass(frozen=True)\nclass Made:\n    'Made.'\n    size: int = 3", space)
    assert inspect.getdoc(space["Made"]) == "Made.\n\nFields:\n  size: int = 3"


def test_the_hash_of_equals_is_the_same() -> None:
    assert hash(OURS["Hidden"]("a", b"1")) == hash(OURS["Hidden"]("a", b"2"))
    assert OURS["Hidden"]("a", b"123").length == 3
    assert not hasattr(OURS["Point"](1), "__dict__")


def test_pickling() -> None:
    from pykexec.memory import Range

    value = Range(1, 2)
    assert pickle.loads(pickle.dumps(value)) == value
    assert copy.copy(value) == value


def test_what_is_left_out_is_refused() -> None:
    with pytest.raises(TypeError, match="frozen=True"):
        values.dataclass(frozen=False)
