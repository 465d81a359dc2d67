"""``anyany generate --dataset``: an answer to each line of a JSONL file, one line each, in order.

A line is written when its batch is done, media first, and is on the disk before the next batch begins. So a process
that is killed at any moment has lost no line, and the same command goes on behind the last one; a line that was cut is
made again. Each line names what it answers, so that answers to other prompts are not taken for these.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from anyany.cli.output import part_to_json
from anyany.errors import AnyanyError, DataError
from anyany.training.samples import make_sample, parsed, within

if TYPE_CHECKING:
    from anyany.model import Model

BATCH = 16
"""Prompts that are answered at once, and at most those that a killed process makes again."""
BEGINS = b'{"index": '
"""How a line of an answer begins."""


@dataclass(frozen=True)
class Task:
    """What all lines of a file share.

    Attributes:
        folder: Media of the prompts lie from here.
        out: The file of answers; media of the answers lie in a folder beside it.
        seed: Of the first line; the one behind it has ``seed + 1``.
        options: As of ``Model.generate``.
    """

    folder: Path
    out: Path
    seed: int
    options: Mapping[str, Any]

    def key(self, line: bytes) -> str:
        """What an answer depends on, but for the model and the files that the prompt names."""
        asked = json.dumps([self.seed, dict(self.options)], sort_keys=True).encode()
        return hashlib.sha256(line + asked).hexdigest()[:16]

    def answer(self, model: Model, lines: Mapping[int, bytes]) -> Iterator[dict[str, Any]]:
        """The answers to lines by number, in their order, as JSON objects; their media are written before."""
        prompts = {index: _prompt(line, self.folder) for index, line in lines.items()}
        for index, result in _replies(model, prompts, self.seed, self.options):
            yield {"index": index, "key": self.key(lines[index]), **_told(result, self.out, index)}


def answer(
    make: Callable[[], Model], dataset: Path, out: Path, *, seed: int, options: Mapping[str, Any], workers: int = 0
) -> None:
    """Answer what is not answered yet.

    Args:
        make: Loads who answers.
        dataset: Lines ``{"messages": [...]}``, media by ``path`` from the folder of the file.
        out: Lines of answers; what it holds is kept.
        seed: Of the first line; the one behind it has ``seed + 1``.
        options: As of ``Model.generate``.
        workers: Processes of Ray that share the lines; 0 answers here.

    Raises:
        RequestError: An option is wrong, which no line could be answered with.
        DataError: There is no data set, or ``out`` holds answers to something else.
        MissingPackageError: There is no Ray for the workers.
    """
    from anyany.engine import make_options

    model = make()
    make_options(model.emits, model.generation, seed, options)
    task = Task(dataset.parent.absolute(), out.absolute(), seed, options)
    lines = _lines(dataset)
    done = kept(out, [task.key(line) for line in lines])
    left = _batches(lines, done)
    failed = 0
    out.parent.mkdir(parents=True, exist_ok=True)
    if workers:
        from anyany.cli.ray_workers import answered

        del model  # each worker loads its own
        batches: Iterable[Iterable[dict[str, Any]]] = answered(make, task, left, workers)
    else:
        batches = (task.answer(model, batch) for batch in left)
    with out.open("a", encoding="utf-8") as file:
        for batch in batches:
            for told in batch:
                failed += "error" in told
                file.write(json.dumps(told) + "\n")
            file.flush()
            os.fsync(file.fileno())
    print(f"{out}: {len(lines)} lines, {done} of them from before, {failed} new ones with errors", file=sys.stderr)


def _batches(lines: list[bytes], start: int) -> list[dict[int, bytes]]:
    """Lines from ``start`` on by number, as many at a time as are answered at once."""
    numbered = list(enumerate(lines))
    return [dict(numbered[at : at + BATCH]) for at in range(start, len(lines), BATCH)]


def kept(out: Path, keys: list[str]) -> int:
    """How many lines at the beginning of a file are answered; a last line that was cut is taken away.

    Raises:
        DataError: A line is no answer to the prompt in its place.
    """
    if not out.exists():
        return 0
    answered = size = 0
    with out.open("rb+") as file:
        for line in file:
            if not line.endswith(b"\n") and line[: len(BEGINS)] == BEGINS[: len(line)]:
                break  # cut off while it was written
            found = parsed(line, "an answer")
            if not isinstance(found, dict) or answered >= len(keys) or found.get("key") != keys[answered]:
                raise DataError(
                    f"{out}, line {answered + 1}: answers another prompt, or one with other options; choose a new file"
                )
            answered, size = answered + 1, size + len(line)
        file.truncate(size)
    return answered


def _lines(dataset: Path) -> list[bytes]:
    try:
        return [line for line in dataset.read_bytes().splitlines() if line.strip()]
    except OSError as error:
        raise DataError(f"dataset: cannot read {dataset}: {error.strerror}; check the path") from None


def _prompt(line: bytes, folder: Path) -> Any:
    """Messages, or the error that they are none."""
    try:
        item = parsed(line, "a line")
        if not isinstance(item, dict) or "messages" not in item:
            raise DataError("a prompt is a line {'messages': [...]}; see the page on the command line")
        return make_sample(item, within(folder))
    except AnyanyError as error:
        return error


def _replies(
    model: Model, prompts: Mapping[int, Any], seed: int, options: Mapping[str, Any]
) -> Iterator[tuple[int, Any]]:
    """A reply or an error for each index; request i has the seed ``seed + i``, whatever stands before it."""
    for broken, group in groupby(prompts.items(), lambda item: isinstance(item[1], AnyanyError)):
        indices, values = zip(*group, strict=True)
        if not broken:
            values = tuple(model.generate_batch(values, seed=seed + indices[0], errors="return", **options))
        yield from zip(indices, values, strict=True)


def _told(result: Any, out: Path, index: int) -> dict[str, Any]:
    """A reply or an error as JSON; media become files in a folder beside ``out``, named from there."""
    if isinstance(result, AnyanyError):
        return {"error": {"code": result.code, "message": str(result)}}
    if isinstance(result, Exception):  # of a plugin; one prompt that makes it fail must not end all others
        return {"error": {"code": AnyanyError.code, "message": f"{type(result).__name__}: {result}"}}
    folder = out.with_suffix("")
    parts: Iterable[Any] = zip(result.parts, result.finishes, result.logprobs, strict=True)
    told = [
        part_to_json(part, folder, f"{index:06}-{number}", finish, logprob)
        for number, (part, finish, logprob) in enumerate(parts)
    ]
    for part in told:
        if part.get("file"):
            part["file"] = Path(part["file"]).relative_to(out.parent).as_posix()
    return {"parts": told, "finish": result.finish, "usage": asdict(result.usage)}
