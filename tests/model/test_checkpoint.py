"""Checkpoints: the same model back, typed errors for whatever is wrong with one, and writes that are whole or not."""

from __future__ import annotations

import json
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from imu_plugin import Imu
from safetensors.torch import load_file, save_file

import anyany
from anyany.errors import AnyanyError, CheckpointError, MissingPluginError
from anyany.model import checkpoint
from anyany.plugin.registry import Registry

IMU = Imu(np.array([[1, -1, 1], [-1, -1, 1], [1, 1, 1]], np.float32))
PROMPT = ["hello", IMU, "world"]
SHARDS = ["backbone", "text", "encoder-imu-linear", "projector-imu-linear", "head-imu-signs"]


@pytest.fixture
def saved(make_model, tmp_path) -> Path:
    model = make_model(kind="flow", rows=4, fixed=True)
    model.generation = {"text": {"temperature": 0.5}, "imu": {"steps": 3}}
    model.card = "# Tiny\n"
    model.save(tmp_path / "tiny")
    return tmp_path / "tiny"


def load(path: Path, plugins: Registry, **options):
    return anyany.load(path, plugins=plugins, device="cpu", **options)


def change(path: Path, **values) -> None:
    """Set keys of a JSON file; ``None`` removes one."""
    data = {**json.loads(path.read_text()), **values}
    path.write_text(json.dumps({k: v for k, v in data.items() if v is not None}))


