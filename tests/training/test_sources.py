"""Sources of data in files: labelled folders, parquet, shards; and what they share."""

from __future__ import annotations

import base64
import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from anyany.errors import DataError, RecipeError
from anyany.media.limits import DEFAULT
from anyany.parts import Audio, Image, TimeSeries
from anyany.training import parquet, template
from anyany.training.folder import Labelled
from anyany.training.jsonl import Lines
from anyany.training.parquet import Rows
from anyany.training.patterns import expanded, matching
from anyany.training.webdataset import Shards

DRAW = np.random.default_rng(0)
LOOK = {"messages": [{"role": "user", "content": ["{jpg}", "What?"]}, {"role": "assistant", "content": "A {cls}."}]}


def picture(value: int) -> bytes:
    return Image.from_array(np.full((3, 5), value, np.uint8)).to_bytes("png")


def level(part) -> int:
    assert isinstance(part, Image)
    return int(part.pixels[0, 0, 0])


# Templates.


def test_a_template_takes_whole_columns_and_texts():
    columns = {"a": b"x", "n": 3, "s": {"t": {"u": "deep"}}, "x.y": "flat", "none": None, "list": [1, None]}
    made = {"messages": ["{a}", "{n}", "is {n}, {s.t.u}, {x.y}, {{n}}, { n", {"v": "{list}", "k": "{none}"}, 4]}
    assert template.fill(made, columns) == {
        "messages": [b"x", "3", "is 3, deep, flat, {n}, { n", {"v": [1, None]}, 4]
    }  # fmt: skip
    assert template.names(made) == {"a", "n", "s.t.u", "x.y", "list", "none"}
    for wrong, message in (("{b}", "no column 'b'"), ("in {a}", "got bytes"), ("{s.x}", "no column 's.x'")):
        with pytest.raises(DataError, match=message):
            template.fill(wrong, columns)


@pytest.mark.parametrize("wrong", [None, [], {}, {"text": "{a}"}, {"pair": ["{a}"], "part": "{a}"}, {"part": "a"}])
def test_what_is_no_template(wrong):
    with pytest.raises(RecipeError, match="template"):
        template.check(wrong)


@given(st.text("{}ab.", max_size=12), st.text("{}xa", max_size=5))
def test_what_a_column_holds_is_never_filled_in_again(text, value):
    assert template.fill("<{a}>" + text.replace("{", "").replace("}", ""), {"a": value}).startswith(f"<{value}>")


# Labelled folders.


@pytest.fixture
def labelled(tmp_path: Path) -> Path:
    for label, deep, value in (("dog", "x", 200), ("cat", "", 100), ("cat", "", 101)):
        folder = tmp_path / "set" / label / deep
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{value}.png").write_bytes(picture(value))
    (tmp_path / "set" / "cat" / ".hidden").write_text("x")
    (tmp_path / "set" / "README").write_text("x")
    return tmp_path / "set"


def test_a_folder_of_labels(labelled):
    source = Labelled(str(labelled))
    seen = []
    for index in range(len(source)):
        question, answer = source.sample(index, DRAW)
        assert question.parts[1] == "What is this?"
        seen.append((level(question.parts[0]), answer.parts))
    assert seen == [(100, ("cat",)), (101, ("cat",)), (200, ("dog",))]
    asked, drawn = Labelled(
        str(labelled),
        template={"messages": [{"role": "user", "content": "Draw a {label}."},
                               {"role": "assistant", "content": ["{media}"]}]},
    ).sample(2, DRAW)  # fmt: skip
    assert asked.parts == ("Draw a dog.",)
    assert level(drawn.parts[0]) == 200
    assert Labelled(str(labelled), "Hm?").sample(0, DRAW)[0].parts[1] == "Hm?"
    assert level(Labelled(str(labelled), template={"part": "{media}"}).sample(1, DRAW)) == 101
    assert Labelled(str(labelled), template={"pair": ["{media}", "{label}"]}).sample(1, DRAW)[1] == "cat"


