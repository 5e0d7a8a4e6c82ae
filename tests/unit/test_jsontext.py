"""JSON by the C half alone: what `json` itself would say."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.host.jsontext import canonical, dumps, loads

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=12,
)


def said(read: Callable[[str], object], text: str) -> object:
    """The value, or the words of the refusal."""
    try:
        return read(text)
    except ValueError as error:
        return type(error), str(error)


@given(VALUES, st.sampled_from([None, 1]))
def test_values_are_those_of_json(value: object, indent: int | None) -> None:
    text = json.dumps(value, indent=indent)
    assert loads(f" {text}\n") == json.loads(text) == value
    assert dumps(value) == json.dumps(value)
    assert canonical(value) == json.dumps(value, sort_keys=True, separators=(",", ":"))


@given(st.text('[]{}:,"\\ \n\t\u00a001eE-.tfnruls', max_size=12))
def test_documents_are_refused_in_the_words_of_json(text: str) -> None:
    assert said(loads, text) == said(json.loads, text)


def test_what_is_no_json_is_not_written() -> None:
    for value in (object(), float("nan"), {(1, 2): 3}):
        with pytest.raises((TypeError, ValueError)):
            dumps(value)
        with pytest.raises((TypeError, ValueError)):
            canonical(value)


@pytest.mark.parametrize("text", ["{", '{"pid": ', "[1", '"x', "\\", ""])
def test_refused_also_where_json_was_never_loaded(text: str) -> None:
    code = (
        "import sys\nfrom reconciler.host.jsontext import loads\nassert 'json' not in sys.modules\n"
        "try:\n    loads(sys.argv[1])\nexcept ValueError:\n    print('refused')\n"
    )
    done = subprocess.run([sys.executable, "-S", "-c", code, text], capture_output=True, text=True, check=True)
    assert done.stdout == "refused\n"
