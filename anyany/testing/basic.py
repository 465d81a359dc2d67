"""What every component keeps: it can be built, fed and run, and leaves its surroundings as they are."""

from __future__ import annotations

import json
import random
import warnings
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import nn

from anyany.errors import AnyanyError
from anyany.parts import Media
from anyany.plugin.components import Prepared
from anyany.plugin.records import to_json
from anyany.testing.compare import same
from anyany.testing.kit import demand, fail, hold, listed
from anyany.testing.subject import Subject
from anyany.testing.surroundings import surroundings
from anyany.testing.watch import Watch

ENCODER = ("width", "example", "prepare", "forward")
CODEC = ("latents", "example", "prepare", "encode", "plan", "decode", "loss")
BYTES = 16 << 20


@dataclass(frozen=True, eq=False)
class Stranger(Media):
    """Media of a kind that no component knows."""

    modality: ClassVar[str] = "stranger"


def stranger(modality: str) -> Media:
    """Foreign media that claim to be of a modality."""
    made: Media = type("Stranger", (Stranger,), {"modality": modality})()
    return made


# How it is built.


@demand()
def answers_what_the_contract_names(subject: Subject) -> None:
    """Its factory returns a ``torch.nn.Module`` with all the answers of an encoder or a codec."""
    component = subject.build()
    hold(isinstance(component, nn.Module), "a torch.nn.Module", type(component).__name__, "inherit from nn.Module")
    lacking = [name for name in (ENCODER if subject.encodes else CODEC) if not hasattr(component, name)]
    hold(
        not lacking,
        "all answers of the contract",
        f"none to {listed(lacking)}",
        "see 'The contract' in docs/plugins.md",
    )


@demand()
def builds_from_a_checkpoint(subject: Subject) -> None:
    """Built from its configuration as JSON gives it back, it has weights of the same names and shapes."""
    stored = json.loads(json.dumps(to_json(dict(subject.spec.config))))
    made, again = _shapes(subject.build()), _shapes(subject.build(**stored))
    advice = "take lists where the configuration has lists"
    hold(made == again, "the same weights", f"others in {listed(sorted(made.items() ^ again.items()))}", advice)


def _shapes(component: nn.Module) -> dict[str, torch.Size]:
    return {name: value.shape for name, value in component.state_dict().items()}


@demand()
def same_seed_builds_the_same_weights(subject: Subject) -> None:
    """Fresh weights follow from torch's seed."""
    one, other = subject.build(seed=3).state_dict(), subject.build(seed=3).state_dict()
    wrong = [name for name in one if not torch.equal(one[name].nan_to_num(), other[name].nan_to_num())]
    hold(not wrong, "equal weights from one seed", f"others in {listed(wrong)}", "draw them with torch's own generator")


@demand()
def builds_on_the_meta_device(subject: Subject) -> None:
    """It can be built without memory, under ``torch.device("meta")``: large models are laid out that way."""
    with torch.device("meta"):
        component = subject.plugins.build(subject.spec)
    wrong = [name for name, weight in component.named_parameters() if not weight.is_meta]
    hold(not wrong, "all weights on the meta device", f"{listed(wrong)} elsewhere", "name no device in the constructor")


# Its examples, and what it makes of media.


@demand()
def example_follows_from_its_seed(subject: Subject) -> None:
    """The same seed gives the same example, in another component too, and another seed gives another one."""
    one, other = subject.build(seed=0), subject.build(seed=1)
    hold(one.example(5).key() == other.example(5).key(), "one example per seed", "two", "np.random.default_rng(seed)")
    hold(one.example(5).key() != one.example(6).key(), "other examples for other seeds", "one", "use the seed")


@demand()
def example_is_of_its_modality(subject: Subject) -> None:
    """Its example is media of the modality that its spec names."""
    made = subject.build().example(0)
    right = isinstance(made, Media) and made.modality == subject.spec.modality
    hold(right, f"media of {subject.spec.modality!r}", f"{type(made).__name__}", "mend example(), or the spec")


@demand()
def example_is_small(subject: Subject) -> None:
    """A prepared example takes at most 16 MiB: it stands in for media in warm-ups and checks."""
    component = subject.build()
    size = sum(array.nbytes for array in component.prepare(component.example(0)).arrays.values())
    hold(size <= BYTES, f"at most {BYTES} bytes", size, "make the example shorter or smaller")


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


# What it declares.


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


@demand()
def declared_equals_produced(subject: Subject) -> None:
    """Each item gives exactly the rows that it declared: positions and caches are laid out from that number."""
    component = subject.build()
    for item in subject.batch(component):
        made = len(subject.run(component, [item]))
        advice = "count in prepare() what the forward pass makes"
        hold(made == item.rows, f"{item.rows} rows, as declared", made, advice)


@demand()
def output_is_finite(subject: Subject) -> None:
    """No number is infinite, and a feature is never NaN; in a vector NaN stands for a number that is not there."""
    component = subject.build()
    made = subject.run(component, subject.batch(component))
    wrong = ~made.isfinite() if subject.encodes else made.isinf()
    hold(
        not wrong.any(),
        "finite numbers",
        f"{int(wrong.sum())} that are not",
        "look at divisions, logarithms, empty means",
    )


# Its surroundings.


def _all(subject: Subject) -> None:
    component = subject.build()
    subject.run(component, subject.batch(component))


@demand()
def global_state_stays(subject: Subject) -> None:
    """Building and running it changes no default dtype, threads, gradient mode, folder, environment or filters."""
    before = surroundings()
    _all(subject)
    changed = [name for name, value in surroundings().items() if value != before[name]]
    hold(
        not changed, "everything global as it was", f"another {listed(changed)}", "set it in a context, and put it back"
    )


@demand()
def random_numbers_stay(subject: Subject) -> None:
    """Preparing and running draw from no generator that others draw from as well."""
    component = subject.build()
    before = _generators()
    subject.run(component, subject.batch(component))
    drawn = [name for name, state in _generators().items() if state != before[name]]
    hold(not drawn, "no draw from a global generator", f"draws from that of {listed(drawn)}", "make one of its own")


def _generators() -> Mapping[str, Any]:
    numpy = np.random.get_state(legacy=False)["state"]
    return {
        "torch": torch.get_rng_state().tolist(),
        "numpy": (numpy["key"].tolist(), numpy["pos"]),
        "random": random.getstate(),
    }


@demand()
def nothing_is_touched(subject: Subject) -> None:
    """Building and running it writes no file, opens no connection, starts no process, sets no variable."""
    with Watch() as watch:
        _all(subject)
    hold(
        not watch.events,
        "nothing outside",
        listed(watch.events),
        "ship what it needs in the wheel, or let people pass it",
    )


@demand()
def nothing_warns(subject: Subject) -> None:
    """Building and running it gives no warning."""
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        _all(subject)
    hold(not said, "no warning", listed(w.message for w in said), "mend what it warns of")


@demand()
def refused_media_leave_no_trace(subject: Subject) -> None:
    """After media were refused it gives what it gave before: one bad item harms no neighbour."""
    component = subject.build()
    before = subject.run(component, subject.batch(component))
    for bad in (Stranger(), *subject.refuses):
        try:
            component.prepare(bad)
        except Exception:  # what kind it must be is another check's
            continue
    same(subject.run(component, subject.batch(component)), before, "the output of before", "keep no state in prepare()")
