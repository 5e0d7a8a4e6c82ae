"""The words of `typing` and `enum` that are needed while running, without importing these: with `re`, which `typing` needs,
that costs as much as a bare interpreter, and `status` stands in a prompt. mypy sees the real ones.

A named tuple of ours is what `typing.NamedTuple` makes, defined ten times faster: annotations are left alone, and the
constructor is made when the first value is.
"""

from __future__ import annotations

TYPE_CHECKING = False  # every type checker knows this name, wherever it stands

if TYPE_CHECKING:
    from enum import Enum
    from typing import Any, Generic, NamedTuple, NewType, Protocol, TypeVar
else:
    from _collections import _tuplegetter  # the descriptor of collections.namedtuple

    _tuple = tuple.__new__
    Any = object

    def NewType(name, supertype):  # noqa: N802 - as in typing
        """The type itself: a new name costs nothing."""
        return supertype

    def TypeVar(name, *constraints, **variance):  # noqa: N802 - as in typing
        """Only annotations name it, and nobody evaluates them."""

    class Protocol:
        """Nothing is inherited from it."""

    class Generic:
        """``Generic[T]`` is Generic."""

        def __class_getitem__(cls, _parameters):
            return cls

    # Constructors by how many fields they take: compiled with this module, whatever the names of the fields are. Few have more.
    _constructors = (
        lambda _cls: _tuple(_cls, ()),
        lambda _cls, a: _tuple(_cls, (a,)),
        lambda _cls, a, b: _tuple(_cls, (a, b)),
        lambda _cls, a, b, c: _tuple(_cls, (a, b, c)),
        lambda _cls, a, b, c, d: _tuple(_cls, (a, b, c, d)),
        lambda _cls, a, b, c, d, e: _tuple(_cls, (a, b, c, d, e)),
        lambda _cls, a, b, c, d, e, f: _tuple(_cls, (a, b, c, d, e, f)),
        lambda _cls, a, b, c, d, e, f, g: _tuple(_cls, (a, b, c, d, e, f, g)),
        lambda _cls, a, b, c, d, e, f, g, h: _tuple(_cls, (a, b, c, d, e, f, g, h)),
        lambda _cls, a, b, c, d, e, f, g, h, i: _tuple(_cls, (a, b, c, d, e, f, g, h, i)),
        lambda _cls, a, b, c, d, e, f, g, h, i, j: _tuple(_cls, (a, b, c, d, e, f, g, h, i, j)),
        lambda _cls, a, b, c, d, e, f, g, h, i, j, k: _tuple(_cls, (a, b, c, d, e, f, g, h, i, j, k)),
        lambda _cls, a, b, c, d, e, f, g, h, i, j, k, m: _tuple(_cls, (a, b, c, d, e, f, g, h, i, j, k, m)),
        lambda _cls, a, b, c, d, e, f, g, h, i, j, k, m, n: _tuple(_cls, (a, b, c, d, e, f, g, h, i, j, k, m, n)),
        lambda _cls, a, b, c, d, e, f, g, h, i, j, k, m, n, o: _tuple(_cls, (a, b, c, d, e, f, g, h, i, j, k, m, n, o)),
        lambda _cls, a, b, c, d, e, f, g, h, i, j, k, m, n, o, p: _tuple(_cls, (a, b, c, d, e, f, g, h, i, j, k, m, n, o, p)),
        lambda _cls, a, b, c, d, e, f, g, h, i, j, k, m, n, o, p, q: _tuple(
            _cls, (a, b, c, d, e, f, g, h, i, j, k, m, n, o, p, q)
        ),
        lambda _cls, a, b, c, d, e, f, g, h, i, j, k, m, n, o, p, q, r: _tuple(
            _cls, (a, b, c, d, e, f, g, h, i, j, k, m, n, o, p, q, r)
        ),
    )

    def _constructor(count):
        """The code of a constructor with so many fields."""
        if count < len(_constructors):
            return _constructors[count].__code__
        fields = "".join(f"_{number}, " for number in range(count))
        return eval(f"lambda _cls, {fields}: _tuple(_cls, ({fields}))").__code__  # noqa: S307 - ours

    class Record(tuple):
        """What all named tuples can do. Each has it in itself: for every class Python asks all its bases for ninety names."""

        __slots__ = ()
        _fields = ()
        _field_defaults = {}  # noqa: RUF012 - as in collections.namedtuple

        def __new__(cls, *values, **named):
            """The first value of a class: its constructor is made, and stands in the place of this one from now on."""
            names = {"co_varnames": ("_cls", *cls._fields), "co_qualname": f"{cls.__qualname__}.__new__"}
            code = _constructor(len(cls._fields)).replace(co_name="__new__", **names)
            constructor = type(_constructor)(code, globals(), "__new__", tuple(cls._field_defaults.values()))
            cls.__new__ = staticmethod(constructor)
            return constructor(cls, *values, **named)

        @classmethod
        def _make(cls, values):
            """A value from all its fields in their order."""
            made = _tuple(cls, values)
            if len(made) != len(cls._fields):
                raise TypeError(f"{cls.__name__} has {len(cls._fields)} fields, not {len(made)}")
            return made

        def _replace(self, **changed):
            """The same with other contents of some fields."""
            made = _tuple(type(self), map(changed.pop, self._fields, self))
            if changed:
                raise TypeError(f"{type(self).__name__} has no fields {sorted(changed)}")
            return made

        def _asdict(self):
            """By name, in the order of the fields."""
            return dict(zip(self._fields, self, strict=True))

        def __repr__(self):
            return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in self._asdict().items())})"

        def __getnewargs__(self):
            return tuple(self)

    _RECORD = {**vars(Record), "__doc__": None}

    class _Definition(type):
        """Makes a Record of a class whose body lists fields, like typing's own."""

        def __new__(mcs, name, bases, body):
            if not bases:
                return super().__new__(mcs, name, bases, body)
            fields = tuple(body.get("__annotations__", ()))
            defaults = {field: body[field] for field in fields if field in body}
            if fields[len(fields) - len(defaults) :] != tuple(defaults):
                raise TypeError(f"{name}: a field without a default follows one that has one")
            for at, field in enumerate(fields):
                body[field] = _tuplegetter(at, None)
            body |= {"__slots__": (), "__match_args__": fields, "_fields": fields, "_field_defaults": defaults}
            return type(name, (tuple,), _RECORD | body)

    class NamedTuple(metaclass=_Definition):
        """``class Point(NamedTuple): x: int; y: int = 0``"""

    class _Closed(type):
        """Makes a member of each public name of a class body that stands for a text."""

        def __new__(mcs, name, bases, body):
            values = {key: value for key, value in body.items() if isinstance(value, str) and not key.startswith("_")}
            made = super().__new__(mcs, name, bases, {key: value for key, value in body.items() if key not in values})
            made._members = {}
            for key, value in values.items():
                member = made._members[key] = object.__new__(made)
                member.name, member.value = key, value
                setattr(made, key, member)
            return made

        def __call__(cls, value):
            for member in cls:
                if member.value == value:
                    return member
            raise ValueError(f"{value!r} is no {cls.__name__}")

        def __getitem__(cls, name):
            return cls._members[name]

        def __iter__(cls):
            return iter(cls._members.values())

        def __len__(cls):
            return len(cls._members)

    class Enum(metaclass=_Closed):
        """A closed set of words, each of them once: ``class Verb(Enum): CREATE = "+"``"""

        def __reduce__(self):
            return getattr, (type(self), self.name)

        def __repr__(self):
            return f"<{type(self).__name__}.{self.name}: {self.value!r}>"

        def __str__(self):
            return f"{type(self).__name__}.{self.name}"


__all__ = ["TYPE_CHECKING", "Any", "Enum", "Generic", "NamedTuple", "NewType", "Protocol", "TypeVar"]
