"""Each fault fails the check that names it, and what must follow from it; without a fault nothing fails."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))  # the factories lie beside this file

import broken

from anyany.plugin.registry import Registry
from anyany.testing import checks, run

FAULTS = {
    "Good": set(),
    "GoodCodec": set(),
}


def failed(fault: str, **fields) -> set[str]:
    plugins = Registry.isolated()
    plugins.register(broken.Manifest(fault, **fields), "trace")
    sizes = [broken.Trace(np.ones(count)) for count in (1, 13, broken.MOST)]
    refuses = [broken.Trace(np.ones(broken.MOST + 1))]
    default, here = torch.get_default_dtype(), Path(__file__).parent / "left_behind"
    try:
        return {
            f.check for f in run(checks("trace", plugins=plugins, sizes=sizes, refuses=refuses)) if f.status == "fail"
        }
    finally:
        torch.set_default_dtype(default)
        here.unlink(missing_ok=True)


@pytest.mark.parametrize(("fault", "names"), FAULTS.items(), ids=FAULTS)
def test_each_fault_fails_the_check_that_names_it(fault, names):
    assert failed(fault) == set(names)