def test_wrong_folders(labelled):
    with pytest.raises(DataError, match="no folder nowhere"):
        Labelled("nowhere")
    with pytest.raises(DataError, match="a folder for each label"):
        Labelled(str(labelled / "cat"))
    (labelled / "dog" / "x" / "200.png").write_bytes(b"nothing")
    with pytest.raises(DataError, match=r"^dog/x/200.png: .*image"):
        Labelled(str(labelled)).sample(2, DRAW)
    (labelled / "dog" / "notes.doc").write_text("x")
    with pytest.raises(DataError, match=r"notes.doc is none of png, "):
        Labelled(str(labelled))
    (labelled / "empty").mkdir()
    (labelled / "dog" / "notes.doc").unlink()
    with pytest.raises(DataError, match="empty holds no file"):
        Labelled(str(labelled))


def test_a_file_that_is_too_large_is_not_read(labelled):
    with (labelled / "cat" / "100.png").open("r+b") as file:
        file.truncate(1 << 40)  # a hole: it takes no room
    with pytest.raises(DataError, match=rf"cat/100.png.* {DEFAULT.bytes} bytes, '100.png' has more"):
        Labelled(str(labelled)).sample(0, DRAW)


# Media inline.


def test_numbers_and_base64_inline(tmp_path):
    series = {"type": "timeseries", "values": [[1, 2.5], [None, 4]], "columns": ["a", "b"], "frequency": "h"}
    parts = [series, {"type": "timeseries", "values": [1, None, 3]},
             {"type": "image", "base64": base64.b64encode(picture(9)).decode()}]  # fmt: skip
    path = tmp_path / "x.jsonl"
    path.write_text("\n".join(json.dumps({"part": part}) for part in parts))
    lines = Lines(str(path))
    one, other, image = (lines.sample(i, DRAW) for i in range(3))
    assert isinstance(one, TimeSeries)
    np.testing.assert_array_equal(one.values, [[1, 2.5], [np.nan, 4]])
    assert (one.columns, one.frequency) == (("a", "b"), "h")
    np.testing.assert_array_equal(other.values, [[1], [np.nan], [3]])
    assert level(image) == 9


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"values": []}, "at least one value"),
        ({"values": [[1], [1, 2]]}, "rows of one length"),
        ({"values": ["1"]}, "numbers or null"),
        ({"values": [True]}, "numbers or null"),
        ({"values": [[[1]]]}, "numbers or null"),
        ({"values": [1], "columns": "a"}, "list of names"),
        ({"values": [1], "columns": ["a", "b"]}, "1 columns of values, 2 names"),
        ({"values": [1], "frequency": 3}, "frequency as text"),
        ({"values": [[0] * 5000]}, "4096 columns"),
    ],
)
def test_numbers_that_are_none(tmp_path, fields, message):
    path = tmp_path / "x.jsonl"
    path.write_text(json.dumps({"part": {"type": "timeseries", **fields}}))
    with pytest.raises(DataError, match=rf"x.jsonl, line 1.*{message}"):
        Lines(str(path)).sample(0, DRAW)


# Parquet.


def table(path: Path, rows: list[dict], group: int = 2) -> Path:
    pq.write_table(pa.Table.from_pylist(rows), path, row_group_size=group)
    return path


def test_rows_of_parquet_in_any_order(tmp_path):
    rows = [{"pair": [{"type": "image", "bytes": picture(v), "text": None},
                      {"type": "text", "bytes": None, "text": f"{v}"}], "other": 1} for v in range(11)]  # fmt: skip
    table(tmp_path / "b.parquet", rows[7:])
    table(tmp_path / "a.parquet", rows[:7], group=3)
    source = Rows(str(tmp_path))
    assert len(source) == 11
    for index in [*DRAW.permutation(11), 10, 0]:
        part, word = source.sample(int(index), DRAW)
        assert (level(part), word) == (index, f"{index}")
    assert len(source.kept) <= parquet.GROUPS_KEPT


