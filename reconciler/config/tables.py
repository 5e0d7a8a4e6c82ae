"""Tables of a document as classes: each key with what may stand there, its default and what it is for.

Documents are read by them, and all that is wrong is found at once; the JSON Schema is made of them, too. What is read is not to
be changed: defaults are shared.
"""

from __future__ import annotations

from functools import partial
from itertools import chain, islice, repeat

from reconciler.lean import defaultdict
from reconciler.typed import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from typing import ClassVar, Self

    from reconciler.config.lines import Path

    Place = tuple[str, ...]  # of a table in any document: "*" is a name, "#" an index
    Levels = Iterator[tuple[Place, tuple[str, ...]]]  # where tables may stand, and which keys they have

T = TypeVar("T")
Json = dict[str, Any]
_REQUIRED: Any = object()
_NONE: Any = None


class Wrong(NamedTuple):
    """One thing that is wrong with a document."""

    path: Path  # from the value that was read
    kind: str  # value · missing · unknown · table (expected) · array (expected)
    value: object  # what stands there
    words: str = ""  # why it cannot be that, of a value


class Invalid(ValueError):
    """All that is wrong with a value, in the order of the keys; unknown ones last."""

    def __init__(self, wrong: Iterable[Wrong]) -> None:
        super().__init__()
        self.wrong = tuple(wrong)


class Kind(Generic[T]):
    """What may stand somewhere.

    `read_all`: what is kept of each of several values, which are read together because that is faster. ValueError, which need
    not say why, when one of them cannot stand there, and only then. `wrong`: why a value cannot; nothing, if it can.
    `schema`: its JSON Schema; that of tables goes into the definitions.
    """

    read_all: Callable[[Sequence[Any]], Iterable[T]]
    wrong: Callable[[Any], Iterable[Wrong]]
    schema: Callable[[dict[str, Json]], Json]

    def read(self, value: Any) -> T:
        """What is kept of one."""
        try:
            (kept,) = self.read_all([value])
        except ValueError:
            wrong = list(self.wrong(value))
            if not wrong:
                raise
            raise Invalid(wrong) from None
        return kept

    def levels(self) -> Levels:
        """The tables in it."""
        return iter(())


class Checked(Kind[T]):
    """A plain value. `check` makes of it what is kept; its ValueError says in plain words why it cannot stand there. `at_once`
    does so with many."""

    def __init__(
        self, check: Callable[[Any], T], schema: Json, at_once: Callable[[Sequence[Any]], Iterable[T]] | None = None
    ) -> None:
        self._check = check
        self._schema = schema
        self.read_all = at_once or partial(map, check)

    def wrong(self, value: Any) -> Iterator[Wrong]:
        try:
            self._check(value)
        except ValueError as error:
            yield Wrong((), "value", value, str(error))

    def schema(self, definitions: dict[str, Json]) -> Json:
        return self._schema


class Many(Kind[tuple[T, ...]]):
    """An array. `or_one`: its only element may stand alone."""

    def __init__(self, of: Kind[T], *, or_one: bool = False) -> None:
        self._of, self._or_one = of, or_one

    def read_all(self, values: Sequence[Any]) -> list[tuple[T, ...]]:
        arrays = values if _are_all(list, values) else list(map(self._array, values))
        kept = iter(self._of.read_all(list(chain.from_iterable(arrays))))
        return list(map(tuple, map(islice, repeat(kept), map(len, arrays))))

    def wrong(self, value: Any) -> Iterable[Wrong]:
        try:
            return _wrong_in(enumerate(self._array(value)), self._of)
        except ValueError:
            return [Wrong((), "array", value)]

    def _array(self, value: Any) -> list[Any]:
        if isinstance(value, list):
            return value
        if self._or_one:
            return [value]
        raise ValueError("no array")

    def levels(self) -> Levels:
        return _below("#", self._of)

    def schema(self, definitions: dict[str, Json]) -> Json:
        element = self._of.schema(definitions)
        many = {"items": element, "type": "array"}
        return {"anyOf": [element, many]} if self._or_one else many


class Named(Kind["Mapping[str, T]"]):
    """A table whose keys are names."""

    def __init__(self, of: Kind[T]) -> None:
        self._of = of

    def read_all(self, values: Sequence[Any]) -> list[Mapping[str, T]]:
        if not _are_all(dict, values):
            raise ValueError("no table")
        return [dict(zip(table, self._of.read_all(list(table.values())), strict=True)) for table in values]

    def wrong(self, value: Any) -> Iterable[Wrong]:
        return _wrong_in(value.items(), self._of) if isinstance(value, dict) else [Wrong((), "table", value)]

    def levels(self) -> Levels:
        return _below("*", self._of)

    def schema(self, definitions: dict[str, Json]) -> Json:
        return {"additionalProperties": self._of.schema(definitions), "type": "object"}


class Key(NamedTuple):
    """A key of a table."""

    name: str  # in the document
    attribute: str  # in Python
    default: Any
    description: str
    schema: Json
    kind: Kind[Any]


def key(kind: Kind[T], default: T = _REQUIRED, *, description: str, alias: str = "", schema: Json | None = None) -> T:
    """Without a default it is required. `alias`: its name in the document, where that is a word of Python; `schema`: what its
    JSON Schema says more."""
    declared: Any = Key(alias, "", default, description, schema or {}, kind)
    return declared  # type: ignore[no-any-return] # what instances have


def maybe(kind: Kind[T], *, description: str, alias: str = "") -> T | None:
    """A key that may be left out; None then."""
    declared: T | None = key(kind, _NONE, description=description, alias=alias)
    return declared


