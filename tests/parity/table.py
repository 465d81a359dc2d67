"""Prints the parity table: ``python tests/parity/table.py``. Largest differences of logits, float32, random weights."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

import transformers
from parity import seeing
from parity.cases import CASES
from parity.compare import PROMPT, STEPS, Apart, apart, both


def main() -> None:
    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()
    print(f"| family | variant | prefill of {PROMPT} | {STEPS} cached steps | all at once |")
    print("| --- | --- | --- | --- | --- |")
    rows = []
    for case in CASES:
        with tempfile.TemporaryDirectory() as folder:
            rows.append(row(case.family, case.variant, apart(*both(Path(folder), case))))
    print(f"\nlargest of {len(rows)}: {max(rows):.1e}")
    print(f"\n| family | variant, pictures | prefill | {STEPS} cached steps | all at once |")
    print("| --- | --- | --- | --- | --- |")
    rows = []
    for seen in seeing.CASES:
        with tempfile.TemporaryDirectory() as folder:
            theirs, ours, processor = seeing.both(Path(folder), seen)
            for what, prompt in seeing.PROMPTS.items():
                far = seeing.apart(theirs, ours, prompt, processor)
                rows.append(row(seen.family, f"{seen.variant}; {what}", far))
    print(f"\nlargest of {len(rows)}: {max(rows):.1e}")


def row(family: str, variant: str, far: Apart) -> float:
    """Print a row; gives the largest difference in it."""
    print(f"| {family} | {variant} | {far.prefill:.1e} | {far.steps:.1e} | {far.uncached:.1e} |")
    return max(far[:3])


if __name__ == "__main__":
    main()
