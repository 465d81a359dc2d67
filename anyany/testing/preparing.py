"""How media are prepared: without weights, in threads, in plain arrays, with rows and coordinates that are valid."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from anyany.errors import AnyanyError
from anyany.parts import Media
from anyany.plugin.components import Prepared
from anyany.plugin.records import error_text
from anyany.testing.kit import demand, fail, hold, listed
from anyany.testing.subject import Subject


@dataclass(frozen=True, eq=False)
class Stranger(Media):
    """Media of a kind that no component knows."""

    modality: ClassVar[str] = "stranger"


def stranger(modality: str) -> Media:
    """Foreign media that claim to be of a modality."""
    made: Media = type("Stranger", (Stranger,), {"modality": modality})()
    return made


@demand()
def prepare_is_repeatable(subject: Subject) -> None:
    """The same media are prepared in the same way each time: targets and lengths must not be drawn by lot."""
    component = subject.build()
    for media in subject.media(component):
        _equal(component.prepare(media), component.prepare(media), "the same arrays again", "draw nothing in prepare()")


def _equal(one: Prepared, other: Prepared, expected: str, advice: str) -> None:
    hold(one.arrays.keys() == other.arrays.keys() and one.rows == other.rows, expected, "other names or rows", advice)
    for name, array in one.arrays.items():
        equal = array.dtype == other.arrays[name].dtype and np.array_equal(
            array, other.arrays[name], equal_nan=array.dtype.kind == "f"
        )
        hold(equal, expected, f"another {name!r}", advice)


@demand()
def prepare_leaves_media_alone(subject: Subject) -> None:
    """Preparing does not change the media, which others hold as well."""
    component = subject.build()
    for media in subject.media(component):
        before = media.key()
        component.prepare(media)
        hold(media.key() == before, "media as they were", "changed ones", "copy the array before you write into it")


@demand()
def prepare_ignores_weights(subject: Subject) -> None:
    """What is prepared does not depend on weights: it is stored, and made in threads while weights change."""
    one, other = subject.build(seed=0), subject.build(seed=1)
    for media in subject.media(one):
        _equal(one.prepare(media), other.prepare(media), "the same for other weights", "move it into the forward pass")


@demand()
def prepared_is_plain_arrays(subject: Subject) -> None:
    """Prepared arrays are numpy arrays of numbers, so that they pass from one process to another."""
    component = subject.build()
    for item in subject.batch(component):
        hold(isinstance(item, Prepared), "Prepared", type(item).__name__, "return anyany.plugin.Prepared(...)")
        wrong = [
            name for name, a in item.arrays.items() if not isinstance(a, np.ndarray) or a.dtype.kind not in "biufc"
        ]
        hold(not wrong, "numpy arrays of numbers", f"something else in {listed(wrong)}", "x.numpy(), np.asarray(x)")


@demand()
def prepare_works_in_threads(subject: Subject) -> None:
    """Many threads may prepare at once, as those that make batches do."""
    component = subject.build()
    media = subject.media(component) * 4
    alone = [component.prepare(item) for item in media]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(component.prepare, media))
    for one, other in zip(alone, together, strict=True):
        _equal(one, other, "the same arrays in threads", "keep nothing on self in prepare()")


@demand()
def prepare_works_in_a_worker(subject: Subject) -> None:
    """Handed to a process of a training run, where it has no weights, it prepares as it does here."""
    from anyany.model.handing import ByValue, without_weights

    component = subject.build()
    advice = "keep no lock, open file or lambda on self, and no weight in prepare()"
    try:
        handed = ByValue.loads(ByValue.dumps(without_weights(component, [component])))
    except Exception as error:
        fail("a component that can be handed to another process", error_text(error), advice)
    for media in subject.media(component):
        _equal(handed.prepare(media), component.prepare(media), "the same arrays in a worker", advice)


@demand()
def bad_input_names_itself(subject: Subject) -> None:
    """Media of another kind are refused with an error of anyany that says what came."""
    try:
        subject.build().prepare(Stranger())
    except AnyanyError as error:
        advice = "raise MediaError(f'...: expected ..., got {type(media).__name__}')"
        hold("Stranger" in str(error), "an error that names the class 'Stranger'", f"{error}", advice)
    except Exception as error:
        fail("a MediaError for foreign media", f"{type(error).__name__}: {error}", "look at the class in prepare()")
    else:
        fail("a MediaError for foreign media", "no error", "look at the class in prepare()")


@demand()
def declares_rows_and_look(subject: Subject) -> None:
    """The rows that it declares are a whole number above zero, and ``look`` is a word of the contract."""
    for item in subject.batch(subject.build()):
        whole = isinstance(item.rows, int) and item.rows > 0
        hold(whole, "a whole number of rows above zero", f"{item.rows!r}", "int(rows); refuse what has none")
        hold(item.look in ("causal", "full"), "look 'causal' or 'full'", repr(item.look), "mend Prepared(look=...)")


@demand()
def declares_valid_coordinates(subject: Subject) -> None:
    """Coordinates are ``(rows, 3)`` float32, finite and not negative, in a unit of the contract."""
    for item in subject.batch(subject.build()):
        if item.coordinates is not None:
            check_coordinates(item.coordinates.values, item.coordinates.unit, item.rows)


def check_coordinates(values: Any, unit: str, rows: int) -> None:
    """Hold coordinates of so many rows to the contract."""
    advice = "time, height and width from the start of the span"
    right = isinstance(values, np.ndarray) and values.shape == (rows, 3) and values.dtype == np.float32
    hold(
        right,
        f"coordinates ({rows}, 3) float32",
        f"{getattr(values, 'shape', values)} {getattr(values, 'dtype', '')}",
        advice,
    )
    hold(
        bool((np.isfinite(values) & (values >= 0)).all()),
        "finite coordinates from 0",
        f"{values.min()} to {values.max()}",
        advice,
    )
    hold(unit in ("index", "grid", "seconds"), "a unit among index, grid, seconds", repr(unit), advice)
