"""What an encoder keeps beside what every component keeps."""

from __future__ import annotations

import torch

from anyany.testing.kit import demand, hold
from anyany.testing.subject import Subject


def _encodes(subject: Subject) -> bool:
    return subject.encodes


@demand(_encodes)
def features_have_its_width(subject: Subject) -> None:
    """Features are ``(rows, width)`` in the type of its weights: the projector is built for that width."""
    component = subject.build()
    made = subject.run(component, subject.batch(component))
    fits = made.dim() == 2 and made.shape[1] == component.width
    hold(fits, f"features (rows, {component.width})", tuple(made.shape), "mend width, or the last layer")
    hold(made.dtype == torch.float32, "features in float32", made.dtype, "follow the type of the weights")


@demand(_encodes)
def features_depend_on_media(subject: Subject) -> None:
    """Other media give other features: what is the same for all media tells the model nothing."""
    component = subject.build()
    items = [component.prepare(component.example(seed)) for seed in range(2)]
    both = min(item.rows for item in items)
    one, other = (subject.run(component, [item])[:both] for item in items)
    differ = not torch.allclose(one, other)
    hold(differ, "other features for another example", "the same", "use what prepare() made")
