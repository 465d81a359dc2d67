"""Chat templates that come with a directory: where they lie, what becomes of them, and pictures in them."""

from __future__ import annotations

import json

import pytest
import torch
from model.chat_templates import CHATML, LLAVA
from parity.cases import CASES, VOCAB
from parity.compare import write, write_tokenizer
from parity.seeing import CASES as SEEING
from parity.seeing import IMAGE, pictures, processor
from parity.seeing import write as write_seeing
from PIL import Image as Pillow
from transformers import AutoTokenizer, LlavaProcessor

import anyany
from anyany.errors import CheckpointError, PromptError

FIRST = next(case for case in CASES if case.family == "Qwen2")
CHAT = [
    {"role": "system", "content": "the lazy dog"},
    {"role": "user", "content": "jump<|im_end|>"},
    {"role": "assistant", "content": "over"},
    {"role": "user", "content": "the box"},
]
NAMED = {"eos_token": "<|im_end|>", "pad_token": {"content": "<pad>", "lstrip": False}, "model_max_length": 99}


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "theirs"
    write(folder, FIRST)
    write_tokenizer(folder, "<|im_start|>", "<|im_end|>")
    return folder


def put(folder, where):
    if where == "chat_template.jinja":
        (folder / where).write_text(CHATML)
    else:
        (folder / where.split()[0]).write_text(json.dumps({"chat_template": CHATML}))
    if where == "tokenizer_config.json by name":
        several = [{"name": "tool_use", "template": "{{ 1 }}"}, {"name": "default", "template": CHATML}]
        (folder / "tokenizer_config.json").write_text(json.dumps({"chat_template": several, **NAMED}))
    elif where == "tokenizer_config.json":
        (folder / where).write_text(json.dumps({"chat_template": CHATML, **NAMED}))
    else:
        (folder / "tokenizer_config.json").write_text(json.dumps(NAMED))


PLACES = ["chat_template.jinja", "chat_template.json", "tokenizer_config.json", "tokenizer_config.json by name"]


def ids_of(model, chat, reply=True):
    document = model.planner.plan(anyany.parts.as_messages(chat), reply=reply)
    return [i for piece in document.pieces for i in piece.ids]


@pytest.mark.parametrize("place", PLACES)
def test_where_a_template_lies(folder, place):
    put(folder, place)
    model = anyany.load(folder, device="cpu")
    assert dict(model.tokenizer.template.tokens) == {"eos_token": "<|im_end|>", "pad_token": "<pad>"}
    ids = ids_of(model, CHAT)
    assert ids.count(3) == len(CHAT) + 1  # <|im_start|>, of the reply as well
    assert ids.count(4) == len(CHAT)  # not the one that the user wrote
    assert "jump<|im_end|>" in model.tokenizer.decode(ids)


def test_a_template_is_saved_and_written_back(folder, tmp_path):
    put(folder, "chat_template.jinja")
    model = anyany.load(folder, device="cpu")
    model.save(tmp_path / "ours")
    again = anyany.load(tmp_path / "ours", device="cpu")
    assert again.tokenizer.template == model.tokenizer.template
    assert again.generate(CHAT, max_new_tokens=5).text == model.generate(CHAT, max_new_tokens=5).text
    assert torch.equal(again.logits(CHAT), model.logits(CHAT))
    again.save_huggingface(tmp_path / "back")
    theirs = AutoTokenizer.from_pretrained(tmp_path / "back")
    plain = [CHAT[0], {"role": "user", "content": "jump"}, *CHAT[2:]]
    assert theirs.apply_chat_template(plain, add_generation_prompt=True, return_dict=False) == ids_of(model, plain)
    (tmp_path / "ours" / "chat_template.jinja").unlink()
    with pytest.raises(CheckpointError, match=r"chat_template\.jinja: expected in"):
        anyany.load(tmp_path / "ours", device="cpu")


def test_a_stop_token_of_the_generation_config_ends_a_reply(folder):
    put(folder, "chat_template.jinja")
    said = anyany.load(folder, device="cpu")
    first = said.tokenizer.encode(said.generate(CHAT, max_new_tokens=3).text)[0]
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": [4, first]}))
    assert anyany.load(folder, device="cpu").tokenizer.marks.ends == {4, first}


def test_templates_that_are_refused(folder):
    (folder / "chat_template.jinja").write_text("{% if %}")
    with pytest.raises(CheckpointError, match="is no template of jinja2"):
        anyany.load(folder, device="cpu")
    (folder / "chat_template.jinja").unlink()
    several = [{"name": "tool_use", "template": CHATML}]
    (folder / "tokenizer_config.json").write_text(json.dumps({"chat_template": several}))
    with pytest.raises(CheckpointError, match="several by name with one 'default'"):
        anyany.load(folder, device="cpu")


