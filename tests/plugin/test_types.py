"""The types of what authors import are complete: an editor and a type checker know all of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.skipif(
    find_spec("pyright") is None, reason="pyright is not installed: pip install -r requirements-dev.txt"
)
@pytest.mark.parametrize("module", ["anyany.plugin", "anyany.parts", "anyany.errors"])
def test_the_contract_is_typed_completely(module):
    """All of the public surface; what comes from other distributions is theirs."""
    command = [sys.executable, "-m", "pyright", "--pythonpath", sys.executable, "--ignoreexternal", "--outputjson"]
    done = subprocess.run(
        [*command, "--verifytypes", module], env=os.environ | {"PYTHONPATH": str(ROOT)}, cwd=ROOT,
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    found = json.loads(done.stdout)["typeCompleteness"]
    assert Path(found["packageRootDirectory"]) == ROOT / "anyany"
    unknown = [symbol["name"] for symbol in found["symbols"] if symbol["isExported"] and not symbol["isTypeKnown"]]
    assert unknown == []
    assert found["completenessScore"] == 1
    assert found["exportedSymbolCounts"]["withKnownType"] >= {"anyany.errors": 40}.get(module, 100)
