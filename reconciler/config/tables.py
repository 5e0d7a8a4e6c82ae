"""Tables of a document as classes: each key with what may stand there, its default and what it is for.

Documents are read by them, and all that is wrong is found at once; the JSON Schema is made of them, too. What is read is not to
be changed: defaults are shared.
"""

from __future__ import annotations

from functools import partial

from reconciler.typed import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
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
    """What is wrong inside a value, in the order of the keys; unknown ones last."""

    def __init__(self, wrong: Iterable[Wrong]) -> None:
        super().__init__()
        self.wrong = tuple(wrong)


class Kind(Generic[T]):
    """What may stand somewhere.

    `read`: what is kept of it; ValueError says in plain words why it cannot stand there, Invalid where it has parts.
    `schema`: its JSON Schema; that of tables goes into the definitions.
    """

    read: Callable[[Any], T]
    schema: Callable[[dict[str, Json]], Json]

    def levels(self) -> Levels:
        """The tables in it."""
        return iter(())


class Checked(Kind[T]):
    """A plain value: the function that checks it and makes of it what is kept."""

    def __init__(self, check: Callable[[Any], T], schema: Json) -> None:
        self.read = check
        self._schema = schema

    def schema(self, definitions: dict[str, Json]) -> Json:
        return self._schema


class Many(Kind[tuple[T, ...]]):
    """An array. `or_one`: its only element may stand alone. `at_once`: reads good elements faster than one after the other."""

    def __init__(self, of: Kind[T], *, or_one: bool = False, at_once: Callable[[list[Any]], Iterable[T]] | None = None) -> None:
        self._of, self._or_one = of, or_one
        self._at_once = at_once or partial(map, of.read)

    def read(self, value: Any) -> tuple[T, ...]:
        if not isinstance(value, list):
            if not self._or_one:
                raise Invalid([Wrong((), "array", value)])
            value = [value]
        try:
            return tuple(self._at_once(value))
        except ValueError:  # which of them are wrong?
            return tuple(_read(enumerate(value), self._of.read))

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

    def read(self, value: Any) -> Mapping[str, T]:
        if not isinstance(value, dict):
            raise Invalid([Wrong((), "table", value)])
        try:
            return dict(zip(value, map(self._of.read, value.values()), strict=True))
        except ValueError:  # as of `Many`
            return dict(zip(value, _read(value.items(), self._of.read), strict=True))

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
    """Unknown keys are errors; nothing is converted."""

    KEYS: ClassVar[dict[str, Key]]
    _READERS: ClassVar[dict[str, tuple[str, Callable[[Any], Any]]]]  # by key: the attribute, what makes its value
    _DEFAULTS: ClassVar[dict[str, Any]]  # by attribute

    def __init_subclass__(cls) -> None:
        own = [one._replace(name=one.name or name, attribute=name) for name, one in vars(cls).items() if isinstance(one, Key)]
        cls.KEYS = {one.name: one for one in own}
        cls._READERS = {one.name: (one.attribute, one.kind.read) for one in own}
        cls._DEFAULTS = {one.attribute: one.default for one in own if one.default is not _REQUIRED}
        for one in own:
            delattr(cls, one.attribute)  # of an instance Python reads faster what its class does not have, too

    @classmethod
    def read(cls, document: Any) -> Self:
        """A table whose attributes are all keys. Invalid: all that is wrong."""
        if not isinstance(document, dict):
            raise Invalid([Wrong((), "table", document)])
        readers, values, wrong = cls._READERS, cls._DEFAULTS.copy(), []
        for name, value in document.items():
            try:
                attribute, read = readers[name]
            except KeyError:
                wrong.append(Wrong((name,), "unknown", value))
                continue
            try:
                values[attribute] = read(value)
            except ValueError as error:
                wrong += _wrong_at(name, value, error)
        if wrong or len(values) < len(cls.KEYS):
            raise cls._invalid(document, wrong)
        made = cls.__new__(cls)
        made.__dict__ = values
        return made

    @classmethod
    def _invalid(cls, document: dict[str, Any], wrong: list[Wrong]) -> Invalid:
        missing = [name for name, one in cls.KEYS.items() if one.default is _REQUIRED and name not in document]
        places = {name: place for place, name in enumerate(cls.KEYS)}
        found = [*wrong, *(Wrong((name,), "missing", document) for name in missing)]
        return Invalid(sorted(found, key=lambda one: places.get(str(one.path[0]), len(places))))

    @classmethod
    def levels(cls) -> Levels:
        """This one, and those in it."""
        yield (), tuple(cls.KEYS)
        for name, one in cls.KEYS.items():
            yield from _below(name, one.kind)

    @classmethod
    def schema(cls, definitions: dict[str, Json]) -> Json:
        """Its JSON Schema, without the definitions that it refers to."""
        needed = [name for name, one in cls.KEYS.items() if one.default is _REQUIRED]
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
        self.read = table.read

    def levels(self) -> Levels:
        return self._table.levels()

    def schema(self, definitions: dict[str, Json]) -> Json:
        name = self._table.__name__
        if name not in definitions:
            definitions[name] = self._table.schema(definitions)
        return {"$ref": f"#/$defs/{name}"}


def json_schema(table: type[Table]) -> Json:
    """The JSON Schema of documents that are such a table."""
    definitions: dict[str, Json] = {}
    schema = table.schema(definitions)
    return {"$defs": dict(sorted(definitions.items())), **schema}


def _schema_of(one: Key, definitions: dict[str, Json]) -> Json:
    """TOML has no null, so none is a default in it."""
    default = {} if one.default is _REQUIRED or one.default is None else {"default": one.default}
    return {**default, **one.kind.schema(definitions), "description": one.description, **one.schema}


def _read(parts: Iterable[tuple[str | int, Any]], read: Callable[[Any], T]) -> list[T]:
    """What is kept of each part. Invalid: what is wrong with any of them."""
    made: list[T] = []
    wrong: list[Wrong] = []
    for part, value in parts:
        try:
            made.append(read(value))
        except ValueError as error:
            wrong += _wrong_at(part, value, error)
    if wrong:
        raise Invalid(wrong)
    return made


def _wrong_at(part: str | int, value: object, error: ValueError) -> list[Wrong]:
    """What is wrong with the value at this key or index."""
    if isinstance(error, Invalid):
        return [one._replace(path=(part, *one.path)) for one in error.wrong]
    return [Wrong((part,), "value", value, str(error))]


def _below(part: str, kind: Kind[Any]) -> Levels:
    return (((part, *place), names) for place, names in kind.levels())