def snapshot(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


# There and back.


@pytest.mark.parametrize("kind", ["codes", "books", "regression", "embedding", "flow", "flow-span"])
def test_a_model_comes_back_bit_for_bit(make_model, plugins, tmp_path, kind):
    model = make_model(kind=kind, rows=4, fixed=True)
    if kind not in ("codes", "books"):
        model.heads["imu/signs"].fit(torch.randn(50, 3) * 3 + 1)
    model.save(tmp_path / "m")
    again = load(tmp_path / "m", plugins)
    assert torch.equal(model.logits(PROMPT), again.logits(PROMPT))
    options = {"want": ["text", "imu"], "max_new_tokens": 4, "seed": 2}
    mine, theirs = model.generate(PROMPT, **options), again.generate(PROMPT, **options)
    assert mine.text == theirs.text
    np.testing.assert_array_equal(mine.parts[1].readings, theirs.parts[1].readings)
    assert not again.training


def test_everything_but_the_weights_comes_back_too(saved, plugins, tmp_path):
    again = load(saved, plugins)
    assert again.generation == {"text": {"temperature": 0.5}, "imu": {"steps": 3}}
    assert again.card == "# Tiny\n"
    assert again.codecs["imu/signs"].rows == 4
    again.save(tmp_path / "second")
    first, second = snapshot(saved), snapshot(tmp_path / "second")
    assert first == second


def test_a_smaller_type_on_the_disk(make_model, plugins, tmp_path):
    model = make_model()
    checkpoint.save(model, tmp_path / "half", dtype=torch.bfloat16)
    assert load_file(tmp_path / "half" / "backbone.safetensors")["norm.weight"].dtype == torch.bfloat16
    again = load(tmp_path / "half", plugins)
    for (name, a), (_, b) in zip(model.state_dict().items(), again.state_dict().items(), strict=True):
        assert torch.equal(a.to(torch.bfloat16).to(a.dtype) if a.is_floating_point() else a, b), name


def test_the_folder_holds_text_and_safetensors_and_no_pickle(saved):
    for path in saved.iterdir():
        data = path.read_bytes()
        assert path.suffix in (".json", ".md", ".safetensors")
        assert not data.startswith((b"PK", b"\x80\x02", b"\x80\x04", b"\x80\x05"))
        if path.suffix == ".safetensors":
            length = struct.unpack("<Q", data[:8])[0]
            assert json.loads(data[8 : 8 + length])["__metadata__"]["component"]
        assert path.stat().st_mode & 0o777 == 0o644
    assert {"config.json", "tokenizer.json", "generation_config.json", "README.md"} < {p.name for p in saved.iterdir()}


# A plugin is missing.


def test_a_missing_plugin_is_named_with_its_install_command(saved):
    change(saved / "config.json", versions={"imu": "1.2.3"})
    with pytest.raises(MissingPluginError, match=r"'imu/linear'.*pip install anyany-imu==1\.2\.3.*missing='drop'"):
        load(saved, Registry.isolated())


def test_a_component_may_be_dropped(saved, plugins):
    whole, rest = load(saved, plugins), load(saved, Registry.isolated(), missing="drop")
    assert rest.takes == rest.emits == ("text",)
    assert torch.equal(whole.logits(["hello"]), rest.logits(["hello"]))
    with pytest.raises(AnyanyError, match="imu"):
        rest.generate(PROMPT)


def test_an_option_that_is_none(saved, plugins):
    with pytest.raises(CheckpointError, match="'error' or 'drop'"):
        load(saved, plugins, missing="ignore")


@pytest.mark.parametrize("name", ["os/system", "subprocess/run", "anyany.model.model/model", "canary_module/boom"])
def test_loading_imports_nothing_that_a_checkpoint_names(saved, plugins, tmp_path, monkeypatch, name):
    (tmp_path / "canary_module.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    before = set(sys.modules)
    change(saved / "config.json", auto_map={"AutoModel": "canary_module.Model"})
    with pytest.raises(CheckpointError, match="auto_map"):
        load(saved, plugins)
    change(saved / "config.json", auto_map=None, encoders=[{"id": name, "config": {"command": "touch x"}}])
    with pytest.raises(CheckpointError):
        load(saved, plugins)
    assert "canary_module" not in sys.modules
    assert not {m for m in set(sys.modules) - before if m.split(".")[0] in ("canary_module", "subprocess")}


@pytest.mark.parametrize("name", ["x; rm -rf ~/y", "x\n/y", "../y", "x", "X/Y", 3, None, ["a"], "a/b/c", "$(id)/z"])
def test_no_install_command_is_made_of_what_is_no_id(saved, plugins, name):
    change(saved / "config.json", decoders=[{"id": name}])
    with pytest.raises(CheckpointError, match="expected an id") as caught:
        load(saved, plugins)
    assert "pip install" not in str(caught.value)


# Shards.


def flip(data: bytes) -> bytes:
    return data[:9] + bytes([data[9] ^ 0xFF]) + data[10:]


DAMAGE = {
    "empty": lambda d: b"",
    "four bytes short": lambda d: d[:-4],
    "half": lambda d: d[: len(d) // 2],
    "trailing bytes": lambda d: d + b"1234",
    "header flipped": flip,
    "header of 1e18 bytes": lambda d: struct.pack("<Q", 10**18) + d[8:],
    "zip": lambda d: b"PK\x03\x04" + d,
}


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("shard", SHARDS)
def test_a_damaged_shard_is_named(saved, plugins, shard, damage):
    file = saved / f"{shard}.safetensors"
    file.write_bytes(DAMAGE[damage](file.read_bytes()))
    with pytest.raises(CheckpointError, match=file.name):
        load(saved, plugins)


@pytest.mark.parametrize("shard", SHARDS)
def test_a_missing_shard_is_named(saved, plugins, shard):
    (saved / f"{shard}.safetensors").unlink()
    with pytest.raises(CheckpointError, match=rf"{shard}\.safetensors is missing"):
        load(saved, plugins)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda t: t.pop("norm.weight"), r"lacks the tensor 'norm\.weight'"),
        (lambda t: t.update(extra=torch.zeros(2)), "has the tensor 'extra'"),
        (lambda t: t.update({"norm.weight": torch.zeros(5)}), r"shape \(5,\), the config says \(32,\)"),
        (lambda t: t.update({"norm.weight": torch.zeros(32, dtype=torch.int64)}), "torch.int64"),
    ],
)
def test_tensors_must_fit_the_config(saved, plugins, edit, message):
    file = saved / "backbone.safetensors"
    tensors = load_file(file)
    edit(tensors)
    save_file(tensors, file)
    with pytest.raises(CheckpointError, match=message):
        load(saved, plugins)