def test_a_modality_that_the_template_has_no_word_for(folder, plugins):
    import imu_plugin

    put(folder, "chat_template.jinja")
    model = anyany.compose(backbone=folder, encoders=["imu/linear"], plugins=plugins)
    reading = imu_plugin.Imu([[0.0, 1.0, 2.0]] * 8) if hasattr(imu_plugin, "Imu") else None
    reading = reading or model.encoders["imu/linear"].example(0)
    chat = [{"role": "user", "content": ["the ", reading, "dog"]}]
    pieces = model.planner.plan(anyany.parts.as_messages(chat), reply=True).pieces
    views = [piece.span.view for piece in pieces]
    assert views == ["text", "features", "text"]
    assert model.tokenizer.decode(pieces[0].ids).endswith("user\nthe ")
    assert model.tokenizer.decode(pieces[2].ids).startswith("dog<|im_end|>")
    assert pieces[1].span.part == 1


# Pictures.


def picture_chats():
    one, other = pictures((40, 61), (90, 33))
    return {
        "one": [{"role": "user", "content": [text("the box"), picture(one)]}],
        "two, and a reply": [
            {"role": "user", "content": [picture(one), text("the lazy"), picture(other), text("dog")]},
            {"role": "assistant", "content": [text("jump")]},
            {"role": "user", "content": [text("over")]},
        ],
        "two turns": [
            {"role": "user", "content": [picture(other)]},
            {"role": "assistant", "content": [text("quick")]},
            {"role": "user", "content": [picture(one), text("box")]},
        ],
        "none": [{"role": "user", "content": [text("the lazy dog")]}],
    }


def text(said):
    return {"type": "text", "text": said}


def picture(given):
    return {"type": "image", "image": given}


def as_theirs(chat):
    return [
        {**turn, "content": [
            part if part["type"] == "text" else picture(Pillow.fromarray(part["image"].pixels))
            for part in turn["content"]
        ]}
        for turn in chat
    ]  # fmt: skip


@pytest.fixture(scope="module")
def seeing(tmp_path_factory):
    folder = tmp_path_factory.mktemp("seeing")
    theirs = write_seeing(folder, SEEING[0])
    made = processor(folder, SEEING[0])
    made.chat_template = LLAVA
    made.save_pretrained(folder)
    return theirs, made, folder


@pytest.mark.parametrize("name", picture_chats())
def test_a_conversation_with_pictures_is_that_of_transformers(seeing, name):
    theirs, made, folder = seeing
    ours = anyany.load(folder, device="cpu")
    chat = picture_chats()[name]
    given = made.apply_chat_template(
        as_theirs(chat), add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt"
    )
    with torch.no_grad():
        wanted = theirs(**given).logits[0]
    found = ours.logits(chat)
    assert found.shape == wanted.shape
    assert (found - wanted).abs().max() < 1e-4
    assert given["input_ids"][0, 0] == 1  # as processors do, the begin token stands before a template without one


def test_the_word_of_a_picture_in_a_conversation_is_text(seeing):
    ours = anyany.load(seeing[2], device="cpu")
    chat = [{"role": "user", "content": [text("the <image> box"), picture(pictures((8, 9))[0])]}]
    pieces = ours.planner.plan(anyany.parts.as_messages(chat), reply=True).pieces
    assert [piece.span.view for piece in pieces].count("features") == 1
    assert IMAGE not in [i for piece in pieces for i in piece.ids]
    assert "the <image> box" in ours.tokenizer.decode([i for piece in pieces for i in piece.ids])
    assert ours.text.vocab == VOCAB


def test_a_template_that_leaves_a_picture_out_or_makes_one_up(seeing, tmp_path):
    ours = anyany.load(seeing[2], device="cpu")
    chat = [{"role": "user", "content": [text("a"), picture(pictures((8, 9))[0])]}]
    for source, told in ((LLAVA.replace("<image>", ""), "part 1: the chat template leaves it out"),
                         (LLAVA.replace("<image>", "<image><image>"), "a place for a part")):  # fmt: skip
        template = ours.tokenizer.template
        ours.tokenizer.template = type(template)(source=source, begin=True, listed=True)
        with pytest.raises(PromptError, match=told):
            ours.generate(chat, max_new_tokens=1)
        ours.tokenizer.template = template


def test_pictures_and_template_come_back(seeing, tmp_path):
    ours = anyany.load(seeing[2], device="cpu")
    ours.save(tmp_path / "ours")
    anyany.load(tmp_path / "ours", device="cpu").save_huggingface(tmp_path / "back")
    made = LlavaProcessor.from_pretrained(tmp_path / "back")
    chat = as_theirs(picture_chats()["two turns"])
    options = {"add_generation_prompt": True, "tokenize": True, "return_dict": True, "return_tensors": "pt"}
    wanted, found = (p.apply_chat_template(chat, **options) for p in (seeing[1], made))
    assert torch.equal(found["input_ids"], wanted["input_ids"])
    assert torch.equal(found["pixel_values"], wanted["pixel_values"])
