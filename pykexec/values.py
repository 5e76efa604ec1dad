"""A small `dataclass` for frozen values: importing and compiling the standard one costs a third of a load.

Fields, defaults, signature, equality, hash, repr, order and pickling are those of the standard library's
(the tests compare them), and its `replace`, `fields` and `asdict` take these classes too. `help` shows what
stands below each field in the source, too (`valuehelp`). Classes must be frozen; there are no default
factories, keyword-only fields or class variables. Type checkers see the original.
"""

from __future__ import annotations

from operator import attrgetter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from typing import Any


class _Field:
    """The settings of a field in the class body."""

    __slots__ = ("compare", "default", "repr")

    def __init__(self, default: object, repr: bool, compare: bool) -> None:
        self.default = default
        self.repr = repr
        self.compare = compare

    @property
    def keywords(self) -> dict[str, Any]:
        """The arguments for the original's field()."""
        named = {"repr": self.repr, "compare": self.compare}
        return named if self.default is REQUIRED else {**named, "default": self.default}


REQUIRED = object()
FIELDS = "__value_fields__"


def _field(*, default: object = REQUIRED, repr: bool = True, compare: bool = True) -> _Field:
    return _Field(default, repr, compare)


def _replace(value: Any, /, **changes: Any) -> Any:
    """Return the value with these fields changed."""
    kept = {name: getattr(value, name) for name in getattr(value, FIELDS) if name not in changes}
    return value.__class__(**kept, **changes)


def _dataclass(*, frozen: bool, slots: bool = False, order: bool = False) -> Callable[[Any], Any]:
    if not frozen:
        raise TypeError("only values can be made here: frozen=True")

    def decorate(cls: Any) -> Any:
        own = dict(_declared(cls))
        inherited = [getattr(base, FIELDS, {}) for base in reversed(cls.__mro__[1:])]
        fields = {name: field for each in [*inherited, own] for name, field in each.items()}
        body = {name: value for name, value in vars(cls).items() if name not in own}
        for name in ("__dict__", "__weakref__"):
            body.pop(name, None)
        body["__doc__"] = _Text(cls.__doc__)
        if slots:
            body["__slots__"] = tuple(own)
        else:
            body |= {name: each.default for name, each in own.items() if each.default is not REQUIRED}
        methods = _methods(fields, order=order)
        made = type(cls)(cls.__name__, cls.__bases__, {**methods, **body})
        if "__init__" not in body:
            setattr(made, "__init__", _initializer(made, fields))  # noqa: B010
            setattr(made, "__signature__", _Signature())  # noqa: B010
        return made

    return decorate


def _declared(cls: type[Any]) -> Iterator[tuple[str, _Field]]:
    # Read through the class: since Python 3.14 its namespace has annotations only once they are asked for
    # (PEP 649). They are its own, never a base's, since 3.10.
    for name in cls.__annotations__:
        given = vars(cls).get(name, REQUIRED)
        yield name, given if isinstance(given, _Field) else _Field(given, True, True)


_OFTEN = 50
"""Compiling an initializer takes about as long as so many calls of one that is not compiled."""


def _initializer(cls: type[Any], fields: Mapping[str, _Field]) -> Callable[..., None]:
    """Return an initializer that compiles itself when it has been called often.

    Most classes have a few instances, some a hundred thousand.
    """
    names = tuple(fields)
    defaults = {name: each.default for name, each in fields.items() if each.default is not REQUIRED}
    is_checked = hasattr(cls, "__post_init__")
    calls = 0

    def initialize(self: Any, /, *values: Any, **named: Any) -> None:
        nonlocal calls
        calls += 1
        given = dict(zip(names, values, strict=False))
        chosen = {**defaults, **given, **named}
        fits = (
            len(given) == len(values) and chosen.keys() == fields.keys() and not given.keys() & named.keys()
        )
        if calls == _OFTEN or not fits:
            compiled = _compiled(cls, fields)
            setattr(cls, "__init__", compiled)  # noqa: B010
            return compiled(self, *values, **named)  # raises the TypeError that says what does not fit
        for name in names:
            object.__setattr__(self, name, chosen[name])
        if is_checked:
            self.__post_init__()

    initialize.__qualname__ = f"{cls.__qualname__}.__init__"
    return initialize


