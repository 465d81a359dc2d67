"""Weights as the native library reads them: structures that point into the modules' own memory.

So there is no copy that could be out of date, but addresses can be: each pass asks first whether all that a
structure relies on is still there (``Weights.hold``), which takes some microseconds. Matrices of small integers are
copies; they are made again when what they were made from has another version (writing through ``.data`` makes none).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from anyany.errors import NativeError
from anyany.native.choice import asked

if TYPE_CHECKING:
    from anyany_kernels.native import Library, Matrix, Vector

Form = Literal["int8", "int4"]
"""Small integers in the place of floats: int8 with a scale per output, int4 with one per 32 weights."""

FORMS: dict[str, int] = {"int8": 2, "int4": 3}
FLOATS: dict[torch.dtype, int] = {torch.float32: 0, torch.bfloat16: 1}
"""Numbers of the kinds, as in ``anyany_kernels.native.binding``."""

MOST_ROWS = 64
"""Rows of a pass that the library takes."""

SHORT = 10_000_000
"""Bytes of weights up to which a pass of one row is made by one thread: half a millisecond, of which waking another
would save little, and waiting for one that has lost its core would cost several."""

COMPUTED = 8
"""Rows from which a pass takes longer than its weights take to read."""


class Unfit(Exception):
    """Something that the library does not know; says what. Whoever catches it takes the PyTorch path."""


class ByColumns(Unfit):
    """A matrix lies column by column (``backbone.memory_order``); by rows the library would read it."""

    def __init__(self) -> None:
        super().__init__("a matrix lies column by column")


class Weights:
    """Modules and tensors that structures were made from.

    Args:
        library: That will read them.
        form: Of matrices; ``None`` reads them as they are.
    """

    def __init__(self, library: Library, form: Form | None = None) -> None:
        self.library, self.form = library, form
        self.bytes = 0  # of the matrices
        self._members: list[tuple[dict[str, Any], str, object]] = []
        self._tensors: list[tuple[Tensor, int, torch.dtype]] = []
        self._copied: list[tuple[Tensor, int]] = []
        self._hooks: list[dict[int, Any]] = []
        self._copies: list[Tensor] = []

    def hold(self) -> bool:
        """Whether modules, hooks and addresses are what they were, and what was copied has not changed."""
        return (
            all(names.get(name) is member for names, name, member in self._members)
            and all(
                t.data_ptr() == address and t.dtype is dtype and t.is_contiguous()
                for t, address, dtype in self._tensors
            )
            and all(_version(t) == version for t, version in self._copied)
            and not any(hooks and _busy(hooks) for hooks in self._hooks)
        )

    def child(self, parent: nn.Module, name: str, *kinds: type) -> Any:
        """The child of a module, of exactly one of these kinds, without hooks that do anything now.

        Raises:
            Unfit: It is not.
        """
        found = parent._modules.get(name)
        self._members.append((parent._modules, name, found))
        return self.module(found, name, *kinds)

    def module(self, found: Any, name: str, *kinds: type) -> Any:
        """A module of exactly one of these kinds, ``None`` perhaps among them, without hooks that do anything now.

        Raises:
            Unfit: It is of another, or has some.
        """
        if type(found) not in kinds:
            raise Unfit(f"{name} is a {type(found).__name__}, and not a {' or '.join(k.__name__ for k in kinds)}")
        if found is None:
            return None
        if _busy(found._forward_hooks) or _busy(found._forward_pre_hooks):
            raise Unfit(f"{name} has hooks, such as those of an adapter")
        self._hooks += [found._forward_hooks, found._forward_pre_hooks]
        return found

    def vector(self, module: nn.Module, name: str, length: int) -> Vector:
        """A parameter ``(length,)``; an empty one where the module has none."""
        from anyany_kernels.native import Vector

        found = module._parameters.get(name)
        if found is None:
            self._members.append((module._parameters, name, None))
            return Vector(None, 0)
        return Vector(self._address(module, name, found, (length,)), FLOATS[found.dtype])

    def linear(self, linear: nn.Module, outputs: int, inputs: int) -> Matrix:
        """Weights and bias of a projection."""
        made = self.matrix(linear, outputs, inputs)
        made.bias = self.vector(linear, "bias", outputs)
        return made

    def matrix(self, module: nn.Module, outputs: int, inputs: int) -> Matrix:
        """The parameter ``weight (outputs, inputs)`` of a module, without its bias."""
        from anyany_kernels.native import Matrix

        weight: Any = module._parameters.get("weight")
        address = self._address(module, "weight", weight, (outputs, inputs))
        made = Matrix(data=address, rows=outputs, columns=inputs, kind=FLOATS[weight.dtype])
        if self.form is not None:
            made = self._copy(weight, made, FORMS[self.form])
        self.bytes += self.library.bytes_of(made.kind, outputs, inputs)
        return made

    def threads(self, rows: int) -> int:
        """How many a pass of so many rows over these weights is worth."""
        return 1 if self.bytes * max(1.0, rows / COMPUTED) < SHORT else torch.get_num_threads()

    def _address(self, module: nn.Module, name: str, found: Any, shape: tuple[int, ...]) -> int:
        if type(found) is not nn.Parameter or found.dtype not in FLOATS or found.device.type != "cpu":
            kind = f"{found.dtype} on {found.device}" if isinstance(found, Tensor) else type(found).__name__
            raise Unfit(f"{name} of a {type(module).__name__} is {kind}, and not float32 or bfloat16 in plain memory")
        if tuple(found.shape) != shape:
            raise Unfit(f"{name} of a {type(module).__name__} is {tuple(found.shape)}, and not {shape}")
        self._members.append((module._parameters, name, found))
        self._tensors.append((found, found.data_ptr(), found.dtype))
        return found.data_ptr()

    def _copy(self, weight: Tensor, floats: Matrix, kind: int) -> Matrix:
        """The same matrix in small integers."""
        from anyany_kernels.native import Matrix

        if not weight.is_contiguous():
            raise ByColumns
        with torch.inference_mode(False):
            data = torch.empty(self.library.bytes_of(kind, floats.rows, floats.columns), dtype=torch.uint8)
            scales = torch.empty(floats.rows, dtype=torch.float32)
        self.library.quantise(floats, kind, data.data_ptr(), scales.data_ptr())
        self._copied.append((weight, _version(weight)))
        self._copies += [data, scales]
        return Matrix(
            data=data.data_ptr(), scales=scales.data_ptr(), rows=floats.rows, columns=floats.columns, kind=kind
        )


def for_library(x: Tensor, rows: int) -> bool:
    """Whether so many rows ``(..., D)`` are work for the library: few, on a CPU, and nothing learns."""
    return (
        0 < rows <= MOST_ROWS
        and x.device.type == "cpu"
        and not torch.is_grad_enabled()
        and not torch.is_autocast_enabled("cpu")
    )


def kind_of(x: Tensor) -> int:
    """The number of its type.

    Raises:
        Unfit: The library does not know it.
    """
    if x.dtype not in FLOATS:
        raise Unfit(f"the rows are {x.dtype}, and not float32 or bfloat16")
    return FLOATS[x.dtype]


def declined(what: str, why: str, form: Form | None) -> None:
    """Nothing, where PyTorch may do the work in the library's place.

    Raises:
        NativeError: It may not: the user insists on the library, or on weights that PyTorch does not read.
    """
    if form is not None:
        raise NativeError(
            f"{what}: weights={form!r} are read by the native library alone, but {why}; leave weights out"
        )
    if asked():
        raise NativeError(f"{what}: ANYANY_NATIVE=1 asks for the native library, but {why}; do not set it")


def _busy(hooks: dict[int, Any]) -> bool:
    """Whether any of them may change what a module gives; one that knows that it will not says so (``lora.attach``)."""
    return any(not (hasattr(hook, "idle") and hook.idle()) for hook in hooks.values())


def _version(weight: Tensor) -> int:
    """How often it was written to; tensors made for inference do not count."""
    return 0 if weight.is_inference() else weight._version
