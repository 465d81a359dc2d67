"""Words of the command line as parts of a prompt."""

from __future__ import annotations

import mimetypes
from pathlib import Path

from anyany import parts
from anyany.errors import PromptError, UnsupportedMediaError
from anyany.parts import Media
from anyany.parts.suffixes import SUFFIXES

_TEXT = "text:"


def read_part(word: str) -> str | Media:
    """A word as a part: ``text:...`` is text, a file with a media suffix is media, all else is text.

    ``moves.glb#Walk`` is the clip ``Walk`` of a file with several.

    Raises:
        PromptError: A word that looks like a file of media is none.
        MediaError: The file is damaged, too large, empty, or of a format that is not read.
    """
    if word.startswith(_TEXT):
        return word.removeprefix(_TEXT)
    file, mark, clip = word.rpartition("#")
    if mark and SUFFIXES.get(_suffix(file)) is parts.Motion and _is_file(file):
        return parts.Motion.open(file, clip)
    media = SUFFIXES.get(_suffix(word))
    if media is None:
        kind = (mimetypes.guess_type(word)[0] or "").partition("/")[0]
        if kind in ("image", "audio", "video", "model") and _is_file(word):
            raise UnsupportedMediaError(
                f"{kind}: {Path(word).name} is of a kind that is not read; convert it to one of {', '.join(SUFFIXES)}"
            )
        return word
    if _is_file(word):
        return media.open(word)
    if not any(letter.isspace() for letter in word):  # a sentence may end in "photo.png", a single word is a file
        raise PromptError(f"{word}: there is no such file; check the path, or write text:{word} to say it as text")
    return word


def _suffix(word: str) -> str:
    return Path(word).suffix[1:].lower()


def _is_file(word: str) -> bool:
    try:
        return Path(word).is_file()
    except (OSError, ValueError):  # longer than a name may be, or with a zero byte: no file's name
        return False
