"""Numbers that a plugin remembers: what its components gave for their examples when its author last looked.

They lie beside the manifest, ``golden/encoder-rows.safetensors`` for the encoder ``thermal/rows``, and travel in the
wheel. Another version of a library that gives other numbers shows at once, on the machine of whoever runs the checks.
"""

from __future__ import annotations

import sys
from pathlib import Path

from safetensors.torch import load_file, save_file
from torch import Tensor

from anyany.errors import PluginError
from anyany.plugin.registry import Registry, registry
from anyany.plugin.specs import ComponentSpec
from anyany.testing.compare import same
from anyany.testing.kit import demand, hold
from anyany.testing.subject import SEEDS, Subject


def remember(which: str | ComponentSpec, *, plugins: Registry | None = None) -> list[Path]:
    """Write down what components give now; commit the files.

    Args:
        which: Id or spec; a modality stands for all components of it.
        plugins: Where it comes from; the machine's own by default.

    Returns:
        The files, one for each component.

    Raises:
        PluginError: Its manifest is no package, so that no file can lie in it.
    """
    plugins = plugins or registry()
    specs = plugins.components(which) if isinstance(which, str) else (which,)
    written = []
    for spec in specs:
        subject = Subject(spec=spec, plugins=plugins)
        file = _file(subject)
        if file is None:
            raise PluginError(f"{spec.id}: its manifest is no package; put it into the __init__.py of a folder")
        file.parent.mkdir(exist_ok=True)
        save_file(_given(subject), file)
        written.append(file)
    return written


def _file(subject: Subject) -> Path | None:
    """Where the numbers of a component lie, or would lie; ``None`` where its manifest is no package."""
    home = Path(getattr(sys.modules.get(subject.manifest), "__file__", None) or "/")
    if home.name != "__init__.py":
        return None
    kind = "encoder" if subject.encodes else "codec"
    return home.parent / "golden" / f"{kind}-{subject.spec.id.partition('/')[2]}.safetensors"


def _given(subject: Subject) -> dict[str, Tensor]:
    """Features or latents of its examples by seed, with the weights of seed 0."""
    component = subject.build()
    items = {str(seed): component.prepare(component.example(seed)) for seed in range(SEEDS)}
    return {seed: subject.run(component, [item]).contiguous() for seed, item in items.items()}


def _remembers(subject: Subject) -> bool:
    file = _file(subject)
    return file is not None and file.is_file()


@demand(_remembers)
def gives_what_it_remembers(subject: Subject) -> None:
    """It gives the numbers that lie beside its manifest. Where there are some: ``remember`` writes them."""
    file = _file(subject)
    remembered, given = load_file(str(file)), _given(subject)
    advice = "look which library has changed; where the change is right: anyany.testing.remember(id)"
    hold(remembered.keys() == given.keys(), f"numbers for the seeds {', '.join(given)}", sorted(remembered), advice)
    for seed, wanted in remembered.items():
        made = given[seed]
        hold(made.dtype == wanted.dtype, f"{wanted.dtype} for seed {seed}", made.dtype, advice)
        same(made, wanted, f"the numbers of {file} for seed {seed}", advice)