def test_shards_that_were_swapped(saved, plugins):
    a, b = saved / "backbone.safetensors", saved / "text.safetensors"
    a_data, b_data = a.read_bytes(), b.read_bytes()
    a.write_bytes(b_data)
    b.write_bytes(a_data)
    with pytest.raises(CheckpointError):
        load(saved, plugins)


# JSON.


@pytest.mark.parametrize("name", ["config.json", "generation_config.json", "tokenizer.json"])
@pytest.mark.parametrize("text", ["", "{", "[]", "3", "null", "\xff\xfe", "[" * 20000, '{"a": 1}\x00'])
def test_damaged_json_is_a_typed_error(saved, plugins, name, text):
    (saved / name).write_text(text, encoding="latin-1")
    with pytest.raises(CheckpointError):
        load(saved, plugins)


@pytest.mark.parametrize("name", ["config.json", "generation_config.json", "tokenizer.json"])
def test_a_missing_file_is_named(saved, plugins, name):
    (saved / name).unlink()
    with pytest.raises(CheckpointError, match=name):
        load(saved, plugins)


@pytest.mark.parametrize(
    "changed",
    [
        {"format": 2}, {"format": None}, {"format": "1"}, {"surprise": 1}, {"backbone": None}, {"text": None},
        {"backbone": []}, {"text": "mini"}, {"encoders": {}}, {"decoders": "all"}, {"versions": []},
        {"encoders": [3]}, {"encoders": [{}]}, {"decoders": [{"id": "imu/signs", "unknown": 1}]},
        {"decoders": [{"id": "imu/signs", "config": {"kind": "codes", "colour": 3}}]},
        {"decoders": [{"id": "imu/signs", "head": {"inner": -5, "odd": 1}}]},
        {"text": {"vocab": 305, "tied": True}}, {"text": {"vocab": "many", "marks": {}}},
        {"text": {"vocab": 10, "tied": True, "marks": {}}}, {"text": {"vocab": 305, "marks": {"bos": 9999}}},
        {"text": {"vocab": 305, "marks": {"emperor": 1}}}, {"backbone": {"width": 32}},
        {"backbone": {"width": "32", "layers": 2, "heads": 4}}, {"backbone": {"width": 32, "layers": 2, "heads": 0}},
        {"backbone": {"width": -1, "layers": 2, "heads": 4}}, {"backbone": {"width": 32, "layerz": 2, "heads": 4}},
        {"backbone": {"width": 10**9, "layers": 2, "heads": 4}},
        {"backbone": {"width": 32, "layers": 10**9, "heads": 4}},
        {"backbone": {"width": 32, "layers": 2, "heads": 4, "hidden": 10**9}},
        {"backbone": {"width": 32, "layers": 2, "heads": 4, "head_dim": 10**9}},
        {"text": {"vocab": 10**12, "tied": True, "marks": {}}},
    ],
    ids=str,
)  # fmt: skip
def test_a_config_that_describes_no_model_is_a_typed_error(saved, plugins, changed):
    change(saved / "config.json", **changed)
    with pytest.raises(CheckpointError):
        load(saved, plugins)


@pytest.mark.parametrize(
    "generation",
    [{"text": 5}, {"text": {"temperature": "hot"}}, {"text": {"colour": 1}}, {"imu": {"steps": 0}}],
)
def test_sampling_values_are_checked_when_they_are_read(saved, plugins, generation):
    (saved / "generation_config.json").write_text(json.dumps(generation))
    with pytest.raises(CheckpointError):
        load(saved, plugins)


def test_a_damaged_card_spoils_nothing(saved, plugins):
    (saved / "README.md").write_bytes(b"\xff\xfe card")
    assert load(saved, plugins).card.endswith("card")


@pytest.mark.parametrize("files", [[], ["pytorch_model.bin"], ["model.pt"]])
def test_a_folder_that_is_no_checkpoint(tmp_path, plugins, files):
    for name in files:
        (tmp_path / name).write_bytes(b"\x80\x04cos\nsystem\n.")
    with pytest.raises(CheckpointError, match=r"config\.json"):
        load(tmp_path, plugins)
    with pytest.raises(CheckpointError, match="nothing at"):
        load(tmp_path / "nowhere", plugins)


# Writing.


