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
from pathlib import Path

import torch
from sounds.learning import export, pretrain, start


def read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="checkpoints, encoder/")
    parser.add_argument("--log", type=Path, help="file that lines are appended to")
    parser.add_argument("--steps", type=int, default=420)
    parser.add_argument("--fall", type=int, default=170, help="steps while the rate falls to 0")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--batch", type=int, default=32, help="sounds; each is heard twice")
    parser.add_argument("--learning-rate", type=float, default=1.5e-3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--float32", action="store_true", help="no bfloat16 (older processors)")
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