def test_rows_of_parquet_nested_as_json_and_by_a_template(tmp_path):
    (tmp_path / "7.png").write_bytes(picture(7))
    said = [{"role": "user", "content": [{"type": "image", "path": "7.png"}]}, {"role": "assistant", "content": "x"}]
    path = table(tmp_path / "a.parquet", [
        {"messages": json.dumps(said), "part": None},
        {"messages": None, "part": json.dumps({"type": "timeseries", "values": [1, None]})},
        {"messages": "[", "part": None}, {"messages": None, "part": None},
    ])  # fmt: skip
    source = Rows(str(path))
    assert level(source.sample(0, DRAW)[0].parts[0]) == 7
    assert np.isnan(source.sample(1, DRAW).values[1, 0])
    for index, message in ((2, "not a column of JSON"), (3, "expected an object with one of the keys")):
        with pytest.raises(DataError, match=f"^a.parquet, row {index}: {message}"):
            source.sample(index, DRAW)
    path = table(tmp_path / "b.parquet", [
        {"img": {"bytes": picture(v), "path": "x.png"}, "label": v, "load": [1.0, None]} for v in range(3)
    ])  # fmt: skip
    pairs = Rows(str(path), {"pair": [{"type": "image", "bytes": "{img.bytes}"}, "no. {label}"]})
    assert [(level(a), b) for a, b in (pairs.sample(i, DRAW) for i in range(3))] == [(v, f"no. {v}") for v in range(3)]
    series = Rows(str(path), {"part": {"type": "timeseries", "values": "{load}"}}).sample(0, DRAW)
    assert np.isnan(series.values[1, 0])


def test_wrong_parquet(tmp_path, monkeypatch):
    path = table(tmp_path / "a.parquet", [{"x": 1}])
    with pytest.raises(DataError, match="expected one of the columns messages, pair, part, got x"):
        Rows(str(path))
    with pytest.raises(DataError, match="no column 'y'"):
        Rows(str(path), {"part": "{y}"})
    (tmp_path / "b.parquet").write_bytes(path.read_bytes()[:-9])
    with pytest.raises(DataError, match="is not parquet"):
        Rows(str(tmp_path / "b.parquet"))
    with pytest.raises(DataError, match="stands for no file"):
        Rows(str(tmp_path / "c*.parquet"))
    damaged = bytearray(path.read_bytes())
    damaged[4:30] = bytes(26)
    (tmp_path / "d.parquet").write_bytes(damaged)
    with pytest.raises(DataError, match=r"d.parquet, row 0: row group 0 is damaged"):
        Rows(str(tmp_path / "d.parquet"), {"part": "{x}"}).sample(0, DRAW)
    monkeypatch.setattr(parquet, "GROUP_BYTES", 10)
    with pytest.raises(DataError, match=r"a.parquet, row 0: row group 0 has \d+ bytes, at most 10"):
        Rows(str(path), {"part": "{x}"}).sample(0, DRAW)


# Shards.


def shard(path: Path, *members: tuple[str, bytes]) -> Path:
    with tarfile.open(path, "w") as file:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            file.addfile(info, io.BytesIO(data))
    return path


def test_shards_whose_json_names_its_members(tmp_path):
    said = {"messages": [{"role": "user", "content": [{"type": "image", "path": "png"}]},
                         {"role": "assistant", "content": [{"type": "audio", "path": "2.wav"}]}]}  # fmt: skip
    sound = Audio.from_array(np.full(80, 0.25, np.float32), 8000)
    shard(tmp_path / "0.tar", ("in/1.json", json.dumps({"part": {"type": "image", "path": "png"}}).encode()),
          ("in/1.png", picture(1)))  # fmt: skip
    shard(tmp_path / "1.tar", ("2.png", picture(2)), ("2.json", json.dumps(said).encode()),
          ("2.wav", sound.to_bytes("wav")), ("._2.png", b"x"))  # fmt: skip
    source = Shards(f"{tmp_path}/{{0..1}}.tar")
    assert len(source) == 2
    assert level(source.sample(0, DRAW)) == 1
    question, answer = source.sample(1, DRAW)
    assert level(question.parts[0]) == 2
    assert answer.parts[0].samples.size == 80