@pytest.mark.parametrize("call", [1, 3])
def test_a_failure_in_the_middle_leaves_the_old_checkpoint_whole(saved, plugins, make_model, monkeypatch, call):
    before = snapshot(saved)
    count = iter(range(1, 100))
    plain = checkpoint.save_file

    def fails(*args, **kwargs):
        if next(count) == call:
            raise OSError(28, "No space left on device")
        return plain(*args, **kwargs)

    monkeypatch.setattr(checkpoint, "save_file", fails)
    with pytest.raises(CheckpointError, match="No space"):
        make_model(kind="flow", rows=4).save(saved)
    assert snapshot(saved) == before
    assert [p.name for p in saved.parent.iterdir()] == [saved.name]  # nothing temporary is left
    load(saved, plugins)


def test_a_failing_rename_brings_the_old_checkpoint_back(saved, make_model, monkeypatch):
    before = snapshot(saved)
    plain = Path.rename

    def rename(self, target):
        if Path(target) == saved and ".old-" not in self.name:
            raise PermissionError(13, "refused")
        return plain(self, target)

    monkeypatch.setattr(Path, "rename", rename)
    with pytest.raises(CheckpointError, match=r"cannot be written .*refused"):
        make_model().save(saved)
    monkeypatch.undo()
    assert snapshot(saved) == before
    assert [p.name for p in saved.parent.iterdir()] == [saved.name]


def test_a_checkpoint_is_replaced_as_a_whole(saved, plugins, make_model):
    other = make_model(modality=False)
    other.save(saved)
    assert not (saved / "head-imu-signs.safetensors").exists()  # nothing of the old one is left behind
    assert torch.equal(load(saved, plugins).logits(["one"]), other.logits(["one"]))
    assert [p.name for p in saved.parent.iterdir()] == [saved.name]


FOREIGN = {
    "notes": {"notes.txt": "mine"},
    "another library's model": {"config.json": '{"model_type": "llama"}', "model.safetensors": "x"},
    "a project with a config": {"config.json": '{"name": "site"}', "index.html": "x"},
    "a config that is no JSON": {"config.json": "{{{", "data.csv": "1"},
}


@pytest.mark.parametrize("kind", FOREIGN)
def test_a_foreign_directory_is_never_replaced(make_model, tmp_path, kind):
    folder = tmp_path / "folder"
    folder.mkdir()
    for name, text in FOREIGN[kind].items():
        (folder / name).write_text(text)
    before = snapshot(folder)
    with pytest.raises(CheckpointError, match="choose another"):
        make_model().save(folder)
    assert snapshot(folder) == before


def test_a_file_is_never_replaced(make_model, tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(CheckpointError, match="choose another"):
        make_model().save(tmp_path / "file")
    assert (tmp_path / "file").read_text() == "mine"


def test_an_empty_or_a_deep_new_directory_will_do(make_model, plugins, tmp_path, monkeypatch):
    (tmp_path / "empty").mkdir()
    model = make_model()
    model.save(tmp_path / "empty")
    model.save(tmp_path / "a" / "b" / "c")
    monkeypatch.chdir(tmp_path)
    model.save("relative")
    for name in ("empty", "a/b/c", "relative"):
        load(tmp_path / name, plugins)


def test_a_checkpoint_can_be_moved(saved, plugins, tmp_path):
    expected = load(saved, plugins).logits(PROMPT)
    shutil.move(saved, tmp_path / "elsewhere")
    assert torch.equal(load(tmp_path / "elsewhere", plugins).logits(PROMPT), expected)


@pytest.mark.slow
def test_another_process_reads_the_same(make_model, tmp_path):
    model = make_model(modality=False)
    model.save(tmp_path / "m")
    code = (
        "import sys, anyany; m = anyany.load(sys.argv[1], device='cpu');"
        "print(repr(m.generate(['hello'], want=['text'], max_new_tokens=6, temperature=0.0).text))"
    )
    out = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "m")], capture_output=True, text=True, timeout=120, check=True
    )
    mine = model.generate(["hello"], want=["text"], max_new_tokens=6, temperature=0.0).text
    assert out.stdout.strip() == repr(mine)
