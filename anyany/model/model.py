"""The model: a backbone, a text head, and whatever encoders and decoders were composed with them.

Shapes: T rows, D model width, V text vocabulary with role marks, M emitting modalities.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from anyany.backbone import Backbone
from anyany.backbone.memory_order import order_by_rows
from anyany.engine import Emitter, Event, Opening
from anyany.heads.base import Head
from anyany.heads.text import TextHead, TextPicker
from anyany.model import assembly, opening, running, scoring
from anyany.model.adapters import Adapters
from anyany.model.caches import Caches
from anyany.model.document import Document, Planner
from anyany.model.projector import Projector
from anyany.model.reply import Reply
from anyany.model.spelling import Stand
from anyany.model.tokenizer import TextTokenizer
from anyany.parts import Media
from anyany.plugin.components import Codec, Encoder
from anyany.plugin.specs import CodecSpec, EncoderSpec
from anyany.sequence import Layout


@dataclass(frozen=True)
class EncoderPart:
    """An encoder in a model.

    Attributes:
        spec: Of the encoder.
        config: It was built with.
        encoder: The component.
        projector: Brings its features to the width of the backbone.
        projector_config: The kind of projector, and its options.
        stand: What stands for a part in a text, for models of others.
    """

    spec: EncoderSpec
    config: Mapping[str, Any]
    encoder: Encoder
    projector: Projector
    projector_config: Mapping[str, Any]
    stand: Stand | None = None

    @property
    def name(self) -> str:
        """Id of the encoder."""
        return self.spec.id


@dataclass(frozen=True)
class DecoderPart:
    """A codec and its head in a model."""

    spec: CodecSpec
    config: Mapping[str, Any]
    codec: Codec
    head: Head
    head_config: Mapping[str, Any]

    @property
    def name(self) -> str:
        """Id of the codec."""
        return self.spec.id


class Model(nn.Module):
    """An any-to-any model. Build one with ``anyany.load`` or ``anyany.compose``.

    ``components`` holds everything that has weights, by name: ``backbone``, ``text``,
    ``encoder/<id>``, ``projector/<id>``, ``codec/<id>``, ``head/<id>``; each is one shard of a
    checkpoint, and one line of a recipe. ``adapters`` are LoRA beside them, ``caches`` what is kept between requests.
    """

    def __init__(
        self,
        backbone: Backbone,
        text: TextHead,
        tokenizer: TextTokenizer,
        encoders: Sequence[EncoderPart] = (),
        decoders: Sequence[DecoderPart] = (),
        *,
        generation: Mapping[str, Mapping[str, Any]] | None = None,
        card: str = "",
        origin: Mapping[str, Any] | None = None,
        origin_files: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.tokenizer = tokenizer
        self.encoder_parts, self.decoders = tuple(encoders), tuple(decoders)
        self.generation = dict(generation or {})
        self.card = card
        self.origin = dict(origin or {})  # the foreign config.json that it was read from, for the way back
        self.origin_files = dict(origin_files or {})  # and the files beside it that say how media are prepared
        parts: dict[str, nn.Module] = {"backbone": backbone, "text": text}
        for e in encoders:
            parts[f"encoder/{e.name}"], parts[f"projector/{e.name}"] = e.encoder, e.projector  # type: ignore[assignment]
        for d in decoders:
            parts[f"codec/{d.name}"], parts[f"head/{d.name}"] = d.codec, d.head  # type: ignore[assignment]
        self.components = nn.ModuleDict(parts)
        # Text is left out: its loss reads the matrix of the logits, and would pass an adapter on it over.
        self.adapters = Adapters({name: part for name, part in parts.items() if name != "text"})
        self.encoders = {e.name: e.encoder for e in encoders}
        self.projectors = {e.name: e.projector for e in encoders}
        self.codecs = {d.name: d.codec for d in decoders}
        self.heads = {d.name: d.head for d in decoders}
        # What runs over the items of a batch, by component; a run may put a reader of stored rows in its place.
        self.producers: dict[str, assembly.Producer] = {f"encoder/{e.name}": e.encoder for e in encoders}
        self.producers |= {f"codec/{d.name}": d.codec.encode for d in decoders}
        self.caches = Caches()
        self.planner = Planner(
            tokenizer,
            {e.spec.modality: (e.name, e.encoder, e.projector) for e in encoders},
            {d.spec.modality: (d.name, d.codec) for d in decoders},
            frozenset(d.name for d in decoders if d.head.denoises),
            {e.spec.modality: e.stand for e in encoders if e.stand is not None},
        )

    @property
    def backbone(self) -> Backbone:
        """The decoder-only stack."""
        return self.components["backbone"]  # type: ignore[return-value]

    @property
    def text(self) -> TextHead:
        """Token embedding and logits."""
        return self.components["text"]  # type: ignore[return-value]

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.text.embedding.weight.device

    @property
    def takes(self) -> tuple[str, ...]:
        """Modalities that may stand in a prompt."""
        return ("text", *dict.fromkeys([*self.planner.encoders, *self.planner.codecs]))

    @property
    def emits(self) -> tuple[str, ...]:
        """Modalities that may stand in a reply."""
        return ("text", *(d.spec.modality for d in self.decoders))

    def calls(self) -> Tensor:
        """Logit rows of the begin marks ``(M, D)``, one of each emitting modality."""
        if not self.decoders:
            return torch.empty(0, self.text.width, device=self.device)
        return torch.stack([d.head.call for d in self.decoders])

    def matrices(self) -> Iterator[Tensor]:
        """Weights ``(outputs, inputs)`` that a decoded row is multiplied with."""
        yield from self.step_matrices()
        for head in self.heads.values():
            yield from _projections(head)

    def step_matrices(self) -> Iterator[Tensor]:
        """Those of backbone and text, which the native library reads where it is used."""
        yield from _projections(self.backbone)
        yield from _projections(self.text)
        if self.text.output is None:
            yield self.text.embedding.weight

    # Training.

    def train(self, mode: bool = True) -> Model:
        """As of any module, but components of which nothing trains stay in eval mode: they neither drop nor count.

        Matrices that generation has ordered for itself go back to rows.
        """
        if mode:
            order_by_rows(self.matrices())
        super().train(mode)
        for component in self.components.values():
            if not any(parameter.requires_grad for parameter in component.parameters()):
                component.eval()
        return self

    def forward(self, documents: Sequence[Document], draw: torch.Generator | None = None) -> dict[str, Any]:
        """Losses of a packed batch of documents that were planned with ``train=True``.

        Args:
            documents: Packed one behind the other.
            draw: Noise for denoising heads.

        Returns:
            ``HeadLoss`` by head: ``text`` and codec ids.
        """
        pieces = assembly.placed(documents)
        embedded = assembly.embed(self, pieces, draw)
        layout = Layout.pack([d.spans for d in documents], self.backbone.scheme)
        hidden = self.backbone(embedded.rows, layout.coordinates, layout.intervals)  # (T, D)
        return assembly.losses(self, pieces, embedded, hidden)

    # Generation.

    def generate(self, prompt: Any, *, seed: int = 0, **options: Any) -> Reply:
        """Answer one interleaved prompt.

        Args:
            prompt: A string, a media part, a list of parts, or chat messages.
            seed: Seeds every draw.
            **options: ``want``, ``allow``, ``max_new_tokens``, ``budgets``, ``max_parts``, ``stop``,
                ``temperature``, ``top_k``, ``top_p``, ``repetition_penalty``, ``guidance``, ``steps``,
                ``do_sample``, ``adapter``. A sampling value is a number, or a mapping from modality to number.

        Raises:
            AnyanyError: A typed error that names the part or option at fault.
        """
        return self.generate_batch([prompt], seed=seed, **options)[0]

    def generate_batch(
        self, prompts: Sequence[Any], *, seed: int = 0, errors: str = "raise", **options: Any
    ) -> list[Any]:
        """Answer many prompts at once; request i has the seed ``seed + i``.

        Args:
            prompts: As for ``generate``.
            seed: Of the first request.
            errors: ``raise`` a wrong prompt or option at once and the first error of a request when all are
                done, or ``return`` each in place of its reply.
            **options: As for ``generate``; ``adapter`` may be a list, one name for each prompt. ``cache_rows``
                and ``max_live`` bound the cache and the batch.
        """
        return running.generate_batch(self, prompts, seed=seed, errors=errors, options=options)

    def stream(self, prompt: Any, *, seed: int = 0, **options: Any) -> Iterator[Event]:
        """Events as they happen; closing the iterator cancels the request."""
        return running.stream(self, prompt, seed=seed, options=options)

    def stream_async(self, prompt: Any, *, seed: int = 0, **options: Any) -> AsyncIterator[Event]:
        """``stream`` for asyncio: the steps run in a thread."""
        return running.stream_async(self, prompt, seed=seed, options=options)

    # Reading without generating.

    def logits(self, prompt: Any) -> Tensor:
        """Text logits ``(T, V)`` of every row of a prompt."""
        return scoring.logits(self, prompt)

    def embed(self, part: str | Media) -> Tensor:
        """One vector ``(D,)`` of a part, in the shared space: the mean of its hidden states."""
        return scoring.embed(self, part)

    def score(self, prompt: Any, reply: Any) -> list[float]:
        """Log-probability of each part of a reply, given the prompt.

        Exact for text and codes; for vectors the negative loss of the head stands in for it.
        """
        return scoring.score(self, prompt, reply)

    def save(self, path: str | Path) -> None:
        """Write a checkpoint directory, atomically."""
        from anyany.model.checkpoint import save

        save(self, Path(path))

    def save_pretrained(self, path: str | Path) -> None:
        """The same as ``save``, under the name that people know."""
        self.save(path)

    def save_huggingface(self, path: str | Path) -> None:
        """Write the language model back in the Hugging Face form that it was read from, atomically.

        Raises:
            CheckpointError: It was not read from one, holds more than text, or ``path`` holds something else.
        """
        from anyany.importers.export import save_huggingface

        save_huggingface(self, Path(path))

    @classmethod
    def from_pretrained(cls, path: str | Path = "mini", **options: Any) -> Model:
        """The same as ``anyany.load``, under the name that people know."""
        from anyany.model.compose import load

        return load(path, **options)

    def save_adapter(self, name: str, path: str | Path) -> None:
        """Write an adapter in the form of PEFT, atomically."""
        from anyany.model.adapter_files import save_adapter

        save_adapter(self.adapters, name, Path(path))

    def load_adapter(self, path: str | Path, name: str = "default") -> None:
        """Read an adapter in the form of PEFT; ``adapters.use(name)`` or a request's ``adapter=name`` puts it to use.

        Raises:
            AdapterError: It belongs to another base, is damaged, or the name is taken.
        """
        from anyany.model.adapter_files import load_adapter

        load_adapter(self.adapters, name, Path(path))

    def host(self, rows: int | None = None) -> Host:
        """The model as conversations see it; ``rows`` is the most that a prompt may have."""
        return Host(self, rows)

    def summary(self) -> list[tuple[str, int]]:
        """Name and number of parameters of each component."""
        return [(name, sum(p.numel() for p in c.parameters())) for name, c in self.components.items()]


def _projections(part: nn.Module) -> Iterator[Tensor]:
    return (module.weight for module in part.modules() if isinstance(module, nn.Linear))


class Host:
    """A model as conversations see it; made per batch, so that weights may change between batches."""

    def __init__(self, model: Model, rows: int | None = None) -> None:
        marks = model.tokenizer.marks
        self.model, self.rows = model, rows
        self.picker = TextPicker(model.text, model.calls().detach())
        self.emitters = [
            Emitter(d.spec.modality, d.codec, d.head, d.spec.can.streaming, d.spec.can.quantiles)
            for d in model.decoders
        ]
        self.ends = marks.ends
        self.tokens = model.tokenizer.vocab
        self.scheme = model.backbone.scheme
        self._bare = [i for i in (marks.bos, marks.assistant) if i is not None]

    def plan_reply(self, messages: Any) -> opening.PlannedReply:
        """Plan a prompt, with the reply opened."""
        return opening.plan_reply(self.model, messages, self.rows)

    def open_replies(self, prompts: Sequence[tuple[Any, int]]) -> Sequence[Opening]:
        """Rows of each prompt, without so many of its first rows."""
        return opening.open_replies(self.model, prompts)

    def embed_ids(self, ids: Tensor) -> Tensor:
        """Token ids ``(n,)`` -> rows ``(n, D)``."""
        return self.model.text.embed(ids)

    def bare(self) -> Tensor:
        """Rows of an opened reply without a prompt."""
        return self.model.text.embed(torch.tensor(self._bare, device=self.model.device))

    def text_stream(self) -> Any:
        """A decoder of token ids, one at a time."""
        return _TokenStream(self.model.tokenizer)


class _TokenStream:
    def __init__(self, tokenizer: TextTokenizer) -> None:
        self.tokenizer, self.decoder = tokenizer, tokenizer.stream()

    def step(self, token: int) -> str | None:
        return self.decoder.step(self.tokenizer.backend, token)
