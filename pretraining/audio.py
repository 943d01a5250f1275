"""Pretrain the starter audio encoder on sounds that this script makes.

    python pretraining/audio.py --out DIR --log FILE

1. Words of no language are drawn from 40 speech sounds and spoken by invented voices: pulses and
   noise behind formants that move (a source-filter synthesiser). Beside them 24 kinds of noises:
   tones, chords, sweeps, bells, strikes, animals, engines, weather.
2. Every sound is heard twice, by another voice or slightly changed, each time in another room,
   before another background, through another microphone or telephone.
3. The network tells which speech sound each 20 ms are, which sounds the whole word has, what kind of
   noise it hears, pitch, pace and the like, and which two recordings of a batch are of one sound.

No outside data. DIR receives checkpoints (running the command again resumes) and, at the end,
`encoder/`, a folder for transformers' `AutoModel` and `AutoFeatureExtractor`.
"""

import argparse

from running import begin, options_of, tell
from sounds.learning import export, pretrain, start


def read_options() -> argparse.Namespace:
    parser = options_of(__doc__ or "", "checkpoints, encoder/")
    parser.add_argument("--steps", type=int, default=420)
    parser.add_argument("--fall", type=int, default=170, help="steps while the rate falls to 0")
    parser.add_argument("--batch", type=int, default=32, help="sounds; each is heard twice")
    parser.add_argument("--learning-rate", type=float, default=1.5e-3)
    return parser.parse_args()


def main() -> None:
    options = read_options()
    begin(options)
    run = start(options)
    tell(pretrain(run), options.log)
    export(run, options.out / "encoder")


if __name__ == "__main__":
    main()
