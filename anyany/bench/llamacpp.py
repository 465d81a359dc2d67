"""C2: decoding against llama.cpp, which reads the same weights in bfloat16 from a file that is made here."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from functools import cache, partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from anyany.bench.decode import PROMPT, replies
from anyany.bench.measure import Figure, quartiles, rounds_of
from anyany.bench.native import NEW, SIZE
from anyany.bench.twins import prompt, twins
from anyany.errors import AnyanyError, MissingPackageError
from anyany.native import library

if TYPE_CHECKING:
    from torch import Tensor

TOLERANCE = 2e-2
"""Of logits, as a share of their size: llama.cpp rounds activations to bfloat16."""


def against(rounds: int) -> Figure:
    """Tokens a second behind the first, on as many threads as PyTorch has.

    Raises:
        MissingPackageError: llama-cpp-python or gguf is not installed.
        NativeError: Our library was asked for and cannot be built.
        AnyanyError: The logits of the two differ.
    """
    pair = twins(SIZE, torch.bfloat16)
    engine = _engine()
    _gate(_engine(told=True), pair.theirs)
    ours, ours_short = (replies(pair, new)[0] for new in (NEW, 1))
    theirs, theirs_short = (partial(_reply, engine, new) for new in (NEW, 1))
    times = rounds_of((ours, ours_short, theirs, theirs_short), rounds)
    return Figure(
        id="C2",
        what=f"tokens a second, {pair.parameters / 1e6:.0f} M parameters, bfloat16, batch 1, "
        + ("native library" if library() else "without the native library"),
        quartiles=quartiles([(slow - first) / (fast - start) for fast, start, slow, first in times]),
        peer="llama.cpp",
        goal=0.9 if library() else 0.6,
    )


@cache
def _engine(told: bool = False) -> Any:
    """A ``llama_cpp.Llama`` of the weights, which it has read by the time the file goes; ``told`` keeps all logits."""
    try:
        import gguf  # noqa: F401
        from llama_cpp import Llama
    except ImportError:
        raise MissingPackageError(
            "bench: llama.cpp is the peer, and is not installed. Try: pip install 'anyany[llamacpp]'"
        ) from None
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.gguf"
        write(twins(SIZE, torch.bfloat16).theirs, path)
        threads = torch.get_num_threads()
        return Llama(
            str(path), n_ctx=PROMPT + NEW + 1, n_batch=PROMPT, n_threads=threads, n_threads_batch=threads,
            use_mmap=False, logits_all=told, verbose=False,
        )  # fmt: skip


def write(theirs: Any, path: Path) -> None:
    """A ``LlamaForCausalLM`` as GGUF: matrices in bfloat16, norms in float32, token ids without words.

    Raises:
        MissingPackageError: gguf is not installed.
    """
    try:
        import gguf
    except ImportError:
        raise MissingPackageError("bench: gguf is not installed. Try: pip install 'anyany[llamacpp]'") from None
    config = theirs.config
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_BF16)
    writer.add_tokenizer_model("no_vocab")
    writer.add_vocab_size(config.vocab_size)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_dimension_count(config.head_dim)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    for name, tensor in _tensors(theirs.state_dict(), config).items():
        numbers = tensor.float().numpy()
        if numbers.ndim == 1:
            writer.add_tensor(name, numbers)
        else:
            kind = gguf.GGMLQuantizationType.BF16
            writer.add_tensor(name, gguf.quants.quantize(numbers, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


TOP = {
    "model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output",
}  # fmt: skip
BLOCK = {
    "input_layernorm": "attn_norm", "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output", "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down",
}  # fmt: skip
"""Names in transformers, and in GGUF."""


def _tensors(state: Mapping[str, Tensor], config: Any) -> dict[str, Tensor]:
    """By their names in GGUF; the two halves of a head, which transformers turns together, lie in turns there."""
    found = {f"{there}.weight": state[f"{here}.weight"] for here, there in TOP.items()}
    heads = {"attn_q": config.num_attention_heads, "attn_k": config.num_key_value_heads}
    for layer in range(config.num_hidden_layers):
        for here, there in BLOCK.items():
            weight = state[f"model.layers.{layer}.{here}.weight"]
            if there in heads:
                weight = weight.unflatten(0, (heads[there], 2, -1)).transpose(1, 2).flatten(0, 2)
            found[f"blk.{layer}.{there}.weight"] = weight
    return found


def _reply(engine: Any, new: int) -> list[int]:
    """Greedy tokens behind the prompt."""
    tokens: Callable[..., Any] = engine.generate
    return list(islice(tokens(prompt(PROMPT).tolist(), temp=0.0, repeat_penalty=1.0), new))


@torch.inference_mode()
def _gate(engine: Any, theirs: Any) -> None:
    """Logits behind the prompt against those of transformers in the same type.

    Raises:
        AnyanyError: They are too far apart.
    """
    ids = prompt(PROMPT)
    engine.reset()
    engine.eval(ids.tolist())
    found = torch.from_numpy(np.array(engine.scores[PROMPT - 1]))
    known = theirs(ids[None]).logits[0, -1].float()
    if not (apart := float((found - known).norm() / known.norm())) < TOLERANCE:
        raise AnyanyError(f"C2: the logits are {apart:.2g} of their size apart, so that speed says nothing")
