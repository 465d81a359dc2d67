"""Templates: what to make of the columns of a data set that was not written for this.

A template is a sample as in ``anyany.training.samples`` with names of columns in braces. A text that is nothing but
one name becomes the column itself, media included; in a longer text the column must be text or a number::

    {"messages": [{"role": "user", "content": ["{picture}", "What is this?"]},
                  {"role": "assistant", "content": "A {label}."}]}

``{a.b}`` is the field ``b`` of the column ``a``. Doubled braces are braces.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from anyany.errors import DataError, RecipeError
from anyany.training.samples import KEYS

_NAME = re.compile(r"\{\{|\}\}|\{([\w.\- ]+)\}")


def check(template: Any) -> None:
    """Refuse what can be no template, before a run begins.

    Raises:
        RecipeError: Not an object with one of the keys, or it names no column.
    """
    if not isinstance(template, Mapping) or len(template) != 1 or not set(template) <= set(KEYS):
        raise RecipeError(f"template: expected an object with one of the keys {', '.join(KEYS)}, got {template!r:.80}")
    if not names(template):
        raise RecipeError("template: names no column; write '{name}' where a column belongs")


def names(template: Any) -> set[str]:
    """Names of all columns, fields included."""
    if isinstance(template, str):
        return {found for found in _NAME.findall(template) if found}
    inner = template.values() if isinstance(template, Mapping) else template if isinstance(template, list) else ()
    return set().union(*map(names, inner))


def fill(template: Any, columns: Mapping[str, Any]) -> Any:
    """The sample as an object for ``make_sample``; keys of parts whose column holds nothing are left out.

    Raises:
        DataError: A column is missing, or is neither text nor a number inside a text.
    """
    if isinstance(template, Mapping):
        filled = {key: fill(value, columns) for key, value in template.items()}
        return {key: value for key, value in filled.items() if value is not None}
    if isinstance(template, list):
        return [fill(value, columns) for value in template]
    if not isinstance(template, str):
        return template
    if (whole := _NAME.fullmatch(template)) and whole[1]:
        value = _column(whole[1], columns)
        number = isinstance(value, int | float) and not isinstance(value, bool)
        return str(value) if number else value
    return _NAME.sub(lambda m: _text(m[1], columns) if m[1] else m[0][0], template)


def _text(name: str, columns: Mapping[str, Any]) -> str:
    value = _column(name, columns)
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise DataError(f"column {name!r}: expected text or a number inside a text, got {type(value).__name__}")
    return str(value)


def _column(name: str, columns: Mapping[str, Any]) -> Any:
    value: Any = columns
    path = [name] if name in columns else name.split(".")
    for key in path:
        if not isinstance(value, Mapping) or key not in value:
            raise DataError(f"no column {name!r}; there are {', '.join(map(str, columns))}"[:400])
        value = value[key]
    return value