class Table:
    """Unknown keys are errors; nothing is converted. The attributes are all keys, and `given`."""

    KEYS: ClassVar[dict[str, Key]]
    _NEEDED: ClassVar[frozenset[str]]
    _DEFAULTS: ClassVar[dict[str, Any]]  # by attribute
    given: frozenset[str]  # the keys that stand in the document

    def __init_subclass__(cls) -> None:
        own = [one._replace(name=one.name or name, attribute=name) for name, one in vars(cls).items() if isinstance(one, Key)]
        cls.KEYS = {one.name: one for one in own}
        cls._NEEDED = frozenset([one.name for one in own if one.default is _REQUIRED])
        cls._DEFAULTS = {one.attribute: one.default for one in own if one.default is not _REQUIRED}
        for one in own:
            delattr(cls, one.attribute)  # of an instance Python reads faster what its class does not have, too

    @classmethod
    def read_all(cls, documents: Sequence[Any]) -> list[Self]:
        """Key by key, what stands there in all of them. Most have the same keys as others."""
        if not _are_all(dict, documents):
            raise ValueError("no table")
        keys_of_each = list(map(tuple, documents))
        alike: defaultdict[tuple[str, ...], list[dict[str, Any]]] = defaultdict(list)
        for keys, document in zip(keys_of_each, documents, strict=True):
            alike[keys].append(document)
        columns: defaultdict[str, list[Any]] = defaultdict(list)
        for keys, several in alike.items():
            for key, column in zip(keys, zip(*map(dict.values, several), strict=True), strict=True):
                columns[key] += column
        if not columns.keys() <= cls.KEYS.keys():
            raise ValueError("unknown keys")
        kept = {key: iter(cls.KEYS[key].kind.read_all(column)) for key, column in columns.items()}
        made = {keys: iter(cls._made(keys, len(several), kept)) for keys, several in alike.items()}
        return list(map(next, map(made.__getitem__, keys_of_each)))

    @classmethod
    def _made(cls, keys: tuple[str, ...], number: int, kept: dict[str, Iterator[Any]]) -> list[Self]:
        """So many tables with these keys, of what is kept next at each of them."""
        given = frozenset(keys)
        if not given >= cls._NEEDED:
            raise ValueError("missing keys")
        common = cls._DEFAULTS | {"given": given}
        attributes = [cls.KEYS[key].attribute for key in keys]
        made = list(map(cls.__new__, repeat(cls, number)))
        for one, *values in zip(made, *[islice(kept[key], number) for key in keys], strict=True):
            one.__dict__ = common | dict(zip(attributes, values))  # noqa: B905 - strict in each row would cost a fifth
        return made

    @classmethod
    def wrong(cls, document: Any) -> list[Wrong]:
        """In the order of the keys; unknown ones last."""
        if not isinstance(document, dict):
            return [Wrong((), "table", document)]
        found = [Wrong((name,), "missing", document) for name in cls._NEEDED.difference(document)]
        for name, value in document.items():
            known = name in cls.KEYS
            found += _within(name, cls.KEYS[name].kind.wrong(value)) if known else [Wrong((name,), "unknown", value)]
        places = {name: place for place, name in enumerate(cls.KEYS)}
        return sorted(found, key=lambda one: places.get(str(one.path[0]), len(places)))

    @classmethod
    def levels(cls) -> Levels:
        """This one, and those in it."""
        yield (), tuple(cls.KEYS)
        for name, one in cls.KEYS.items():
            yield from _below(name, one.kind)

    @classmethod
    def schema(cls, definitions: dict[str, Json]) -> Json:
        """Its JSON Schema, without the definitions that it refers to."""
        needed = [name for name in cls.KEYS if name in cls._NEEDED]
        return {
            "additionalProperties": False,
            "description": cls.__doc__,
            "properties": {name: _schema_of(one, definitions) for name, one in cls.KEYS.items()},
            **({"required": needed} if needed else {}),
            "type": "object",
        }


AnyTable = TypeVar("AnyTable", bound=Table)


class Of(Kind[AnyTable]):
    """A table with keys of its own."""

    def __init__(self, table: type[AnyTable]) -> None:
        self._table = table
        self.read_all, self.wrong = table.read_all, table.wrong

    def levels(self) -> Levels:
        return self._table.levels()

    def schema(self, definitions: dict[str, Json]) -> Json:
        name = self._table.__name__
        if name not in definitions:
            definitions[name] = self._table.schema(definitions)
        return {"$ref": f"#/$defs/{name}"}


def _schema_of(one: Key, definitions: dict[str, Json]) -> Json:
    """TOML has no null, so none is a default in it."""
    default = {} if one.default is _REQUIRED or one.default is None else {"default": one.default}
    return {**default, **one.kind.schema(definitions), "description": one.description, **one.schema}


def _are_all(kind: type, values: Iterable[Any]) -> bool:
    return set(map(type, values)) <= {kind}


def _wrong_in(parts: Iterable[tuple[str | int, Any]], kind: Kind[Any]) -> Iterator[Wrong]:
    """What is wrong with the parts of a value."""
    for part, value in parts:
        yield from _within(part, kind.wrong(value))


def _within(part: str | int, wrong: Iterable[Wrong]) -> Iterable[Wrong]:
    """What is wrong with the value at this key or index, as that of the whole."""
    return (one._replace(path=(part, *one.path)) for one in wrong)


def _below(part: str, kind: Kind[Any]) -> Levels:
    return (((part, *place), names) for place, names in kind.levels())
