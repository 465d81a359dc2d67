"""All benchmarks, by id."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator, Sequence
from functools import partial

from anyany.bench import (
    attention,
    batch,
    beside,
    decode,
    discovery,
    gpu_attention,
    gpu_fused,
    layout,
    llamacpp,
    loading,
    machine,
    memory,
    native,
    prefill,
    quality,
    reuse,
    startup,
    store,
    tiny,
    training,
)  # fmt: skip
from anyany.bench.measure import Figure
from anyany.errors import AnyanyError, DataError, KernelError, MissingPackageError, NativeError, RequestError

ROUNDS, QUICK = 9, 3

SUITE: dict[str, Callable[[int], Figure]] = {
    "machine-bandwidth": machine.bandwidth,
    "machine-matmul": machine.matmul,
    "decode-10m": partial(decode.alone, "10m"),
    "decode-40m": partial(decode.alone, "40m"),
    "bandwidth-40m": partial(decode.bandwidth, "40m"),
    "batch8-10m": partial(decode.together, "10m"),
    "C1": partial(native.against, native=True),
    "C1-pytorch": partial(native.against, native=False),
    "C2": llamacpp.against,
    "C3": native.bandwidth,
    "C4-int8": partial(native.smaller, "int8", 1.4),
    "C4-int4": partial(native.smaller, "int4", 1.9),
    "quality-int8": partial(quality.perplexity, "int8", 0.98),
    "quality-int4": partial(quality.perplexity, "int4", 0.9),
    "tiny-first": tiny.first,
    "tiny-tokens": tiny.tokens,
    "media-cache": reuse.picture,
    "chat-turn": reuse.turn,
    "stall-10m": beside.stall,
    "stall-first-10m": beside.first,
    "batch": batch.mixed,
    "prefill-10m": partial(prefill.prefill, "10m"),
    "prefill-40m": partial(prefill.prefill, "40m"),
    "prefill-share-240m": partial(prefill.share, "240m"),
    "load-time": loading.seconds,
    "load-memory": loading.memory,
    "cache-memory": memory.cache,
    "attention-forward": attention.forward,
    "attention-both": attention.both,
    "attention-flex": attention.flex,
    "attention-plan": attention.plan,
    "attention-memory": memory.attention,
    "store-align-in-mini": partial(store.align_in, "mini"),
    "store-align-in-10m": partial(store.align_in, "10m"),
    "train-lora-10m": partial(training.against, "10m", lora=True),
    "train-full-10m": partial(training.against, "10m", lora=False),
    "train-lora-10m-even": partial(training.against, "10m", lora=True, even=True),
    "train-full-10m-even": partial(training.against, "10m", lora=False, even=True),
    "train-memory-lora": partial(training.memory, "lora"),
    "train-memory-full": partial(training.memory, "full"),
    "train-recompute-10m": partial(training.recompute, "10m"),
    "train-recompute-memory": training.recompute_memory,
    "layout-10000": layout.layout,
    "layout-growth": layout.growth,
    "plugins-list": startup.plugins_list,
    "import": startup.bare_import,
    "discovery-1": partial(discovery.found, 1),
    "discovery-10": partial(discovery.found, 10),
    "discovery-100": partial(discovery.found, 100),
}
"""Each takes how many rounds to measure."""

GPU: dict[str, Callable[[int], Figure]] = {**gpu_attention.LINES, **gpu_fused.LINES}
"""Those that need a GPU."""


def measure(
    only: Sequence[str] = (),
    *,
    gpu: bool = False,
    quick: bool = False,
    left_out: Callable[[str, AnyanyError], None] | None = None,
) -> Iterator[Figure]:
    """Figures one by one, as they are ready.

    Args:
        only: Ids; none is all of ``SUITE``, or of ``GPU``.
        gpu: Those of ``GPU``.
        quick: Three rounds in place of nine.
        left_out: Told of a line that this machine cannot measure, for want of a package, of data or of a compiler; the
            lines behind it are measured all the same. Where lines are asked for by id that is an error, as it is
            without ``left_out``.

    Raises:
        RequestError: There is no such id.
        AnyanyError: The two sides of a comparison do not make the same, or a line cannot be measured.
    """
    known = {**SUITE, **GPU}
    for name in only:
        if name not in known:
            close = difflib.get_close_matches(name, known, 1)
            hint = f"did you mean {close[0]!r}?" if close else f"there are {', '.join(known)}"
            raise RequestError(f"bench: unknown id {name!r}; {hint}")
    for name, run in (known if only else GPU if gpu else SUITE).items():
        if only and name not in only:
            continue
        try:
            figure = run(QUICK if quick else ROUNDS)
        except (MissingPackageError, DataError, NativeError, KernelError) as error:
            if only or left_out is None:
                raise
            left_out(name, error)
            continue
        yield figure
