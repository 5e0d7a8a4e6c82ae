"""JSON read and written by the C half of `json` alone: importing the other half, for its regular expressions, costs more
than reading the store.

The same functions, so the same values. What the scanner refuses is given to `json`, which says what is wrong with it.
"""

from __future__ import annotations

from reconciler.typed import Any

_BLANK = " \t\n\r"


class _Plain:
    """What `json.JSONDecoder` is by default, as far as the scanner asks."""

    strict = True
    object_hook = object_pairs_hook = array_hook = None
    parse_float = float
    parse_int = int
    parse_constant = None  # NaN and its like: left to `json`


def _refuse(value: object) -> Any:
    raise TypeError(f"a {type(value).__name__} is not JSON")


try:
    from _json import encode_basestring_ascii, make_encoder, make_scanner

    _scan: Any = make_scanner(_Plain)  # type: ignore[arg-type]
    _encode: Any = make_encoder(None, _refuse, encode_basestring_ascii, None, ": ", ", ", False, False, False)
    _encode_sorted: Any = make_encoder(None, _refuse, encode_basestring_ascii, None, ":", ",", True, False, False)
    _encode_lines: Any = make_encoder(None, _refuse, encode_basestring_ascii, None, ": ", ",\n ", True, False, False)
except (ImportError, TypeError, AttributeError):  # another Python: these are not promised to anybody
    import json

    _scan = json.JSONDecoder().raw_decode
    _encode = json.JSONEncoder(default=_refuse, allow_nan=False).iterencode
    _encode_sorted = json.JSONEncoder(default=_refuse, allow_nan=False, sort_keys=True, separators=(",", ":")).iterencode
    _encode_lines = json.JSONEncoder(default=_refuse, allow_nan=False, sort_keys=True, separators=(",\n ", ": ")).iterencode


def loads(text: str) -> Any:
    """The value of a document; json.JSONDecodeError (a ValueError) when it is none."""
    stripped = text.strip(_BLANK)
    try:
        value, end = _scan(stripped, 0)
        if end == len(stripped):
            return value
    except (StopIteration, ValueError, TypeError, SystemError):  # the last: no `json` is loaded to take its exception from
        pass
    import json

    return json.loads(text)


def dumps(document: Any) -> str:
    """A document on one line."""
    return "".join(_encode(document, 0))


def canonical(document: Any) -> str:
    """The shortest text, always the same for the same document: sorted keys, no blanks."""
    return "".join(_encode_sorted(document, 0))


def lines(document: dict[str, Any]) -> str:
    """A document for people, too: sorted keys, a line for each. `json` itself would indent at a tenth of the speed."""
    text = "".join(_encode_lines(document, 0))
    return f"{{\n {text[1:-1]}\n}}\n"
