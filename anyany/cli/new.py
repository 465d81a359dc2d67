"""``anyany plugins new``: a distribution that works as it is, from the templates beside this file."""

from __future__ import annotations

import keyword
import shutil
import tempfile
from importlib.resources import files
from pathlib import Path
from string import Template

from anyany._version import __version__
from anyany.errors import PluginError
from anyany.plugin.discovery import NAME
from anyany.plugin.registry import Registry
from anyany.plugin.standard import TEXT

SIZE = {"arrays": 8, "image": 16, "audio": 80, "video": 64, "timeseries": 8}
"""Numbers in a row, by kind of media."""
_ROWS = {"arrays": 256, "audio": 200, "video": 32, "timeseries": 256}
_SIZES = {
    "arrays": "[{media}(np.ones((count, 8))) for count in (1, 7, 256)]",
    "image": "[Image.from_array(np.ones(shape)) for shape in ((1, 1), (3, 50), (200, 9))]",
    "audio": "[Audio.from_array(0.1 * np.ones(count), 8000) for count in (1, 81, 16000)]",
    "video": "[Video.from_frames(np.ones(shape), 5.0) for shape in ((1, 1, 1), (3, 50, 9), (32, 8, 8))]",
    "timeseries": "[TimeSeries.from_array(np.ones(shape)) for shape in (1, (9, 3), 2048)]",
}
_REFUSED = {
    "arrays": "[{media}(np.ones((257, 8)))]",
    "image": "[]  # a picture of any size is brought to one",
    "audio": "[Audio.from_array(0.1 * np.ones(16001), 8000)]",
    "video": "[Video.from_frames(np.ones((33, 8, 8)), 5.0)]",
    "timeseries": "[TimeSeries.from_array(np.ones(2049))]",
}
_CLASSES = {"image": "Image", "audio": "Audio", "video": "Video", "timeseries": "TimeSeries"}


def new(name: str, *, encoder: bool, decoder: str, media: str, folder: Path, plugins: Registry) -> Path:
    """Write the distribution ``anyany-NAME`` into a folder.

    Args:
        name: Of the plugin and, for ``arrays``, of the modality.
        encoder: With an encoder.
        decoder: ``codes``, ``vectors``, or nothing for none.
        media: ``arrays`` for a modality of its own, else a standard one.
        folder: Where it is made.
        plugins: What is installed.

    Raises:
        PluginError: The name cannot be one, is taken, or the folder is there and not empty.
    """
    _check_name(name, plugins)
    target = folder / f"anyany-{name}"
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise PluginError(f"{target}: expected no such folder or an empty one, it holds something; move it away")
    words = _words(name, encoder, decoder, media)
    texts = {path: _fill(templates, words) for path, templates in _files(words, encoder, decoder, media).items()}
    _write(target, texts)
    return target


def _check_name(name: str, plugins: Registry) -> None:
    if not (NAME.fullmatch(name) and name.isidentifier()) or keyword.iskeyword(name):
        raise PluginError(f"{name!r}: expected a name of lower-case letters, digits and '_', such as 'thermal'")
    taken = {TEXT, *plugins.modalities, *(record.name for record in plugins.records)}
    if name in taken:
        raise PluginError(f"{name!r}: a plugin or modality of that name is installed; choose another name")


def _words(name: str, encoder: bool, decoder: str, media: str) -> dict[str, str]:
    """What stands for the words in the templates."""
    modality = name if media == "arrays" else media
    kind = "".join(part.capitalize() for part in name.split("_")) if media == "arrays" else _CLASSES[media]
    limited = media in _ROWS
    imports = ["hookimpl"] + ["Capabilities"] * limited + ["ModalitySpec"] * (media == "arrays")
    imports += ["EncoderSpec"] * encoder + (["CodecSpec", decoder.capitalize()] if decoder else [])
    ids = [f"{name}/rows"] * encoder + [f"{name}/{decoder}"] * bool(decoder)
    reads, draws = "(media, word)", '(f"{word}?", media)'
    major, minor, *_ = __version__.split(".")
    home = f"anyany_{name}.media" if media == "arrays" else "anyany.parts"
    return {
        "name": name, "package": f"anyany_{name}", "modality": modality, "media": kind, "size": str(SIZE[media]),
        "core": f">={major}.{minor},<{major}.{int(minor) + 1}", "imports": ", ".join(sorted(imports)),
        "can": f',\n        can=Capabilities(limits={{"rows": {_ROWS[media]}}}),' if limited else "",
        "ids": _list(ids),
        "encoders": _list(ids[:1] if encoder else []), "decoders": _list(ids[-1:] if decoder else []),
        "sizes": _SIZES[media].format(media=kind), "refused": _REFUSED[media].format(media=kind),
        "media_import": f"from {home} import {kind}",
        "said": f"{draws} if draw.random() < 0.5 else {reads}" if encoder and decoder else reads if encoder else draws,
        "frozen": ', "codec/": 0.0' if decoder else "",
        "table": f"| `anyany_{name}/encoder.py` | media in |\n" * encoder
        + f"| `anyany_{name}/codec.py` | media out |\n" * bool(decoder),
    }  # fmt: skip


def _list(ids: list[str]) -> str:
    return "[" + ", ".join(f'"{id}"' for id in ids) + "]"


def _files(words: dict[str, str], encoder: bool, decoder: str, media: str) -> dict[str, list[str]]:
    """The templates of each file, in order."""
    name, package = words["name"], words["package"]
    manifest = ["manifest"] + ["manifest_modality"] * (media == "arrays") + ["manifest_encoder"] * encoder
    program = ["train"] + ["train_codec"] * (decoder == "codes") + ["train_model"] + ["train_reads"] * encoder
    found = {
        "pyproject.toml": ["pyproject"], "README.md": ["readme"], ".gitignore": ["gitignore"],
        ".github/workflows/test.yml": ["workflow"], f"tests/test_{name}.py": ["tests"],
        f"{package}/__init__.py": manifest + [f"manifest_{decoder}"] * bool(decoder),
        f"{package}/media.py": [f"media_{media}"], "train.py": program + ["train_draws"] * bool(decoder),
    }  # fmt: skip
    found |= {f"{package}/encoder.py": ["encoder"]} if encoder else {}
    return found | ({f"{package}/codec.py": [f"codec_{decoder}"]} if decoder else {})


def _fill(templates: list[str], words: dict[str, str]) -> str:
    home = files("anyany.cli") / "templates"
    return "".join(Template((home / f"{t}.txt").read_text(encoding="utf-8")).substitute(words) for t in templates)


def _write(target: Path, texts: dict[str, str]) -> None:
    """All files, or none: they are written beside the folder, which then takes its name."""
    target.parent.mkdir(parents=True, exist_ok=True)
    beside = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        for path, text in texts.items():
            (beside / path).parent.mkdir(parents=True, exist_ok=True)
            (beside / path).write_text(text, encoding="utf-8")
        beside.chmod(0o755)
        if target.is_dir():
            target.rmdir()  # it is empty
        beside.rename(target)
    except BaseException:
        shutil.rmtree(beside, ignore_errors=True)
        raise
