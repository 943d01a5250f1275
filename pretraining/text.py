"""Pretrain the starter text encoder on texts that this script generates.

    python pretraining/text.py --out DIR --log FILE

1. Facts are drawn from a lexicon written for this script (3,000 meanings with their synonyms and
   hypernyms): products, reviews, people, scenes, recipes, messages, addresses, news and others. Each
   is put into words twice: other templates, synonyms, lists of "name: value", facts left out, slips
   of the pen, invented names.
2. Counting: a token's vector says which meanings the texts around it state (pointwise mutual
   information, compressed), and rare tokens weigh more than common ones.
3. Learning, with that table kept as it is: the network guesses hidden tokens, tells which two texts of
   a batch state the same facts (half of them differ in one or two only), and names from its pooled
   vector the meanings and the tokens that it has seen, also where words were broken into pieces.

No outside data. DIR receives checkpoints (running the command again resumes) and, at the end,
`encoder/`, a folder for transformers' `AutoModel` and `AutoTokenizer`.
"""

import argparse

from running import begin, options_of, tell
from texts.learning import export, pretrain, start


def read_options() -> argparse.Namespace:
    parser = options_of(__doc__ or "", "checkpoints, encoder/")
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--fall", type=int, default=240, help="steps while the rate falls to 0")
    parser.add_argument("--batch", type=int, default=48, help="facts; each is told twice")
    parser.add_argument("--learning-rate", type=float, default=2e-3)
    parser.add_argument("--vocabulary", type=int, default=6500, help="tokens")
    parser.add_argument("--records", type=int, default=80_000, help="facts to count in")
    return parser.parse_args()


def main() -> None:
    options = read_options()
    begin(options)
    run = start(options)
    tell(pretrain(run), options.log)
    export(run, options.out / "encoder")


if __name__ == "__main__":
    main()
