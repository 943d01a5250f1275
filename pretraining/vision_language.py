"""Pretrain the starter vision-language network, a small BLIP, on scenes that this script draws.

    python pretraining/vision_language.py --minutes 70 --out DIR --log FILE

1. Scenes hold one to three things (ten shapes, ten colours, four patterns, three sizes) that lie to one
   another in a stated way, before one of six grounds; every eighth step has clips of four frames.
2. A grammar tells each scene in one of many true sentences and asks one question with its answer.
3. The network learns together which sentence fits which picture (contrast), whether a sentence fits
   (matching, with hard pairs), to write the sentence, to answer the question, and, by heads that are
   thrown away, what covers each patch of a picture.

No outside data. DIR receives checkpoints (running the command again resumes) and, at the end,
`network/`, a folder for transformers' three BLIP classes and `BlipProcessor`.
"""

import argparse

from running import begin, options_of, tell
from worlds.learning import pretrain, start
from worlds.network import export


def read_options() -> argparse.Namespace:
    parser = options_of(__doc__ or "", "checkpoints, network/")
    parser.add_argument("--minutes", type=float, default=70.0, help="the rate falls by the clock")
    parser.add_argument("--steps", type=int, help="so many steps, whatever the time: repeatable")
    parser.add_argument("--batch", type=int, default=32, help="pictures")
    parser.add_argument("--learning-rate", type=float, default=1.2e-3)
    return parser.parse_args()


def main() -> None:
    options = read_options()
    begin(options)
    run = start(options)
    tell(pretrain(run), options.log)
    export(run.pupil, options.out / "network")


if __name__ == "__main__":
    main()
