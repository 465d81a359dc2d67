"""What all media share: arrays that cannot change, a key by content, files, and how they look."""

from __future__ import annotations

import base64
import hashlib
import html
import os
import tempfile
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
import numpy.typing as npt

from anyany.errors import MediaDecodeError, MediaError, MediaTooLargeError, UnsupportedMediaError

if TYPE_CHECKING:
    from PIL.Image import Image as PILImage


class Media:
    """A typed container of arrays with units. Subclasses are frozen dataclasses.

    Attributes:
        modality: The word for this kind of media.
        formats: Formats that ``to_bytes`` writes, the usual one first.
    """

    modality: ClassVar[str]
    formats: ClassVar[tuple[str, ...]] = ()

    @classmethod
    def open(cls, path: str | Path) -> Self:
        """Read a file; its content decides the format, not its name.

        Raises:
            MediaError: The file is damaged, too large, empty, or of a format that is not read.
        """
        return cls.from_bytes(cls._read(path))

    @classmethod
    def _read(cls, path: str | Path) -> bytes:
        if not isinstance(path, str | Path):
            raise MediaDecodeError(
                f"{cls.modality}: expected a path, got {type(path).__name__}; for bytes use {cls.__name__}.from_bytes"
            )
        from anyany.media.limits import DEFAULT

        try:
            with Path(path).open("rb") as file:  # a device has no size to look at, so the limit holds for what comes
                data = file.read(DEFAULT.bytes + 1)
        except (OSError, ValueError):
            raise MediaDecodeError(
                f"{cls.modality}: cannot read the file {Path(path).name!r}; check the path"
            ) from None
        if len(data) > DEFAULT.bytes:
            raise MediaTooLargeError(
                f"{cls.modality}: a file may have {DEFAULT.bytes} bytes, {Path(path).name!r} has more"
            )
        return data

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Decode the bytes of a file."""
        raise UnsupportedMediaError(f"{cls.modality}: {cls.__name__} has no file format")

    def to_bytes(self, format: str | None = None) -> bytes:
        """The bytes of a file of this format."""
        raise UnsupportedMediaError(f"{self.modality}: {type(self).__name__} has no file format")

    def save(self, path: str | Path) -> Path:
        """Write a file whose suffix names the format; an existing file is replaced whole or not at all.

        Raises:
            MediaError: The format is not written or cannot hold this, or the file cannot be written.
        """
        path = Path(path)
        data = self.to_bytes(path.suffix[1:].lower() or None)
        try:
            _replace(path, data)
        except (OSError, ValueError) as error:
            why = (getattr(error, "strerror", None) or "no name of a file").lower()
            raise MediaError(
                f"{self.modality}: cannot write {path.name!r} into {str(path.parent)!r}: {why}; make or choose a folder"
            ) from None
        return path

    def key(self) -> str:
        """Hex BLAKE2b over modality, types, shapes, units and bytes: equal content, equal key."""
        digest = hashlib.blake2b(self.modality.encode(), digest_size=20)
        for name, value in self._content():
            digest.update(f"|{name}|".encode())
            if isinstance(value, np.ndarray):
                digest.update(f"{value.dtype.str}{value.shape}".encode())
                digest.update(np.ascontiguousarray(value).tobytes())
            else:
                digest.update((value.key() if hasattr(value, "key") else repr(value)).encode())
        return digest.hexdigest()

    def _content(self) -> list[tuple[str, Any]]:
        return [(f.name, getattr(self, f.name)) for f in fields(self)]  # type: ignore[arg-type]

    def _freeze(self, **values: Any) -> None:
        """Set fields of a frozen dataclass; arrays become read-only copies where they must."""
        for name, value in values.items():
            if isinstance(value, np.ndarray) and value.flags.writeable:
                value = value.copy()
                value.flags.writeable = False
            object.__setattr__(self, name, value)

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Arrays that come from another process cannot change either."""
        for value in state.values():
            if isinstance(value, np.ndarray):
                value.flags.writeable = False
        self.__dict__.update(state)

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and self.key() == other.key()

    def __hash__(self) -> int:
        return hash(self.key())

    def picture(self) -> PILImage:
        """What a person would look at."""
        raise UnsupportedMediaError(f"{self.modality}: {type(self).__name__} has no picture")

    def _repr_html_(self) -> str:
        return image_tag(self.picture(), repr(self))


def _replace(path: Path, data: bytes) -> None:
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name[:200]}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def numbers(modality: str, values: Any, dtype: npt.DTypeLike | None = None) -> npt.NDArray[Any]:
    """An array of real numbers from whatever was given.

    Raises:
        MediaError: It holds no real numbers, is ragged, or holds numbers that the type cannot.
    """
    try:
        array = np.asarray(values)
        if array.dtype.kind not in "biuf":
            raise TypeError
        with np.errstate(over="raise", invalid="raise"):
            return array if dtype is None else array.astype(dtype, copy=False)
    except (TypeError, ValueError, FloatingPointError):
        raise MediaError(
            f"{modality}: expected an array of real numbers, got {type(values).__name__}; every row must be as long"
        ) from None


def number(modality: str, name: str, value: Any, low: float, high: float) -> float:
    """A number in ``[low, high]``.

    Raises:
        MediaError: It is none.
    """
    if isinstance(value, bool) or not isinstance(value, int | float | np.number) or not low <= value <= high:
        raise MediaError(f"{modality}: expected {name} from {low:g} to {high:g}, got {value!r}")
    return float(value)


def colours(modality: str, values: Any) -> npt.NDArray[np.uint8]:
    """Integers 0..255, floats 0..1 or booleans as uint8; floats may overshoot a little, as those of models do.

    Raises:
        MediaError: They are on another scale, which would come out black or white, or are not finite.
    """
    array = numbers(modality, values)
    if array.dtype == np.uint8 or array.size == 0:
        return array.astype(np.uint8, copy=False)
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise MediaError(f"{modality}: expected finite numbers, got NaN or infinity")
    low, high = float(array.min()), float(array.max())
    kind, least, most = ("floats from 0 to 1", -0.5, 1.5) if array.dtype.kind == "f" else ("integers 0..255", 0, 255)
    if low < least or high > most:
        raise MediaError(f"{modality}: expected {kind}, got {low:g} to {high:g}; scale them, or convert them to uint8")
    if array.dtype.kind in "fb":
        array = np.round(array.clip(0, 1) * 255.0)
    return array.astype(np.uint8)


def image_tag(picture: PILImage, label: str) -> str:
    """A picture as HTML without any other file."""
    from anyany.media.image import encode

    return data_tag(
        "img", encode(np.asarray(picture.convert("RGB")), "png"), "image/png", f'alt="{html.escape(label)}"'
    )


def data_tag(tag: str, data: bytes, mime: str, attributes: str = "") -> str:
    """An HTML element that carries its data."""
    text = base64.b64encode(data).decode()
    closing = "" if tag == "img" else f"</{tag}>"
    return f'<{tag} src="data:{mime};base64,{text}" {attributes}>{closing}'
