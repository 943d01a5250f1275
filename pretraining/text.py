"""Pretrain a small text encoder on texts that this script generates.

    python pretraining/text.py --out DIR --log FILE

1. Facts are drawn from a lexicon written for this script (3,000 meanings with their synonyms and
   hypernyms): products, reviews, people, scenes, recipes, messages, addresses, news and others.
2. Every step puts new facts into words twice: other templates, synonyms, lists of "name: value",
   facts left out, slips of the pen, invented names.
3. The network guesses hidden tokens, tells which two texts of a batch state the same facts (half of
   them differ in one or two only) and names the meanings that its pooled vector has seen.

What it made so far does not beat random weights on real product names, so the package holds none.

No outside data. DIR receives checkpoints (running the command again resumes) and, at the end,
`encoder/`, a folder for transformers' `AutoModel` and `AutoTokenizer`.
"""

import argparse
from pathlib import Path

import torch
from texts.learning import export, pretrain, start


def read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="checkpoints, encoder/")
    parser.add_argument("--log", type=Path, help="file that lines are appended to")
    parser.add_argument("--steps", type=int, default=2600)
    parser.add_argument("--fall", type=int, default=1, help="steps while the rate falls to 0")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--batch", type=int, default=64, help="facts; each is told twice")
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--vocabulary", type=int, default=6000, help="tokens")
    parser.add_argument("--threads", type=int, default=1)
    return parser.parse_args()


def main() -> None:
    options = read_options()
    options.out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(options.threads)
    run = start(options)
    for line in pretrain(run):
        print(line, flush=True)
        if options.log:
            with options.log.open("a") as log:
                log.write(line + "\n")
    export(run, options.out / "encoder")


if __name__ == "__main__":
    main()
