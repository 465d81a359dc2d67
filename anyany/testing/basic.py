"""What every component keeps: it can be built, it has examples, and it gives what it declared."""

from __future__ import annotations

import json

import torch
from torch import nn

from anyany.parts import Media
from anyany.plugin.records import to_json
from anyany.testing.kit import demand, hold, listed
from anyany.testing.subject import Subject

ENCODER = ("width", "example", "prepare", "forward")
CODEC = ("latents", "example", "prepare", "encode", "plan", "decode", "loss")
BYTES = 16 << 20


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
