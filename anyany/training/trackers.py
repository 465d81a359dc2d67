"""Trackers of experiments, by the name of their package: it gets what ``metrics.jsonl`` gets.

trackio and wandb have one interface: ``init(project=, name=, config=)``, ``log(values, step=)``, ``finish()``.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any

from anyany.errors import MissingPackageError

PROJECT = "anyany"


class Tracker:
    """One run in a tracker.

    Args:
        package: ``trackio`` or ``wandb``.
        name: Of the run.
        config: What the tracker shows beside it: the recipe.

    Raises:
        MissingPackageError: The package is not installed.
    """

    def __init__(self, package: str, name: str, config: Mapping[str, Any]) -> None:
        try:
            self.package = import_module(package)
        except ImportError:
            raise MissingPackageError(
                f"tracker {package!r}: the package is not installed; run: pip install {package}"
            ) from None
        self.package.init(project=PROJECT, name=name, config=dict(config))

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Send values behind ``step`` steps."""
        self.package.log(dict(values), step=step)

    def close(self) -> None:
        """Send what waits, and end the run in the tracker."""
        self.package.finish()
