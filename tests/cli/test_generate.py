"""``anyany generate``: words become parts, the reply becomes text and files."""

from __future__ import annotations

import json

import numpy as np
import pytest

from anyany import Audio, Image, Motion, TimeSeries, Video
from anyany.cli.generate import _follow
from anyany.cli.main import main
from anyany.cli.prompt import read_part
from anyany.engine import Done, SpanEnd, SpanStart, TextDelta, Usage
from anyany.errors import MediaError, UnsupportedMediaError
from anyany.model import load
from anyany.parts import Skeleton
from anyany.parts.suffixes import SUFFIXES
from anyany.plugin.registry import registry


@pytest.fixture
def checkpoint(site, make_model, tmp_path):
    """A saved model whose plugin this machine finds by an entry point."""
    site.info("imu-dist", METADATA="Metadata-Version: 2.1\nName: imu-dist\nVersion: 1.0\n",
              entry_points="[anyany]\nimu = imu_plugin\n")  # fmt: skip
    registry.cache_clear()
    folder = tmp_path / "model"
    make_model().save(folder)
    yield str(folder)
    registry.cache_clear()


def test_text_goes_to_stdout_as_the_model_says_it(checkpoint, capsys):
    assert main(["generate", "hello", "world", "--model", checkpoint, "--want", "text", "--max-new-tokens", "8",
                 "--seed", "3"]) == 0  # fmt: skip
    out, err = capsys.readouterr()
    assert err == ""
    expected = load(checkpoint, device="cpu").generate(["hello", "world"], want=["text"], max_new_tokens=8, seed=3)
    assert out == expected.text + "\n"


def test_options_reach_the_model(checkpoint, capsys):
    def text(*words):
        assert (
            main(["generate", "hello", "--model", checkpoint, "--max-new-tokens", "8", "--allow", "text", *words]) == 0
        )
        return capsys.readouterr().out

    assert text("--temperature", "0", "--seed", "1") == text("--temperature", "0", "--seed", "2")
    assert text("--temperature", "5", "--seed", "1") != text("--temperature", "5", "--seed", "2")
    assert text("--temperature", "text=0", "--seed", "1") == text("--temperature", "0", "--seed", "2")
    assert text("--temperature", "imu=0", "--temperature", "text=5") == text("--temperature", "5")
    whole = text("--temperature", "0").strip()
    assert whole
    assert text("--temperature", "0", "--stop", "never said", "--stop", whole[0]).strip() == ""


def test_numbers_by_modality_reach_the_model(checkpoint, capsys):
    words = ["generate", "hello", "--model", checkpoint, "--want", "imu", "--json"]
    assert main([*words, "--budget", "imu=2", "--guidance", "imu=2", "--top-p", "0.5"]) == 0
    assert json.loads(capsys.readouterr().out)["usage"]["rows"]["imu"] <= 2
    assert main([*words, "--guidance", "2", "--guidance", "imu=3"]) == 1
    assert "--guidance: give one number, or a number for each modality" in capsys.readouterr().err
    assert main([*words, "--temperature", "=3"]) == 2


