"""Chat messages in the form of Hugging Face, with media in every way that it has."""

from __future__ import annotations

import base64

import numpy as np
import pytest

from anyany.errors import EmptyMediaError, MediaDecodeError, MediaTooLargeError, PromptError
from anyany.parts import Image, as_messages


def chat(**item: object) -> list:
    return [{"role": "user", "content": ["look: ", item]}]


def test_chat_items_hold_media_pictures_files_and_base64(tmp_path):
    pillow = pytest.importorskip("PIL.Image")
    picture = Image(np.arange(60, dtype=np.uint8).reshape(4, 5, 3))
    path = picture.save(tmp_path / "x.png")
    text = base64.b64encode(path.read_bytes()).decode()
    for item in (
        {"image": picture}, {"image": pillow.fromarray(picture.pixels)}, {"path": str(path)}, {"base64": text},
        {"bytes": path.read_bytes()},
        {"url": f"data:image/png;base64,{text}"}, {"url": f"data:audio/wav;base64,{text}"},
    ):  # fmt: skip
        assert as_messages(chat(type="image", **item))[0].parts == ("look: ", picture)


@pytest.mark.parametrize(
    ("item", "error", "said"),
    [
        ({"url": "https://127.0.0.1/x.png"}, PromptError, "nothing is fetched"),
        ({"url": "file:///etc/passwd"}, PromptError, "nothing is fetched"),
        ({"image": "x.png"}, PromptError, "a file as 'path'"), ({}, PromptError, "a file as 'path'"),
        ({"image_url": {"url": "data:image/png;base64,AAAA"}}, PromptError, "'path', 'bytes' or 'base64'"),
        ({"base64": "iVBORw0K Ggo="}, MediaDecodeError, "no blanks"),
        ({"base64": "iVBO\nRw0K"}, MediaDecodeError, "no blanks"),
        ({"base64": "iVBORw0"}, MediaDecodeError, "padding"), ({"base64": ""}, EmptyMediaError, "no bytes"),
        ({"url": "data:image/png,AAAA"}, MediaDecodeError, "data:<type>;base64"),
        ({"url": "data:"}, MediaDecodeError, "data:"),
        ({"base64": "A" * 45_000_000}, MediaTooLargeError, "33554432 bytes"),
        ({"base64": "A" * 45_000_000 + " "}, MediaTooLargeError, "33554432 bytes"),  # before it is decoded
        ({"path": "nowhere.png"}, MediaDecodeError, "cannot read the file"),
    ],
    ids=lambda x: str(x)[:50],
)  # fmt: skip
def test_chat_items_that_cannot_be_read_name_the_part_and_the_way_out(item, error, said):
    with pytest.raises(error) as caught:
        as_messages(chat(type="image", **item))
    assert str(caught.value).startswith("message 0, part 1: ")
    assert said in str(caught.value)


def test_a_pillow_picture_in_a_list_is_met_with_its_wrapper():
    pillow = pytest.importorskip("PIL.Image")
    with pytest.raises(PromptError, match=r"part 1: .*Image.from_pil"):
        as_messages(["look: ", pillow.new("RGB", (2, 2))])
