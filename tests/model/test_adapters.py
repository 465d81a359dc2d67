"""Adapters of a model: targets, requests that use different ones, merging, and files that PEFT reads too."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from imu_plugin import Imu
from safetensors.torch import load_file, save_file
from torch import nn

from anyany.errors import AdapterError, RequestError
from anyany.parts import Message

IMU = Imu(np.array([[1, -1, 1], [-1, -1, 1], [1, 1, 1]], np.float32))
PROMPT = ["hello", IMU, "world"]
EVERYWHERE = ["backbone", "encoder/", "projector/", "head/"]


def grown(model, name="one", targets=EVERYWHERE, seed=1, **options):
    """An adapter that changes a good deal."""
    torch.manual_seed(seed)
    adapter = model.adapters.add(name, targets, **options)
    for matrix in adapter.up:
        nn.init.normal_(matrix, std=0.1)
    return adapter


def losses(model):
    torch.manual_seed(0)  # heads of flows draw noise
    document = model.planner.plan([Message("user", PROMPT), Message("assistant", (IMU, "one two"))], train=True)
    return {name: term.total for name, term in model([document], torch.Generator().manual_seed(0)).items()}


@pytest.mark.parametrize("kind", ["codes", "books", "regression", "flow", "flow-span"])
def test_gradients_reach_every_matrix_and_no_other(make_model, kind):
    model = make_model(kind=kind)
    model.requires_grad_(False)
    adapter = grown(model)
    adapter.requires_grad_(True)
    model.adapters.use("one")
    sum(losses(model).values()).backward()
    assert len(adapter.layers) > 10
    unreached = [n for (n, *_), d, u in zip(adapter.matrices(), adapter.down, adapter.up, strict=True)
                 if d.grad is None or u.grad is None or not d.grad.any() or not u.grad.any()]  # fmt: skip
    assert not [name for name in unreached if not name.endswith("stop")], unreached
    assert all(p.grad is None for c in model.components.values() for p in c.parameters())


@pytest.mark.parametrize("kind", ["codes", "books", "regression", "flow", "flow-span"])
def test_merged_equals_beside_in_training_and_generation(make_model, kind):
    model = make_model(kind=kind, fixed=kind == "flow-span")
    grown(model)
    options = {"want": ["text", "imu", "text"], "max_new_tokens": 5, "seed": 3}
    plain, base = losses(model), model.generate(PROMPT, **options)
    model.adapters.use("one")
    beside, reply = losses(model), model.generate(PROMPT, **options)
    before = {k: v.clone() for k, v in model.components.state_dict().items()}
    model.adapters.merge("one")
    merged, again = losses(model), model.generate(PROMPT, **options)
    for name in plain:
        torch.testing.assert_close(beside[name], merged[name], rtol=1e-4, atol=1e-4)
        assert not torch.isclose(plain[name], beside[name], rtol=1e-3)
    _alike(reply, again)
    assert _plain(reply) != _plain(base)
    model.adapters.unmerge("one")
    for key, value in model.components.state_dict().items():
        assert torch.equal(value, before[key]), key


def _plain(reply):
    return [part if isinstance(part, str) else part.readings.round(2).tolist() for part in reply.parts]


def _alike(one, other):
    for a, b in zip(one.parts, other.parts, strict=True):
        if isinstance(a, str):
            assert a == b
        else:
            np.testing.assert_allclose(a.readings, b.readings, rtol=1e-3, atol=1e-3)


def test_requests_of_one_batch_use_different_ones(make_model):
    model = make_model()
    grown(model, "one")
    grown(model, "two", ["backbone", "head/imu/signs"], seed=2, rank=3)
    prompts = [PROMPT, ["hello"], PROMPT, PROMPT, [IMU, "what is this?"]]
    names = ["one", "none", "two", None, "two"]
    options = {"want": ["text", "imu"], "max_new_tokens": 6, "guidance": 1.0}
    together = model.generate_batch(prompts, adapter=names, seed=5, **options)
    alone = [
        model.generate(p, adapter=n, seed=5 + i, **options) for i, (p, n) in enumerate(zip(prompts, names, strict=True))
    ]
    assert [_plain(r) for r in together] == [_plain(r) for r in alone]
    assert len({str(_plain(model.generate(PROMPT, adapter=n, seed=5, **options))) for n in ("one", "two", "none")}) == 3
    model.adapters.use("two")
    assert _plain(model.generate(PROMPT, seed=7, **options)) == _plain(together[2])
    assert _plain(model.generate(PROMPT, seed=8, adapter="none", **options)) == _plain(together[3])


def test_without_adapters_the_base_is_what_it_was(make_model):
    model, same = make_model(), make_model()
    grown(model)
    options = {"want": ["text", "imu"], "max_new_tokens": 6}
    assert _plain(model.generate(PROMPT, **options)) == _plain(same.generate(PROMPT, **options))
    assert torch.equal(model.logits(PROMPT), same.logits(PROMPT))
    model.adapters.remove("one")
    assert not any(module._forward_hooks for module in model.modules())


@pytest.mark.parametrize(
    ("targets", "count"),
    [(["backbone"], 8), (["backbone:*.mixer.*"], 4), (["backbone:blocks.0.*"], 4), (["encoder/imu/linear"], 1),
     (["head/", "encoder/"], None), (["backbone", "backbone:*.mixer.qkv"], 8)],
)  # fmt: skip
def test_targets(make_model, targets, count):
    model = make_model()
    layers = model.adapters.add("a", targets).layers
    assert count is None or len(layers) == count
    assert all(any(layer.startswith(t.partition(":")[0]) for t in targets) for layer in layers)


@pytest.mark.parametrize(
    ("target", "told"),
    [("backbon", r"matches no projection; did you mean 'backbone'"), ("backbone:*.attention", "matches no projection"),
     ("text", "matches no projection"), ("", "matches no projection")],
)  # fmt: skip
def test_a_target_that_matches_nothing_is_an_error(make_model, target, told):
    model = make_model()
    with pytest.raises(
        AdapterError, match=f"adapter 'a': the target '{target.replace('*', '.')}' {told}".replace("*", ".")
    ):
        model.adapters.add("a", ["backbone", target])
    assert not any(module._forward_hooks for module in model.modules())


def test_wrong_use(make_model):
    model = make_model()
    grown(model)
    with pytest.raises(AdapterError, match="'ona': the model has no such adapter; did you mean 'one'"):
        model.generate("hello", adapter="ona")
    with pytest.raises(AdapterError, match="there are one"):
        model.adapters.use("another")
    with pytest.raises(AdapterError, match="expected a name without dots that is not taken"):
        model.adapters.add("one", ["backbone"])
    with pytest.raises(AdapterError, match="expected a rank from 1, got 0"):
        model.adapters.add("two", ["backbone"], rank=0)
    with pytest.raises(AdapterError, match="at least one target"):
        model.adapters.add("two", [])
    with pytest.raises(RequestError, match="one name, or one for each of 2 prompts, got 3"):
        model.generate_batch(["a", "b"], adapter=["one"] * 3)
    with pytest.raises(RequestError, match="adapter: expected a name, got 3"):
        model.generate("a", adapter=3)
    with pytest.raises(AdapterError, match="is not merged"):
        model.adapters.unmerge("one")
    model.adapters.merge("one")
    with pytest.raises(AdapterError, match="is merged into the weights, and would count twice"):
        model.generate("hello", adapter="one")


def test_several_merged_come_out_in_any_order(make_model, tmp_path):
    model = make_model()
    before = {k: v.clone() for k, v in model.components.state_dict().items()}
    grown(model, "one", ["backbone"])
    grown(model, "two", ["backbone:*.qkv", "head/imu/signs"], seed=2)
    model.save_adapter("two", tmp_path / "two")
    model.adapters.use("two")
    alone = model.logits(PROMPT)
    model.adapters.merge("one")
    model.adapters.merge("two")
    model.adapters.unmerge("one")
    torch.testing.assert_close(model.logits(PROMPT), alone, rtol=1e-4, atol=1e-4)
    with pytest.raises(AdapterError, match="is merged into the weights"):
        model.adapters.remove("two")
    model.adapters.unmerge("two")
    assert all(torch.equal(v, before[k]) for k, v in model.components.state_dict().items())
    model.load_adapter(tmp_path / "two", "again")  # its base is the same still


# Files.


def test_an_adapter_comes_back_bit_for_bit(make_model, tmp_path):
    model, other = make_model(), make_model()
    grown(model, rank=3, alpha=5.0)
    model.save_adapter("one", tmp_path / "a")
    other.load_adapter(tmp_path / "a", "again")
    options = {"want": ["text", "imu"], "max_new_tokens": 6}
    assert _plain(model.generate(PROMPT, adapter="one", **options)) == _plain(
        other.generate(PROMPT, adapter="again", **options)
    )
    ours, theirs = (
        {name: (down, up) for name, _, down, up in adapter.matrices()}
        for adapter in (model.adapters["one"], other.adapters["again"])
    )
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(a, b) for name in ours for a, b in zip(ours[name], theirs[name], strict=True))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a"]


def test_it_is_portable_across_processes(make_model, tmp_path):
    model = make_model()
    model.save(tmp_path / "base")
    grown(model)
    model.save_adapter("one", tmp_path / "a")
    expected = model.generate(["hello"], adapter="one", want=["text"], max_new_tokens=6).text
    code = (
        "import sys, anyany, imu_plugin\n"
        "from anyany.plugin.registry import Registry\n"
        "plugins = Registry.isolated(); plugins.register(imu_plugin, 'imu')\n"
        f"model = anyany.load({str(tmp_path / 'base')!r}, plugins=plugins)\n"
        f"model.load_adapter({str(tmp_path / 'a')!r}, 'x')\n"
        "print(repr(model.generate(['hello'], adapter='x', want=['text'], max_new_tokens=6).text))\n"
    )
    tests = Path(__file__).parents[1]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tests, check=True)
    assert done.stdout.strip() == repr(expected)


def test_an_adapter_of_another_base_is_refused(make_model, tmp_path):
    model, other = make_model(), make_model()
    grown(model)
    model.save_adapter("one", tmp_path / "a")
    with torch.no_grad():
        other.backbone.blocks[0].mixer.qkv.weight[0, 0] += 1
    with pytest.raises(AdapterError, match="was trained on other weights; load the model that it was trained on"):
        other.load_adapter(tmp_path / "a")
    assert len(other.adapters) == 0
    only = make_model()
    grown(only, "head", ["head/imu/signs"])
    only.save_adapter("head", tmp_path / "b")
    other.load_adapter(tmp_path / "b")  # the head of both is the same, and it touches nothing else


def test_the_type_of_the_weights_makes_no_other_base(make_model, tmp_path):
    model = make_model()
    grown(model)
    model.save_adapter("one", tmp_path / "a")
    make_model().to(torch.bfloat16).load_adapter(tmp_path / "a")


def test_peft_reads_ours_and_we_read_its(make_model, tmp_path):
    peft = pytest.importorskip("peft")
    model = make_model()
    grown(model, rank=4, alpha=6.0)
    model.save_adapter("one", tmp_path / "ours")
    expected = {name: loss.item() for name, loss in _used(model, "one").items()}
    wrapped = peft.PeftModel.from_pretrained(make_model(), tmp_path / "ours")
    theirs = losses(wrapped.base_model.model)
    assert {n: pytest.approx(v.item(), rel=1e-4) for n, v in theirs.items()} == expected

    config = peft.LoraConfig(r=2, lora_alpha=3, target_modules=r"components\.(backbone|head).*\.(qkv|out|inner|outer)")
    made = peft.get_peft_model(make_model(), config)
    for name, parameter in made.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(parameter, std=0.1)
    expected = {name: loss.item() for name, loss in losses(made.base_model.model).items()}
    made.save_pretrained(tmp_path / "theirs")
    ours = make_model()
    ours.load_adapter(tmp_path / "theirs", "theirs")
    assert {n: pytest.approx(v.item(), rel=1e-4) for n, v in _used(ours, "theirs").items()} == expected


def _used(model, name):
    model.adapters.use(name)
    return losses(model)


def _config(change):
    def edit(folder):
        file = folder / "adapter_config.json"
        file.write_text(json.dumps({**json.loads(file.read_text()), **change}))

    return edit


def _tensor(change):
    def edit(folder):
        file = folder / "adapter_model.safetensors"
        save_file(change(load_file(file)), file)

    return edit


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (lambda f: (f / "adapter_config.json").unlink(), "adapter_config.json"),
        (lambda f: (f / "adapter_config.json").write_text("{"), "not readable JSON"),
        (lambda f: (f / "adapter_model.safetensors").unlink(), "has no adapter_model.safetensors"),
        (lambda f: (f / "adapter_model.safetensors").write_bytes(b"pickle"), "is damaged"),
        (_config({"peft_type": "IA3"}), "expected an adapter of the kind LORA, got 'IA3'"),
        (_config({"use_dora": True}), "use_dora = True is not plain LoRA"),
        (_config({"modules_to_save": ["text"]}), "modules_to_save"),
        (_config({"r": "8"}), "expected numbers r >= 1 and lora_alpha, got '8'"),
        (_config({"r": 5}), r"expected 5 rows, as r says, got \(8, \d+\)"),
        (_tensor(lambda t: {}), "is empty"),
        (_tensor(lambda t: {**t, "evil": torch.ones(3)}), "which is not of an adapter of one of our models"),
        (_tensor(lambda t: {k.replace("blocks", "layers"): v for k, v in t.items()}), "that the model does not have"),
        (_tensor(lambda t: {k: v for k, v in t.items() if k != min(t)}), "lora_A of .*: expected .*, got nothing"),
    ],
)  # fmt: skip
def test_a_damaged_adapter_is_refused_and_leaves_nothing(make_model, tmp_path, damage, told):
    model = make_model()
    grown(model, targets=["backbone"])
    model.save_adapter("one", tmp_path / "a")
    damage(tmp_path / "a")
    other = make_model()
    with pytest.raises(AdapterError, match=told):
        other.load_adapter(tmp_path / "a")
    assert len(other.adapters) == 0
    assert not any(module._forward_hooks for module in other.modules())
