"""Speech while it is being made: each chunk goes into a wav file, and to a player, as soon as it is there.

A player is any command that takes 16-bit samples: ``--player "aplay -q -t raw -f S16_LE -r 8000"``.
"""

import argparse
import shlex
import subprocess
import time
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import soundfile

import anyany
from anyany.engine import Chunk, SpanEnd


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("prompt", nargs="?", default="Say four.")
    parser.add_argument("--model", default="mini", help="'mini' or a checkpoint folder")
    parser.add_argument("--out", type=Path, default=Path("speech.wav"))
    parser.add_argument("--player", help="a command that takes 16-bit samples on its standard input")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(argv)

    model = anyany.load(args.model)
    began = time.perf_counter()
    with ExitStack() as opened:
        player = file = None
        if args.player:
            player = opened.enter_context(subprocess.Popen(shlex.split(args.player), stdin=subprocess.PIPE))
        for event in model.stream(args.prompt, want=["audio"], seed=args.seed):
            if isinstance(event, Chunk):
                sound = event.media
                if file is None:  # the first chunk tells the rate
                    file = opened.enter_context(soundfile.SoundFile(args.out, "w", sound.rate, 1))
                file.write(sound.mono())
                if player is not None:
                    player.stdin.write((sound.mono() * 32767).astype(np.int16).tobytes())
                    player.stdin.flush()
                print(f"{time.perf_counter() - began:6.2f} s: {sound.seconds:.2f} s of sound")
            elif isinstance(event, SpanEnd):
                print(f"complete: {event.content.seconds:.2f} s in {args.out}")


if __name__ == "__main__":
    main()
