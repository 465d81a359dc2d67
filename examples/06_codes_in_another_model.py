"""A codec of anyany in a model of transformers: a small GPT-2 learns codes of handwritten digits, and draws some."""

import argparse
from pathlib import Path

import numpy as np
import torch
from sklearn.datasets import load_digits
from transformers import GPT2Config, GPT2LMHeadModel, Trainer, TrainingArguments

import anyany
from anyany import Image

BEGIN = 10  # ids 0 to 9 are the digits, and a code c is 10 + c


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="mini", help="'mini' or a checkpoint folder: only its codec is read")
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--out", type=Path, default=Path("digits.png"))
    args = parser.parse_args(argv)

    codec = anyany.codec("image", weights=args.model)
    digits = load_digits()
    pictures = [Image.from_array(np.pad(pixels / 16, 1)) for pixels in digits.images]
    codes = anyany.tokenize(codec, pictures)  # (16, 1) each
    rows = [
        torch.cat([torch.tensor([label]), each[:, 0] + BEGIN]) for label, each in zip(digits.target, codes, strict=True)
    ]

    torch.manual_seed(0)
    ids, length = BEGIN + codec.latents.vocab, len(rows[0])
    size = GPT2Config(
        vocab_size=ids, n_positions=length, n_embd=128, n_layer=2, n_head=4, bos_token_id=0, eos_token_id=0
    )
    model = GPT2LMHeadModel(size)
    options = TrainingArguments(
        "runs", max_steps=args.steps, per_device_train_batch_size=32, learning_rate=2e-3, warmup_steps=20, use_cpu=True,
        save_strategy="no", logging_strategy="no", report_to=[], dataloader_pin_memory=False, disable_tqdm=True,
    )  # fmt: skip
    Trainer(model, options, train_dataset=[{"input_ids": row, "labels": row} for row in rows]).train()

    asked = torch.arange(10)[:, None]
    drawn = model.generate(
        asked, attention_mask=torch.ones_like(asked), do_sample=True, top_k=0, temperature=0.7, pad_token_id=0,
        max_new_tokens=length - 1, min_new_tokens=length - 1, bad_words_ids=[[digit] for digit in range(BEGIN)],
    )  # fmt: skip
    made = anyany.detokenize(codec, list(drawn[:, 1:, None] - BEGIN))
    Image.from_array(np.concatenate([each.pixels for each in made], axis=1)).save(args.out)
    print(f"{len(made)} digits in {args.out}")


if __name__ == "__main__":
    main()
