"""A span: the integers that say where one part lies in the sequence."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from anyany.errors import LayoutError, SpanMismatchError
from anyany.plugin.components import Coordinates, Look

View = Literal["text", "features", "latents"]


@dataclass(frozen=True, kw_only=True)
class Span:
    """A run of consecutive rows that belongs to one part.

    Attributes:
        component: Id of the component that makes the rows: ``"text"``, an encoder id or a codec id.
        view: ``text`` (token rows), ``features`` (encoder) or ``latents`` (codec).
        rows: All rows, the begin and end marks of a media span included.
        part: Index of the part in its document, ``-1`` for rows that belong to none (role marks).
        coordinates: Of the inner rows; ``None`` is one index per row.
        look: ``full``: inner rows see each other both ways; marks are always causal.
        noised: Rows of a copy that is being denoised: it stands behind its document's clean rows and
            sees what the clean span saw, and itself; no other row sees it. It has no marks.
        of: For a noised span, the index in the document of the clean span that it copies.
        bare: A media span without marks: what stands around it says where it begins and ends.

    Raises:
        LayoutError: There are fewer rows than marks.
    """

    component: str
    view: View
    rows: int
    part: int = -1
    coordinates: Coordinates | None = None
    look: Look = "causal"
    noised: bool = False
    of: int = -1
    bare: bool = False

    def __post_init__(self) -> None:
        if self.rows < self.marks:
            raise LayoutError(f"{self.component}, part {self.part}: {self.rows} rows cannot hold {self.marks} marks")

    @property
    def marks(self) -> int:
        """Rows that are begin and end marks."""
        return 0 if self.view == "text" or self.noised or self.bare else 2

    @property
    def inner(self) -> int:
        """Rows between the marks."""
        return self.rows - self.marks


def declared_vs_produced(component: str, part: int, declared: int, produced: int) -> None:
    """Hold a component to the rows that it declared before it ran.

    Args:
        component: Id, such as ``"image/patch"``.
        part: Index of the part in its document, ``-1`` for none.
        declared: Rows of ``prepare`` or ``plan``, marks not counted.
        produced: Rows of the forward pass.

    Raises:
        SpanMismatchError: They differ.
    """
    if declared != produced:
        raise SpanMismatchError(
            f"{component}, part {part}: declared {declared} rows, produced {produced}; "
            "its prepare() must declare exactly what its forward pass makes"
        )