def _compiled(cls: type[Any], fields: Mapping[str, _Field]) -> Callable[..., None]:
    parameters = ", ".join(
        name if each.default is REQUIRED else f"{name}=fields[{name!r}].default"
        for name, each in fields.items()
    )
    lines = [f"def __init__(self, {parameters}):", *(f" assign(self, {name!r}, {name})" for name in fields)]
    if hasattr(cls, "__post_init__"):
        lines.append(" self.__post_init__()")
    made: dict[str, Any] = {}
    exec("\n".join([*lines, " pass"]), {"assign": object.__setattr__, "fields": fields}, made)
    initializer: Callable[..., None] = made["__init__"]
    initializer.__qualname__ = f"{cls.__qualname__}.__init__"
    return initializer


def _methods(fields: Mapping[str, _Field], *, order: bool) -> dict[str, Any]:
    compared = [name for name, each in fields.items() if each.compare]
    shown = [name for name, each in fields.items() if each.repr]
    key = _tuple_getter(compared)

    def equals(self: object, other: object) -> bool:
        return key(self) == key(other) if other.__class__ is self.__class__ else NotImplemented

    def is_less(self: object, other: object) -> bool:
        return key(self) < key(other) if other.__class__ is self.__class__ else NotImplemented

    def is_less_or_equal(self: object, other: object) -> bool:
        return key(self) <= key(other) if other.__class__ is self.__class__ else NotImplemented

    def is_greater(self: object, other: object) -> bool:
        return key(self) > key(other) if other.__class__ is self.__class__ else NotImplemented

    def is_greater_or_equal(self: object, other: object) -> bool:
        return key(self) >= key(other) if other.__class__ is self.__class__ else NotImplemented

    def hash_of(self: object) -> int:
        return hash(key(self))

    def text(self: object) -> str:
        listed = ", ".join(f"{name}={getattr(self, name)!r}" for name in shown)
        return f"{self.__class__.__qualname__}({listed})"

    methods = {
        FIELDS: fields,
        "__dataclass_fields__": _ForTheOriginal(),
        "__match_args__": tuple(fields),
        "__eq__": equals,
        "__hash__": hash_of,
        "__repr__": text,
        "__setattr__": _refuse_to_assign,
        "__delattr__": _refuse_to_delete,
        "__replace__": _replace,
        "__getstate__": _state,
        "__setstate__": _restore,
    }
    if order:
        methods["__lt__"], methods["__le__"] = is_less, is_less_or_equal
        methods["__gt__"], methods["__ge__"] = is_greater, is_greater_or_equal
    return methods


def _tuple_getter(names: list[str]) -> Callable[[object], tuple[object, ...]]:
    if len(names) > 1:
        return attrgetter(*names)
    return lambda value: tuple(getattr(value, name) for name in names)


class _ForTheOriginal:
    """The attribute by which `dataclasses` knows a dataclass, made when it is asked for."""

    def __get__(self, instance: object, owner: type[Any]) -> dict[str, Any]:
        import dataclasses

        fields: Mapping[str, _Field] = getattr(owner, FIELDS)
        rows = [(name, object, dataclasses.field(**each.keywords)) for name, each in fields.items()]
        original: Any = dataclasses.make_dataclass(owner.__name__, rows)
        found: dict[str, Any] = original.__dataclass_fields__
        return found


class _Signature:
    """The attribute by which `inspect` knows what a class takes."""

    def __get__(self, instance: object, owner: type[Any]) -> object:
        from pykexec import valuehelp

        return valuehelp.signature(owner)


class _Text:
    """The docstring of a class, to which its fields are added for who reads it."""

    __slots__ = ("_own",)

    def __init__(self, own: str | None) -> None:
        self._own = own

    def __get__(self, instance: object, owner: type[Any]) -> str:
        from pykexec import valuehelp

        return valuehelp.text(owner, self._own)


def _refuse_to_assign(self: object, name: str, value: object) -> None:
    raise AttributeError(f"cannot assign to field {name!r}")


def _refuse_to_delete(self: object, name: str) -> None:
    raise AttributeError(f"cannot delete field {name!r}")


def _state(self: Any) -> list[object]:
    return [getattr(self, name) for name in getattr(self, FIELDS)]


def _restore(self: Any, state: list[object]) -> None:
    for name, value in zip(getattr(self, FIELDS), state, strict=True):
        object.__setattr__(self, name, value)


if TYPE_CHECKING:
    from dataclasses import dataclass, field, replace
else:
    dataclass, field, replace = _dataclass, _field, _replace

__all__ = ["dataclass", "field", "replace"]
