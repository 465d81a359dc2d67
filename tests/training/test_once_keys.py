"""The key of an item in a store: everything that its rows follow from, and nothing else."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from anyany.errors import DataError
from anyany.model.content import item_key
from anyany.plugin import Coordinates, Prepared

ITEM = Prepared(
    arrays={"x": np.arange(6, dtype=np.float32).reshape(2, 3), "a": np.zeros(2, bool)}, rows=2,
    coordinates=Coordinates(values=np.ones((2, 3), np.float32)),
)  # fmt: skip


def test_the_key_of_an_item_is_its_content():
    x, a = ITEM.arrays["x"], ITEM.arrays["a"]
    same = [
        ITEM,
        replace(ITEM, arrays={"a": a, "x": np.asfortranarray(x)}),
        replace(ITEM, arrays={"x": np.repeat(x, 2, axis=0)[::2], "a": a}, rows=np.int64(2)),
    ]
    one_bit = x.copy()
    one_bit.view(np.int32)[1, 2] ^= 1
    negative = x.copy()
    negative[0, 0] = -0.0
    other = [
        replace(ITEM, arrays={"x": one_bit, "a": a}),
        replace(ITEM, arrays={"x": negative, "a": a}),
        replace(ITEM, arrays={"x": x.reshape(3, 2), "a": a}),
        replace(ITEM, arrays={"x": x.view(np.int32), "a": a}),
        replace(ITEM, arrays={"x": x, "a": a.view(np.int8)}),
        replace(ITEM, arrays={"y": x, "a": a}),
        replace(ITEM, arrays={"x": x}),
        replace(ITEM, rows=3),
        replace(ITEM, look="full"),
        replace(ITEM, coordinates=None),
        replace(ITEM, coordinates=Coordinates(values=np.ones((2, 3), np.float32), unit="seconds")),
        replace(ITEM, coordinates=Coordinates(values=np.zeros((2, 3), np.float32))),
    ]
    assert {item_key(b"i", item, "e") for item in same} == {item_key(b"i", ITEM, "e")}
    assert len({item_key(b"i", item, "e") for item in [ITEM, *other]}) == 1 + len(other)
    assert item_key(b"j", ITEM, "e") != item_key(b"i", ITEM, "e")


def test_an_item_of_objects_has_no_key():
    with pytest.raises(DataError, match=r"encoder/e: array 'x' of an item holds Python objects"):
        item_key(b"i", replace(ITEM, arrays={"x": np.array([{}], object)}), "encoder/e")


# Looking up.
