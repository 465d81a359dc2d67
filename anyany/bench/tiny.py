"""The default model, streamed, against the same weights run by transformers: it has the shape of Qwen3.

Its replies are a word or two; so that both have something to say, neither side can pick a mark.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from functools import cache, partial
from itertools import islice
from typing import Any

import torch

from anyany.bench.measure import Figure, quartiles, rounds_of
from anyany.engine import TextDelta
from anyany.errors import AnyanyError, MissingPackageError
from anyany.importers.llama import TOP, names
from anyany.model import Caches, Model, load
from anyany.model.model import Host
from anyany.parts.messages import as_messages

PROMPT, NEW = "What is three plus four? Say it in words, then say it once more.", 64


def first(rounds: int) -> Figure:
    """Time to the first token of a streamed reply."""
    _, (ours, theirs) = _calls(NEW), _calls(1)
    return Figure(
        id="tiny-first",
        what="time to the first token of mini, streamed, float32",
        quartiles=quartiles([slow / fast for fast, slow in rounds_of((ours, theirs), rounds)]),
        peer="transformers generate",
        goal=3.0,
    )


def tokens(rounds: int) -> Figure:
    """Tokens a second behind the first."""
    (ours, theirs), (ours_short, theirs_short) = _calls(NEW), _calls(1)
    times = rounds_of((ours, ours_short, theirs, theirs_short), rounds)
    return Figure(
        id="tiny-tokens",
        what=f"tokens a second of mini, streamed, {NEW} of them, float32",
        quartiles=quartiles([(slow - begun) / (fast - start) for fast, start, slow, begun in times]),
        peer="transformers generate",
        goal=3.0,
    )


@cache
def pair() -> tuple[Model, Any]:
    """Mini, and a ``Qwen3ForCausalLM`` of its weights.

    Raises:
        MissingPackageError: transformers is not installed.
        AnyanyError: They do not say the same.
    """
    model = load(device="cpu", caches=Caches(features=0, prefixes=0))  # a prompt that is asked again is read again
    model.host = partial(_Endless, model)
    theirs = _qwen(model)
    ours, made = _stream(model, NEW), model.tokenizer.backend.decode(_generate(model, theirs, NEW))
    if ours != made:
        raise AnyanyError(f"tiny: the replies differ, so that speed says nothing: {ours!r} against {made!r}")
    return model, theirs


def _calls(new: int) -> tuple[Callable[[], object], Callable[[], object]]:
    model, theirs = pair()
    return lambda: _stream(model, new), lambda: _generate(model, theirs, new)


class _Endless(Host):
    """A model whose replies no mark ends."""

    def __init__(self, model: Model, rows: int | None = None) -> None:
        super().__init__(model, rows)
        self.ends = frozenset()


def _stream(model: Model, new: int) -> str:
    """The first so many tokens, as they come; then the request is closed."""
    events = model.stream(PROMPT, allow=["text"], max_parts=1, max_new_tokens=new + 1, temperature=0.0)
    with closing(events):
        return "".join(islice((event.text for event in events if isinstance(event, TextDelta)), new))


def _generate(model: Model, theirs: Any, new: int) -> list[int]:
    document = model.planner.plan(as_messages(PROMPT), reply=True)
    ids = torch.tensor([[i for piece in document.pieces for i in piece.ids]])
    made = theirs.generate(
        ids, attention_mask=torch.ones_like(ids), max_new_tokens=new, do_sample=False, eos_token_id=None,
        pad_token_id=0,
    )  # fmt: skip
    return made[0, ids.shape[1] :].tolist()


def _qwen(model: Model) -> Any:
    """The backbone and text of mini in transformers; what the importer joins is taken apart again."""
    try:
        from transformers import Qwen3Config, Qwen3ForCausalLM
    except ImportError:
        raise MissingPackageError(
            "bench: transformers is the peer, and is not installed. Try: pip install 'anyany[hf]'"
        ) from None
    config = model.backbone.config
    width = config.head_dim or config.width // config.heads
    theirs = Qwen3ForCausalLM(
        Qwen3Config(
            vocab_size=model.text.vocab, hidden_size=config.width, num_hidden_layers=config.layers,
            num_attention_heads=config.heads, num_key_value_heads=config.kv_heads, head_dim=width,
            intermediate_size=config.hidden, rms_norm_eps=config.norm_eps, tie_word_embeddings=model.text.tied,
            rope_parameters={"rope_type": "default", "rope_theta": config.theta}, max_position_embeddings=4096,
        )
    ).eval()  # fmt: skip
    sizes = {"mixer.qkv": [config.heads * width, config.kv_heads * width, config.kv_heads * width]}
    state = {f"{TOP[name]}.weight": weight for name, weight in (
        ("backbone.norm", model.backbone.norm.weight), ("text.embedding", model.text.embedding.weight),
    )}  # fmt: skip
    for number, block in enumerate(model.backbone.blocks):
        for ours, group in names().block.items():
            weight = block.get_submodule(ours).weight.detach()
            parts = weight.split(sizes.get(ours, len(weight) // len(group)))
            state |= {f"model.layers.{number}.{name}.weight": p for name, p in zip(group, parts, strict=True)}
    theirs.load_state_dict(state, strict=False)
    theirs.tie_weights()
    theirs.lm_head = torch.nn.Linear(config.width, model.tokenizer.vocab, bias=False)  # without the rows of marks
    theirs.lm_head.weight = torch.nn.Parameter(model.text.embedding.weight.detach()[: model.tokenizer.vocab])
    return theirs
