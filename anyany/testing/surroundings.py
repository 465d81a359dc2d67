"""What a component leaves as it is: what is global in the process, and everything outside it."""

from __future__ import annotations

import random
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from anyany.testing.compare import same
from anyany.testing.kit import demand, hold, listed
from anyany.testing.preparing import Stranger
from anyany.testing.state import global_state
from anyany.testing.subject import Subject
from anyany.testing.watch import Watch


def _all(subject: Subject) -> None:
    component = subject.build()
    subject.run(component, subject.batch(component))


@demand()
def global_state_stays(subject: Subject) -> None:
    """Building and running it changes no default dtype, threads, gradient mode, folder, environment or filters."""
    before = global_state()
    _all(subject)
    changed = [name for name, value in global_state().items() if value != before[name]]
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