def test_plain_shards_of_pictures_and_captions(tmp_path):
    members = [m for v in range(4) for m in ((f"d/{v}.JPG", picture(v)), (f"d/{v}.cls", f"{v % 2}\n".encode()),
                                             (f"d/{v}.txt", f"Nummer {v}, weiß\n".encode()),
                                             (f"d/{v}.json", json.dumps({"by": {"who": v}}).encode()))]  # fmt: skip
    path = shard(tmp_path / "x.tar", *members)
    source = Shards(str(path), LOOK, names=["cat", "dog"])
    assert [source.sample(i, DRAW)[1].parts[0] for i in range(4)] == ["A cat.", "A dog."] * 2
    assert level(source.sample(3, DRAW)[0].parts[0]) == 3
    part, caption = Shards(str(tmp_path), {"pair": ["{jpg}", "{txt} by {json.by.who}"]}).sample(2, DRAW)
    assert (level(part), caption) == (2, "Nummer 2, weiß by 2")
    assert Shards(str(path), LOOK).sample(1, DRAW)[1].parts == ("A 1.",)
    with pytest.raises(DataError, match=r"x.tar, d/1: member 'cls': expected a number from 0 to 0, got '1'"):
        Shards(str(path), LOOK, names=["cat"]).sample(1, DRAW)
    with pytest.raises(DataError, match=r"x.tar, d/0: no column 'png'; there are jpg, cls, txt, json"):
        Shards(str(path), {"part": "{png}"}).sample(0, DRAW)


def test_hostile_shards(tmp_path):
    path = shard(tmp_path / "a.tar", ("1.png", picture(1)))
    whole = path.read_bytes()
    source = Shards(str(path), {"part": "{png}"})
    path.write_bytes(whole[:520])
    with pytest.raises(DataError, match=r"a.tar, 1: member 'png'.*the shard has been cut"):
        source.sample(0, DRAW)
    for data in (whole[:520], whole[:100], b"", b"not a tar at all" * 100):
        path.write_bytes(data)
        with pytest.raises(DataError, match="not a whole tar file"):
            Shards(str(path), {"part": "{png}"})
    with tarfile.open(path, "w") as file:
        info = tarfile.TarInfo("1.png")
        info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
        file.addfile(info)
    with pytest.raises(DataError, match=r"1.png is no plain file but a link"):
        Shards(str(path))
    with pytest.raises(DataError, match="each suffix once"):
        Shards(str(shard(path, ("1.png", b""), ("1.png", b""))))
    path.write_bytes(_header("1.png", 1 << 33) + bytes(1024))
    with path.open("r+b") as file:
        file.truncate((1 << 33) + 2048)  # a hole: it takes no room
    with pytest.raises(DataError, match=rf"member 'png' has {1 << 33} bytes, a file may have"):
        Shards(str(path), {"part": "{png}"}).sample(0, DRAW)


def _header(name: str, size: int) -> bytes:
    info = tarfile.TarInfo(name)
    info.size = size
    return info.tobuf()


def test_a_member_is_of_its_own_key_only(tmp_path):
    for wanted in ("../secret.png", "/etc/passwd", "2.png", "png2", ""):
        path = shard(tmp_path / "a.tar", ("1.json", json.dumps({"part": {"type": "image", "path": wanted}}).encode()),
                     ("1.png", picture(1)), ("2.png", picture(2)))  # fmt: skip
        with pytest.raises(DataError, match=r"a.tar, 1: no member"):
            Shards(str(path)).sample(0, DRAW)


# Names of files.


def test_patterns(tmp_path):
    assert expanded("a{08..11}b{x,y}") == [f"a{n:02}b{c}" for n in range(8, 12) for c in "xy"]
    assert expanded("plain") == ["plain"]
    for name in ("b.tar", "a.tar", "c.txt", "[d].tar"):
        (tmp_path / name).touch()
    names = [f.name for f in matching([f"{tmp_path}/b.tar", str(tmp_path)], ".tar")]
    assert names == ["b.tar", "[d].tar", "a.tar"]
    assert [f.name for f in matching(f"{tmp_path}/*.tar", ".tar")] == ["[d].tar", "a.tar", "b.tar"]
    assert [f.name for f in matching(f"{tmp_path}/[d].tar", ".tar")] == ["[d].tar"]
    for wrong in ("none.tar", "{a,none}.tar", "none*.tar"):
        with pytest.raises(DataError, match="stands for no file"):
            matching(f"{tmp_path}/{wrong}", ".tar")
    with pytest.raises(DataError, match="more than 1,000,000"):
        expanded("{0..999}{0..9999}")