def test_json_is_one_document(checkpoint, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    words = ["generate", "text:hello", "--model", checkpoint, "--want", "text, imu,text", "--max-new-tokens", "4"]
    assert main([*words, "--json"]) == 0
    reply = json.loads(capsys.readouterr().out)
    assert set(reply) == {"parts", "finish", "usage"}
    assert [p["modality"] for p in reply["parts"]] == ["text", "imu", "text"]
    assert isinstance(reply["parts"][0]["text"], str)
    assert reply["parts"][1]["file"] is None  # this modality has no file format
    assert reply["usage"]["prompt_rows"] > 0
    assert not (tmp_path / "out").exists()
    assert main(words) == 0
    assert "[imu] not saved: it has no file format" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--want", "smell"], "cannot emit 'smell'"),
        (["--want", "text", "--allow", "text"], "pass one of them"),
        (["--max-new-tokens", "-1"], "max_new_tokens"),
        (["--temperature", "-3"], "temperature"),
        (["--model", "nowhere"], "nothing at nowhere"),
    ],
)
def test_typed_errors_are_1(checkpoint, capsys, words, message):
    assert main(["generate", "hello", "--model", checkpoint, *words]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ")
    assert message in err


def test_a_damaged_file_is_found_before_the_model_is_loaded(tmp_path, capsys):
    (tmp_path / "torn.png").write_bytes(b"\x89PNG no more")
    assert main(["generate", str(tmp_path / "torn.png"), "--model", "nowhere"]) == 1
    assert capsys.readouterr().err.startswith("error: image")


def test_words_that_are_text(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Image(np.zeros((4, 4, 3), np.uint8)).save("seven.png")
    (tmp_path / "notes.txt").write_text("not media")
    for word in ("hello", "", "notes.txt", "what is this.png", "what is\0.png", "x" * 5000 + " .png", "."):
        assert read_part(word) == word
    assert read_part("text:seven.png") == "seven.png"
    assert read_part("text:text:x") == "text:x"
    assert capsys.readouterr().err == ""


def test_a_misspelt_file_is_no_text(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["generate", "what?", "eight.png", "--model", "nowhere"]) == 1
    assert "eight.png: there is no such file" in capsys.readouterr().err


def test_files_are_opened_by_suffix(tmp_path):
    picture = Image(np.arange(48, dtype=np.uint8).reshape(4, 4, 3))
    sound = Audio.from_array(np.sin(np.arange(800) / 5).astype(np.float32) / 2, 8000)
    table = TimeSeries.from_array(np.arange(6.0))
    assert read_part(str(picture.save(tmp_path / "a.PNG"))) == picture
    assert isinstance(read_part(str(sound.save(tmp_path / "a.wav"))), Audio)
    np.testing.assert_array_equal(read_part(str(table.save(tmp_path / "a.csv"))).values, table.values)


@pytest.mark.parametrize("name", ["photo.bmp", "scan.TIFF", "song.m4a", "film.wmv"])
def test_a_file_of_media_that_are_not_read_is_never_taken_as_text(tmp_path, name):
    (tmp_path / name).write_bytes(b"something")
    with pytest.raises(UnsupportedMediaError, match=rf"{name} is of a kind that is not read; convert"):
        read_part(str(tmp_path / name))


def test_a_film_of_a_telephone_is_a_film(tmp_path):
    film = Video.from_frames(np.zeros((3, 16, 16)), 5.0)
    for name in ("a.mov", "a.m4v"):
        (tmp_path / name).write_bytes(film.to_bytes("mp4"))
        assert isinstance(read_part(str(tmp_path / name)), Video)


def test_a_clip_of_a_file_is_named_behind_it(tmp_path):
    clip = Motion(np.tile([1.0, 0, 0, 0], (3, 1, 1)), np.zeros((3, 3)), Skeleton(("a",), [-1], np.zeros((1, 3))), 5.0)
    path = clip.save(tmp_path / "moves.glb")
    assert read_part(f"{path}#motion") == read_part(str(path))
    with pytest.raises(MediaError, match="no clip 'walk'; it has: motion"):
        read_part(f"{path}#walk")
    assert read_part("issue #7") == "issue #7"


def test_every_format_that_is_written_can_be_a_part_again():
    for media in (Image, Audio, Video, TimeSeries, Motion):
        assert all(SUFFIXES[name] is media for name in media.formats if name != "gif")
    assert SUFFIXES["gif"] is Video


def test_media_of_a_reply_become_files(tmp_path, capsys):
    picture = Image(np.arange(48, dtype=np.uint8).reshape(4, 4, 3))
    events = [
        SpanStart(0, "text"), TextDelta(0, "he"), TextDelta(0, "re"), SpanEnd(0, "here", "stop", -1.5),
        SpanStart(1, "image"), SpanEnd(1, picture, "length"), Done("stop", Usage(prompt_rows=3)),
    ]  # fmt: skip
    folder = tmp_path / "new" / "out"
    reply = _follow(events, folder, live=True)
    assert capsys.readouterr().out == f"here\n[image] {folder / '1-image.png'}\n"
    assert Image.open(folder / "1-image.png") == picture
    assert reply["parts"] == [
        {"modality": "text", "text": "here", "finish": "stop", "logprob": -1.5},
        {"modality": "image", "file": str(folder / "1-image.png"), "finish": "length", "logprob": None},
    ]
    assert reply["usage"]["prompt_rows"] == 3


def test_a_folder_that_cannot_be_written_is_an_error_not_a_traceback(checkpoint, tmp_path, capsys, monkeypatch):
    (tmp_path / "taken").write_text("a file")
    picture = Image(np.zeros((4, 4, 3), np.uint8))
    monkeypatch.setattr("anyany.model.Model.stream", lambda *a, **k: iter([SpanEnd(0, picture, "stop")]))
    assert main(["generate", "hello", "--model", checkpoint, "--out", str(tmp_path / "taken")]) == 1
    assert "taken: File exists" in capsys.readouterr().err
