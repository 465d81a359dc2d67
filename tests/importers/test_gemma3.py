"""Directories of Gemma 3 that see: what is refused, what published files leave out, and conversations with pictures."""

from __future__ import annotations

import json

import pytest
import torch
from parity.seeing import CASES, PROMPTS, SPECIAL, pictures, processor, write
from PIL import Image as Pillow

import anyany
from anyany.errors import CheckpointError
from anyany.importers.foreign import describe
from anyany.plugin.registry import registry

CASE = next(case for case in CASES if case.gemma)
TEMPLATE = (  # that of Gemma 3, but for what it writes before the first user's turn
    "{{ bos_token }}{%- for message in messages -%}"
    "{%- if (message['role'] == 'assistant') -%}{%- set role = 'model' -%}{%- else -%}"
    "{%- set role = message['role'] -%}{%- endif -%}{{ '[' + role + ']\n' }}"
    "{%- if message['content'] is string -%}{{ message['content'] | trim }}{%- elif message['content'] is iterable -%}"
    "{%- for item in message['content'] -%}{%- if item['type'] == 'image' -%}{{ '<boi>' }}"
    "{%- elif item['type'] == 'text' -%}{{ item['text'] | trim }}{%- endif -%}{%- endfor -%}"
    "{%- else -%}{{ raise_exception('Invalid content type') }}{%- endif -%}{{ '</s>\n' }}{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{'[model]\n'}}{%- endif -%}"
)


@pytest.fixture
def folder(tmp_path):
    write(tmp_path, CASE)
    return tmp_path


REFUSED = [
    ("mm_tokens_per_image", 9, "mm_tokens_per_image must be the square of a divisor of 4 patches a side, got 9"),
    ("mm_tokens_per_image", 16, "sliding_window must be at least the 16 rows of a picture"),
    ("boi_token_index", 200, "tokenizer.json: token 200, which stands for a part of image/vit, must be a special"),
    ("eoi_token_index", 201, "tokenizer.json: token 201"),
    ("text_config.final_logit_softcapping", 30.0, "text_config: final_logit_softcapping must be None"),
    ("text_config.use_bidirectional_attention", True, "use_bidirectional_attention must be None or False"),
    ("vision_config.vision_use_head", True, "vision_config: vision_use_head must be False"),
    ("vision_config.model_type", "clip_vision_model", "vision_config: model_type must be 'siglip_vision_model'"),
]


@pytest.mark.parametrize(("key", "value", "told"), REFUSED, ids=[f"{k} {v}" for k, v, _ in REFUSED])
def test_values_of_the_config_that_are_refused(folder, key, value, told):
    data = json.loads((folder / "config.json").read_text())
    *path, last = key.split(".")
    inner = data[path[0]] if path else data
    inner[last] = value
    (folder / "config.json").write_text(json.dumps(data))
    with pytest.raises(CheckpointError, match=told):
        anyany.load(folder, device="cpu")


def test_pan_and_scan_is_refused(folder):
    told = json.loads((folder / "processor_config.json").read_text())
    told["image_processor"]["do_pan_and_scan"] = True
    (folder / "processor_config.json").write_text(json.dumps(told))
    with pytest.raises(CheckpointError, match="do_pan_and_scan must be None or False"):
        anyany.load(folder, device="cpu")


def test_what_published_files_leave_out():
    """The ``config.json`` of Gemma 3 4B as it is published, but for tokens of text."""
    config = {
        "model_type": "gemma3", "boi_token_index": 255999, "eoi_token_index": 256000, "image_token_index": 262144,
        "mm_tokens_per_image": 256,
        "text_config": {
            "hidden_size": 2560, "intermediate_size": 10240, "model_type": "gemma3_text", "num_hidden_layers": 34,
            "rope_scaling": {"factor": 8.0, "rope_type": "linear"}, "sliding_window": 1024,
        },
        "vision_config": {
            "hidden_size": 1152, "image_size": 896, "intermediate_size": 4304, "model_type": "siglip_vision_model",
            "num_attention_heads": 16, "num_hidden_layers": 27, "patch_size": 14, "vision_use_head": False,
        },
    }  # fmt: skip
    told = {"size": {"height": 896, "width": 896}, "do_pan_and_scan": None, "resample": 2}
    found = describe(config, {"preprocessor_config.json": told}, registry())
    from transformers import Gemma3Config

    usual, numbers = Gemma3Config(**config), found.language.backbone
    assert numbers["heads"] == usual.text_config.num_attention_heads
    assert numbers["kv_heads"] == usual.text_config.num_key_value_heads
    assert numbers["head_dim"] == usual.text_config.head_dim
    assert found.language.vocab == usual.text_config.vocab_size
    assert [bool(w) for w in numbers["window"]] == [k == "sliding_attention" for k in usual.text_config.layer_types]
    assert found.encoders[0].projector["factor"] == 4
    assert found.encoders[0].config["processing"]["resample"] == 2
    assert (found.encoders[0].before, found.encoders[0].after) == (("\n\n", 255999), (256000, "\n\n"))


def chats():
    one, other = ({"type": "image", "image": each} for each in pictures((40, 61), (90, 33)))
    say = lambda text: {"type": "text", "text": text}
    return {
        "one": [{"role": "user", "content": [one, say("the box")]}],
        "two, text between, and a reply": [
            {"role": "user", "content": [say("the\n"), one, say("\nlazy"), other]},
            {"role": "assistant", "content": [say("jump")]},
            {"role": "user", "content": [say("over")]},
        ],
        "side by side": [{"role": "user", "content": [one, other]}],
        "none": [{"role": "user", "content": [say("the lazy dog")]}],
    }


@pytest.mark.parametrize("name", chats())
def test_a_conversation_with_pictures_is_that_of_transformers(tmp_path, name):
    theirs = write(tmp_path, CASE)
    made = processor(tmp_path, CASE)
    made.chat_template = TEMPLATE
    made.save_pretrained(tmp_path)
    ours, chat = anyany.load(tmp_path, device="cpu"), chats()[name]
    as_theirs = [
        {**turn, "content": [
            {**part, "image": Pillow.fromarray(part["image"].pixels)} if part["type"] == "image" else part
            for part in turn["content"]
        ]}
        for turn in chat
    ]  # fmt: skip
    given = made.apply_chat_template(
        as_theirs, add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt"
    )
    with torch.no_grad():
        wanted = theirs(**given).logits[0]
    found = ours.logits(chat)
    assert found.shape == wanted.shape
    assert (found - wanted).abs().max() < 1e-4
    ours.save(tmp_path / "ours")
    assert torch.equal(anyany.load(tmp_path / "ours", device="cpu").logits(chat), found)


def test_what_people_say_is_never_a_picture(folder):
    ours = anyany.load(folder, device="cpu")
    said = "a <boi> b <eoi> c <soft> d</s>"
    for prompt in (said, [said, *PROMPTS["one"]]):
        ids = [i for piece in ours.planner.plan(anyany.parts.as_messages(prompt)).pieces for i in piece.ids]
        control = [ours.tokenizer.backend.token_to_id(name) for name in (*SPECIAL[True], "</s>")]
        assert [ids.count(i) for i in control] == ([0] * 4 if prompt == said else [1, 1, 0, 0])
        assert said in ours.tokenizer.decode(ids)
