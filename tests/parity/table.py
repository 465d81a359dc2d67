"""Prints the parity table: ``python tests/parity/table.py``. Largest differences of logits, float32, random weights."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

import transformers
from parity.cases import CASES
from parity.compare import PROMPT, STEPS, apart, both


def main() -> None:
    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()
    print(f"| family | variant | prefill of {PROMPT} | {STEPS} cached steps | all at once |")
    print("| --- | --- | --- | --- | --- |")
    largest = 0.0
    for case in CASES:
        with tempfile.TemporaryDirectory() as folder:
            far = apart(*both(Path(folder), case))
        largest = max(largest, *far[:3])
        print(f"| {case.family} | {case.variant} | {far.prefill:.1e} | {far.steps:.1e} | {far.uncached:.1e} |")
    print(f"\nlargest of {len(CASES)}: {largest:.1e}")


if __name__ == "__main__":
    main()
