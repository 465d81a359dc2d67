"""One prompt with a picture in, text and a picture out; then the model reads its own drawing."""

import argparse
from pathlib import Path

import numpy as np

import anyany
from anyany import Image


def seven() -> Image:
    """A seven drawn with two strokes, for want of a file."""
    pixels = np.zeros((28, 28))
    pixels[5:8, 6:21] = 1.0
    for row in range(8, 24):
        column = 19 - (row - 8) // 2
        pixels[row, column : column + 3] = 1.0
    return Image.from_array(pixels)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("picture", nargs="?", type=Path, help="of a digit; without one, a seven")
    parser.add_argument("--model", default="mini", help="'mini' or a checkpoint folder")
    parser.add_argument("--out", type=Path, default=Path("drawn.png"))
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(argv)

    model = anyany.load(args.model)
    picture = Image.open(args.picture) if args.picture else seven()

    # ``want`` fixes what the reply consists of; leave it out, and the model chooses.
    reply = model.generate(
        ["Read it, then draw it.", picture], want=["text", "image"], seed=args.seed, max_new_tokens=16
    )
    description, drawing = reply.parts
    drawing.save(args.out)
    print(f"it reads: {description}")
    print(f"it draws: {args.out} ({drawing.width} x {drawing.height}, {reply.usage.rows['image']} rows)")

    again = model.generate(["What digit is this?", drawing], want=["text"], max_new_tokens=16)
    print(f"its own drawing is: {again.text}")


if __name__ == "__main__":
    main()
