"""Samples from a folder of labelled files, ``folder/label/file``: the layout of torchvision's ``ImageFolder``.

The name of the first folder is the label; files may lie deeper. Any media will do, the suffix says which.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from anyany.errors import DataError
from anyany.parts.suffixes import SUFFIXES, suffix
from anyany.training import template as templates
from anyany.training.samples import make_sample, named, within

ASKED: Mapping[str, Any] = {
    "messages": [
        {"role": "user", "content": ["{media}", "{question}"]},
        {"role": "assistant", "content": "{label}"},
    ]
}
"""The usual template: media and a question in, the label out."""


class Labelled:
    """A source over all files of the folders of a folder, in the order of their names; hidden files do not count.

    Args:
        path: The folder that holds one folder for each label.
        question: What is asked about the media; a template may use it as ``{question}``.
        template: What a sample is, with ``{media}``, ``{label}`` and ``{question}``.

    Raises:
        DataError: There is no such folder, a label has no file, or a file is no media that is read.
        RecipeError: The template is none.
    """

    def __init__(self, path: str, question: str = "What is this?", template: Mapping[str, Any] = ASKED) -> None:
        templates.check(template)
        self.path, self.question, self.template = Path(path), question, template
        if not self.path.is_dir():
            raise DataError(f"folder: there is no folder {path}; check the path")
        labels = sorted(p for p in self.path.iterdir() if p.is_dir() and not p.name.startswith("."))
        if not labels:
            raise DataError(f"folder: expected a folder for each label in {path}, as in {path}/cat/1.png; got none")
        self.files = [(label.name, file) for label in labels for file in self._files(label)]

    def _files(self, label: Path) -> list[Path]:
        below = (p for p in label.rglob("*") if p.is_file())
        files = sorted(p for p in below if not any(n.startswith(".") for n in p.relative_to(label).parts))
        if not files:
            raise DataError(f"folder: {label} holds no file; remove it, or put some into it")
        for file in files:
            if suffix(file.name) not in SUFFIXES:
                raise DataError(f"folder: {file} is none of {', '.join(SUFFIXES)}; convert it, or move it away")
        return files

    def __len__(self) -> int:
        return len(self.files)

    def sample(self, index: int, draw: np.random.Generator) -> Any:
        """What the template makes of a file.

        Raises:
            DataError: The file cannot be opened; it names the file.
        """
        label, file = self.files[index]
        with named(str(file.relative_to(self.path))):
            media = {"type": SUFFIXES[suffix(file.name)].modality, "path": str(file.relative_to(self.path))}
            columns = {"media": media, "label": label, "question": self.question}
            return make_sample(templates.fill(self.template, columns), within(self.path))
