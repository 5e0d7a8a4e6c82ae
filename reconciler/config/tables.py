"""Tables of a document as classes: each key with its type, its default and what it is for.

pydantic's core checks documents against them. pydantic itself could make what its core needs, and the JSON Schema, of the same
classes; it would cost 140 ms of every command whose file has changed, to be loaded and to look into classes.
"""

from __future__ import annotations

from types import NoneType
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, NamedTuple, Self, get_args, get_origin, get_type_hints

from pydantic_core import CoreConfig, CoreSchema, SchemaValidator, core_schema

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Json = dict[str, Any]
Place = tuple[str, ...]  # of a table in any document: "*" is a name, "#" an index
_REQUIRED: Any = object()
_STRICT = CoreConfig(strict=True, extra_fields_behavior="forbid")
_SIGNS = {list: "#", dict: "*"}


class Checked:
    """A value: the function that checks it (ValueError says what is wrong) and makes of it what is kept; its JSON Schema."""

    def __init__(self, check: Callable[[Any], Any], schema: Json) -> None:
        self.check, self.schema = check, schema


class OneOrMany(NamedTuple):
    """An array whose only element may stand alone: the function that makes one of it."""

    listed: Callable[[Any], Any]


class Key(NamedTuple):
    """A key of a table."""

    default: Any
    description: str
    alias: str | None
    is_checked: bool
    schema: Json
    attribute: str = ""  # its name in Python
    type: Any = None


def key(
    default: Any = _REQUIRED,
    *,
    description: str,
    alias: str | None = None,
    is_checked: bool = False,
    schema: Json | None = None,
) -> Any:
    """Without a default it is required. `alias`: its name in the document, where that is no name in Python; `is_checked`: the
    default is written as in a document; `schema`: what its JSON Schema says more."""
    return Key(default, description, alias, is_checked, schema or {})


class Table:
    """Unknown keys are errors; nothing is converted. What a subclass annotates are its keys."""

    KEYS: ClassVar[dict[str, Key]]  # by their names in the document

    def __init_subclass__(cls) -> None:
        types = get_type_hints(cls, include_extras=True)
        own = [one._replace(attribute=name, type=types[name]) for name, one in vars(cls).items() if isinstance(one, Key)]
        cls.KEYS = {one.alias or one.attribute: one for one in own}

    @classmethod
    def of(cls, document: object) -> Self:
        """pydantic_core.ValidationError with all that is wrong."""
        checked: Self = validator(cls).validate_python(document)
        return checked


def levels(table: type[Table]) -> Iterator[tuple[Place, tuple[str, ...]]]:
    """Where tables may stand and which keys they have: this one, and those in it."""
    yield (), tuple(table.KEYS)
    for name, one in table.KEYS.items():
        yield from (((name, *place), names) for place, names in _levels(one.type))


def _levels(type_: Any) -> Iterator[tuple[Place, tuple[str, ...]]]:
    made_of, inner, _ = _taken_apart(type_)
    if made_of is Table:
        yield from levels(inner)
    elif made_of in _SIGNS:
        yield from (((_SIGNS[made_of], *place), names) for place, names in _levels(inner))


def _taken_apart(type_: Any) -> tuple[type, Any, OneOrMany | None]:
    """What it is made of, and of what: (Checked, it, None), (Table, it, None), (list, type of its elements, OneOrMany or None),
    (dict, type of its values, None). None as a value is left out: a document has none."""
    if isinstance(type_, type) and issubclass(type_, Table):
        return Table, type_, None
    origin, arguments = get_origin(type_), get_args(type_)
    if origin is Annotated:
        bare, how = arguments
        return (Checked, how, None) if isinstance(how, Checked) else (*_taken_apart(bare)[:2], how)
    if origin in _SIGNS:
        return origin, arguments[-1], None
    (given,) = (argument for argument in arguments if argument is not NoneType)
    return _taken_apart(given)


# For pydantic's core

_validators: dict[type[Table], SchemaValidator] = {}


def validator(table: type[Table]) -> SchemaValidator:
    """Made once in the life of a process."""
    if table not in _validators:
        _validators[table] = SchemaValidator(_core(table), _STRICT)
    return _validators[table]


def _core(type_: Any) -> CoreSchema:
    made_of, inner, how = _taken_apart(type_)
    if made_of is Checked:
        return core_schema.no_info_plain_validator_function(inner.check)
    if made_of is Table:
        fields = {
            one.attribute: core_schema.model_field(_core_of(one), validation_alias=name) for name, one in inner.KEYS.items()
        }
        return core_schema.model_schema(inner, core_schema.model_fields_schema(fields), config=_STRICT)
    if made_of is dict:
        return core_schema.dict_schema(core_schema.str_schema(), _core(inner))
    many = core_schema.list_schema(_core(inner))
    return core_schema.no_info_before_validator_function(how.listed, many) if how else many


def _core_of(one: Key) -> CoreSchema:
    if one.default is _REQUIRED:
        return _core(one.type)
    if one.default in ([], {}):  # a new one each time: pydantic would have `copy` make it
        return core_schema.with_default_schema(_core(one.type), default_factory=type(one.default))
    return core_schema.with_default_schema(_core(one.type), default=one.default, validate_default=one.is_checked)


# For editors


def json_schema(table: type[Table]) -> Json:
    """The JSON Schema of documents that are such a table."""
    definitions: dict[str, Json] = {}
    schema = _json_table(table, definitions)
    return {"$defs": dict(sorted(definitions.items())), **schema}


def _json_table(table: type[Table], definitions: dict[str, Json]) -> Json:
    required = [name for name, one in table.KEYS.items() if one.default is _REQUIRED]
    return {
        "additionalProperties": False,
        "description": table.__doc__,
        "properties": {name: _json_key(one, definitions) for name, one in table.KEYS.items()},
        **({"required": required} if required else {}),
        "type": "object",
    }


def _json_key(one: Key, definitions: dict[str, Json]) -> Json:
    """TOML has no null, so none is a default in it."""
    default = {} if one.default is _REQUIRED or one.default is None else {"default": one.default}
    return {**default, **_json(one.type, definitions), "description": one.description, **one.schema}


def _json(type_: Any, definitions: dict[str, Json]) -> Json:
    made_of, inner, how = _taken_apart(type_)
    if made_of is Checked:
        return dict(inner.schema)
    if made_of is Table:
        if inner.__name__ not in definitions:
            definitions[inner.__name__] = _json_table(inner, definitions)
        return {"$ref": f"#/$defs/{inner.__name__}"}
    element = _json(inner, definitions)
    if made_of is dict:
        return {"additionalProperties": element, "type": "object"}
    many = {"items": element, "type": "array"}
    return {"anyOf": [element, many]} if how else many
