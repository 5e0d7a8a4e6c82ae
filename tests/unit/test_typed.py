"""Our named tuples and enumerations beside those of the standard library: the same, as far as anybody here can see."""

from __future__ import annotations

import copy
import enum
import inspect
import pickle
import typing
from collections.abc import Callable

import pytest

from reconciler import typed


class Ours(typed.NamedTuple):
    """One of ours."""

    name: str
    size: int = 3
    words: tuple[str, ...] = ()

    @property
    def long(self) -> bool:
        return self.size > 2


class Theirs(typing.NamedTuple):
    """One of typing's."""

    name: str
    size: int = 3
    words: tuple[str, ...] = ()

    @property
    def long(self) -> bool:
        return self.size > 2


class Colour(typed.Enum):
    """One of ours."""

    RED = "red"
    BLUE = "blue"

    @property
    def is_warm(self) -> bool:
        return self is Colour.RED


class Hue(enum.Enum):
    """One of enum's."""

    RED = "red"
    BLUE = "blue"

    @property
    def is_warm(self) -> bool:
        return self is Hue.RED


@pytest.mark.parametrize(
    "make",
    [
        lambda kind: kind("a"),
        lambda kind: kind("a", 4, ("b",)),
        lambda kind: kind(size=4, name="a"),
        lambda kind: kind._make(("a", 1, ())),
        lambda kind: kind("a")._replace(size=9, name="b"),
        lambda kind: copy.deepcopy(kind("a", 4)),
        lambda kind: pickle.loads(pickle.dumps(kind("a", 4))),
    ],
)
def test_named_tuple_is_made_as_typing_makes_it(make: Callable[[typing.Any], typing.Any]) -> None:
    ours, theirs = make(Ours), make(Theirs)
    assert tuple(ours) == tuple(theirs)
    assert (ours, hash(ours)) == (theirs, hash(theirs))
    assert (ours.name, ours.size, ours.words, ours.long) == (theirs.name, theirs.size, theirs.words, theirs.long)
    assert ours._asdict() == theirs._asdict()
    assert repr(ours) == repr(theirs).replace("Theirs", "Ours")


@pytest.mark.parametrize(
    "make",
    [
        lambda kind: kind(),
        lambda kind: kind("a", 1, (), 2),
        lambda kind: kind("a", 1, size=1),
        lambda kind: kind("a", colour=1),
        lambda kind: kind._make(("a",)),
        lambda kind: setattr(kind("a"), "name", "b"),
        lambda kind: setattr(kind("a"), "colour", "b"),
        lambda kind: kind("a")._replace(colour=1),
    ],
)
def test_named_tuple_refuses_what_typing_refuses(make: Callable[[typing.Any], object]) -> None:
    for kind in (Ours, Theirs):
        with pytest.raises((TypeError, AttributeError, ValueError)):
            make(kind)


def test_named_tuple_says_what_it_is() -> None:
    Ours("a")
    assert inspect.signature(Ours).parameters.keys() == inspect.signature(Theirs).parameters.keys()
    assert typing.get_type_hints(Ours) == typing.get_type_hints(Theirs)
    for name in ("_fields", "_field_defaults", "__match_args__", "__slots__"):
        assert getattr(Ours, name) == getattr(Theirs, name)
    assert (Ours.__doc__, Ours.__module__, Ours.__qualname__) == ("One of ours.", __name__, "Ours")


def test_field_without_a_default_after_one_with_a_default_is_refused() -> None:
    with pytest.raises(TypeError, match="without a default"):

        class _Wrong(typed.NamedTuple):
            size: int = 3
            name: str  # type: ignore[misc]


def test_constructors_of_as_many_fields_are_not_mixed_up() -> None:
    class One(typed.NamedTuple):
        first: int
        second: int = 7

    class Other(typed.NamedTuple):
        left: int
        right: int

    assert One(first=1) == (1, 7)
    assert Other(right=2, left=1) == (1, 2)
    with pytest.raises(TypeError, match="right"):
        Other(1)  # type: ignore[call-arg]


def test_enumeration_is_one_of_enum() -> None:
    for kind in (Colour, Hue):
        assert [(member.name, member.value, member.is_warm) for member in kind] == [
            ("RED", "red", True),
            ("BLUE", "blue", False),
        ]
        assert kind("blue") is kind["BLUE"] is kind.BLUE
        assert (len(kind), kind.RED in kind, isinstance(kind.RED, kind)) == (2, True, True)
        assert copy.deepcopy(kind.RED) is pickle.loads(pickle.dumps(kind.RED)) is kind.RED
        with pytest.raises(ValueError, match="green"):
            kind("green")
    assert repr(Colour.RED) == repr(Hue.RED).replace("Hue", "Colour")
    assert str(Colour.RED) == str(Hue.RED).replace("Hue", "Colour")
