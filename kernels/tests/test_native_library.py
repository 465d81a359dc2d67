"""Products of a few rows with a matrix against NumPy, in every kind of weights, for this machine and in plain C."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import threading

import numpy as np
import pytest

from anyany_kernels.native import Library, Matrix, Vector, shared_library
from anyany_kernels.native import binding as native
from anyany_kernels.native.build import FLAGS

KINDS = {"float32": native.FLOAT32, "bfloat16": native.BFLOAT16, "int8": native.INT8, "int4": native.INT4}
COUNTS = (1, 2, 3, 4, 5, 7, 8, 11, 16, 33, native.MOST_ROWS)
SIZES = [(1, 1), (3, 5), (24, 32), (25, 33), (100, 31), (513, 257), (64, 1024)]


@pytest.fixture(scope="module", params=["this machine", "plain C"])
def library(request) -> Library:
    more = ("-DANYANY_ONE_LANE",) if request.param == "plain C" else ()
    return Library(str(shared_library(flags=(*FLAGS, *more))))


def to_bfloat16(x: np.ndarray) -> np.ndarray:
    bits = x.astype(np.float32).view(np.uint32).astype(np.uint64)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


def from_bfloat16(x: np.ndarray) -> np.ndarray:
    return (x.astype(np.uint32) << 16).view(np.float32)


def pointer(array: np.ndarray) -> int:
    return array.ctypes.data


def int8_by_hand(w: np.ndarray) -> np.ndarray:
    """What int8 keeps of weights: 127 steps to either side of the largest of a row."""
    scale = np.abs(w).max(1, keepdims=True) / np.float32(127)
    return np.round(w / np.where(scale == 0, 1, scale)) * scale


def int4_by_hand(w: np.ndarray) -> np.ndarray:
    """What int4 keeps: sixteen steps in each group of 32, of which -8 is the largest by size."""
    out = np.zeros_like(w)
    for row in range(len(w)):
        for start in range(0, w.shape[1], 32):
            part = w[row, start : start + 32]
            scale = part[np.abs(part).argmax()] / np.float32(-8)
            if scale != 0:
                out[row, start : start + 32] = np.clip(np.round(part / scale), -8, 7) * scale
    return out


class Weights:
    """A matrix of a kind, and the numbers that it holds."""

    def __init__(self, library: Library, kind: str, rows: int, columns: int, *, bias: bool = False) -> None:
        draw = np.random.default_rng(rows * columns)
        floats = draw.standard_normal((rows, columns)).astype(np.float32)
        self.bias = draw.standard_normal(rows).astype(np.float32) if bias else np.zeros(rows, np.float32)
        self.scales = np.zeros(rows, np.float32)
        if kind == "float32":
            self.data, self.values = floats, floats
        elif kind == "bfloat16":
            self.data = to_bfloat16(floats)
            self.values = from_bfloat16(self.data)
        else:
            self.data = np.zeros(library.bytes_of(KINDS[kind], rows, columns), np.uint8)
            source = Matrix(data=pointer(floats), rows=rows, columns=columns, kind=native.FLOAT32)
            library.quantise(source, KINDS[kind], pointer(self.data), pointer(self.scales))
            self.values = (int8_by_hand if kind == "int8" else int4_by_hand)(floats)
        given = Vector(pointer(self.bias), native.FLOAT32) if bias else Vector(None, 0)
        self.matrix = Matrix(
            data=pointer(self.data), scales=pointer(self.scales), bias=given, rows=rows, columns=columns,
            kind=KINDS[kind],
        )  # fmt: skip


def multiply(library: Library, weights: Weights, x: np.ndarray, threads: int = 1) -> np.ndarray:
    out = np.full((len(x), weights.matrix.rows), np.nan, np.float32)
    library.product(weights.matrix, pointer(x), pointer(out), native.FLOAT32, len(x), threads)
    return out


def rows_of(n: int, columns: int) -> np.ndarray:
    return np.random.default_rng(n).standard_normal((n, columns)).astype(np.float32)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("rows", "columns"), SIZES)
def test_products(library, kind, rows, columns):
    weights = Weights(library, kind, rows, columns, bias=rows % 2 == 1)
    for n in COUNTS:
        x = rows_of(n, columns)
        expected = x.astype(np.float64) @ weights.values.T.astype(np.float64) + weights.bias
        # Of sums of about sqrt(columns): 24 bits of floats, or 15 of activations that meet integers.
        near = (2e-4 if kind.startswith("int") else 1e-5) * columns**0.5
        np.testing.assert_allclose(multiply(library, weights, x), expected, rtol=1e-5, atol=near)


@pytest.mark.parametrize("kind", KINDS)
def test_a_row_does_not_depend_on_its_neighbours_or_on_threads(library, kind):
    weights = Weights(library, kind, 611, 131)
    x = rows_of(native.MOST_ROWS, 131)
    alone = np.concatenate([multiply(library, weights, x[i : i + 1].copy()) for i in range(len(x))])
    for n in COUNTS:
        for threads in (1, 3):
            np.testing.assert_array_equal(multiply(library, weights, x[:n].copy(), threads), alone[:n])


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_no_number_stays_none(library, kind):
    weights, x = Weights(library, kind, 40, 70), rows_of(3, 70)
    x[0, 3], x[1, 40] = np.nan, np.inf
    out = multiply(library, weights, x)
    assert not np.isfinite(out[:2]).any()
    assert np.isfinite(out[2]).all()


@pytest.mark.parametrize("kind", KINDS)
def test_zeros_stay_zeros(library, kind):
    weights = Weights(library, kind, 40, 70)
    np.testing.assert_array_equal(multiply(library, weights, np.zeros((2, 70), np.float32)), 0)


def test_rows_of_bfloat16_give_bfloat16(library):
    weights, x = Weights(library, "bfloat16", 50, 40), to_bfloat16(rows_of(3, 40))
    out = np.zeros((3, 50), np.uint16)
    library.product(weights.matrix, pointer(x), pointer(out), native.BFLOAT16, 3, 1)
    expected = from_bfloat16(x) @ weights.values.T
    np.testing.assert_allclose(from_bfloat16(out), expected, rtol=1e-2, atol=1e-2)


def test_more_rows_than_a_pass_may_have_are_an_error(library):
    with pytest.raises(ValueError, match="64 rows"):
        multiply(library, Weights(library, "float32", 4, 4), rows_of(native.MOST_ROWS + 1, 4))


def test_threads_of_the_program_may_multiply_at_once(library):
    """One of them has the workers, the others do without."""
    weights, x = Weights(library, "bfloat16", 2000, 256), rows_of(2, 256)
    expected, wrong = multiply(library, weights, x), []

    def work() -> None:
        for _ in range(50):
            if not np.array_equal(multiply(library, weights, x, threads=2), expected):
                wrong.append(1)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


FORKED = """
    import os
    import numpy as np
    from anyany_kernels.native import Matrix, library

    weights, x, out = (np.ones(shape, np.float32) for shape in ((4000, 300), (1, 300), (1, 4000)))
    matrix = Matrix(data=weights.ctypes.data, rows=4000, columns=300, kind=0)

    def multiply():
        out[:] = 0
        library().product(matrix, x.ctypes.data, out.ctypes.data, 0, 1, 2)
        return bool((out == 300).all())

    right = multiply()
    child = os.fork()
    if child == 0:
        os._exit(0 if multiply() else 1)
    print(right, os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), multiply())
"""


def test_a_forked_process_has_workers_of_its_own():
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", textwrap.dedent(FORKED)], capture_output=True, text=True, timeout=120,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}, check=False,
    )  # fmt: skip
    assert done.stdout.split() == ["True", "0", "True"], done.stderr
