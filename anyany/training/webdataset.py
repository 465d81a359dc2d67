"""Samples from WebDataset shards: tar files whose members ``KEY.jpg``, ``KEY.txt``, ``KEY.json`` are one sample.

``KEY.json`` is a sample as in ``anyany.training.samples``, whose parts name members of the same key as ``path``, by
suffix or whole name. With a template, the members are columns by suffix: ``{jpg}``, ``{txt}``, ``{json.caption}``.
Nothing is unpacked to the disk; a member is read at its place when the sample is taken.
"""

from __future__ import annotations

import tarfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from anyany.errors import DataError, MediaTooLargeError
from anyany.media.limits import DEFAULT
from anyany.parts.suffixes import SUFFIXES, suffix
from anyany.training import template as templates
from anyany.training.patterns import matching
from anyany.training.samples import make_sample, named, parsed

Members = dict[str, tuple[int, int]]
"""First byte and size in the shard, by suffix."""


class Shards:
    """A source over the samples of tar files.

    Args:
        path: A file, a folder, a pattern such as ``data/{000..015}.tar``, or a list of these. Headers are read once.
        template: What a sample is, with suffixes of members in braces; none where ``KEY.json`` says it.
        names: Of classes: what ``{cls}`` is for the number in ``KEY.cls``.

    Raises:
        DataError: A shard is missing, damaged or compressed, holds a link, or a key has a suffix twice.
        RecipeError: The template is none.
    """

    def __init__(
        self, path: str | Sequence[str], template: Mapping[str, Any] | None = None, names: Sequence[str] = ()
    ) -> None:
        if template is not None:
            templates.check(template)
        self.template, self.names = template, names
        self.samples = [(file, *each) for file in matching(path, ".tar") for each in _index(file).items()]

    def __len__(self) -> int:
        return len(self.samples)

    def sample(self, index: int, draw: np.random.Generator) -> Any:
        """What ``KEY.json`` says, or what the template makes of the members.

        Raises:
            DataError: The sample is none, or a member cannot be used; it names shard and key.
        """
        file, key, members = self.samples[index]
        with named(f"{file.name}, {key}"):
            columns = Columns(file, key, members, self.names)
            item = columns["json"] if self.template is None else templates.fill(self.template, columns)
            return make_sample(item, columns.place)


@dataclass(frozen=True)
class Columns(Mapping[str, Any]):
    """Members of one key by suffix: media as parts, JSON as objects, all else as text. Read when asked for."""

    file: Path
    key: str
    members: Members
    names: Sequence[str]

    def __getitem__(self, name: str) -> Any:
        if name not in self.members:
            raise DataError(f"no member {name!r}; there are {', '.join(self.members)}"[:400])
        data = self.read(name)
        if media := SUFFIXES.get(suffix(f".{name}")):
            return {"type": media.modality, "bytes": data}
        if suffix(f".{name}") == "json":
            return parsed(data, "a member")
        try:
            text = data.decode().strip()
        except UnicodeDecodeError:
            raise DataError(f"member {name!r} is neither media of {', '.join(SUFFIXES)} nor text in UTF-8") from None
        return self._class(text) if name == "cls" and self.names else text

    def __contains__(self, name: object) -> bool:
        return name in self.members

    def __iter__(self) -> Iterator[str]:
        return iter(self.members)

    def __len__(self) -> int:
        return len(self.members)

    def read(self, name: str) -> bytes:
        """The bytes of a member.

        Raises:
            MediaTooLargeError: It is larger than a file may be; nothing of it is read.
            DataError: The shard has been cut.
        """
        start, size = self.members[name]
        if size > DEFAULT.bytes:
            raise MediaTooLargeError(f"member {name!r} has {size} bytes, a file may have {DEFAULT.bytes}")
        try:
            with self.file.open("rb") as file:
                file.seek(start)
                data = file.read(size)
        except OSError as error:
            raise DataError(f"cannot read the shard: {error.strerror}") from None
        if len(data) != size:
            raise DataError(f"member {name!r}: expected {size} bytes, got {len(data)}; the shard has been cut")
        return data

    def place(self, part: Mapping[str, Any]) -> Mapping[str, Any]:
        """A part whose ``path`` names a member, with the bytes of the member instead."""
        wanted = str(part["path"])
        short = wanted.removeprefix(f"{self.key}.").removeprefix(f"{self.key.rpartition('/')[2]}.")
        if short not in self.members:
            raise DataError(f"no member {wanted!r}; there are {', '.join(self.members)}"[:400])
        return {**{k: v for k, v in part.items() if k != "path"}, "bytes": self.read(short)}

    def _class(self, text: str) -> str:
        if not text.isdecimal() or int(text) >= len(self.names):
            raise DataError(f"member 'cls': expected a number from 0 to {len(self.names) - 1}, got {text!r:.40}")
        return self.names[int(text)]


def _index(file: Path) -> dict[str, Members]:
    """Members of each key of a shard; a key is what stands before the first dot of the last name of a path."""
    found: dict[str, Members] = {}
    try:
        with tarfile.open(file, "r:") as shard:
            while (member := shard.next()) is not None:
                shard.members = []  # tarfile would keep them all
                if member.isdir():
                    continue
                if not member.isreg() or member.issparse():
                    raise DataError(f"{file}: {member.name} is no plain file but a link or the like; write its content")
                folder, slash, name = member.name.rpartition("/")
                stem, dot, ending = name.partition(".")
                if not stem:
                    continue  # hidden: what some systems add beside each file
                members = found.setdefault(folder + slash + stem, {})
                if not dot or ending.lower() in members:
                    raise DataError(f"{file}: {member.name}: expected KEY.suffix, each suffix once for a key")
                members[ending.lower()] = (member.offset_data, member.size)
    except (tarfile.TarError, OSError) as error:
        raise DataError(f"{file}: not a whole tar file without compression ({error}); check or unpack it") from None
    return found
