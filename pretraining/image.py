"""Pretrain the starter image encoder on pictures that this script draws.

    python pretraining/image.py --minutes 50 --out DIR --log FILE

1. Banks: silhouettes (garments, shoes, bags, tools, vases, furniture, houses, glyphs, fractals,
   random outlines) are drawn with Pillow, texture fields are computed with numpy.
2. Every step composes new pictures from the banks in torch: a background (plain, gradient, texture
   or a room in perspective), a textured, shaded, shadowed object, often a second one in front.
3. The network learns what was drawn (shape class, texture families, colours, pose, layout), a tiny
   thumbnail of the picture, and which two pictures show the same object (NT-Xent, SimCLR).

No outside data. DIR receives checkpoints (running the command again resumes) and, at the end,
`encoder/`, a folder for `transformers.AutoModel.from_pretrained`.
"""

import argparse
from pathlib import Path

import torch
from pictures.learning import export, pretrain, start


def read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="checkpoints, banks, encoder/")
    parser.add_argument("--log", type=Path, help="file that lines are appended to")
    parser.add_argument("--minutes", type=float, default=50.0)
    parser.add_argument("--steps", type=int, help="stop after so many steps, whatever the time")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--batch", type=int, default=64, help="objects; each is shown twice")
    parser.add_argument("--learning-rate", type=float, default=2e-3)
    parser.add_argument("--large", type=float, default=0.1, help="last share of time at 96 px")
    parser.add_argument("--per-class", type=int, default=150, help="silhouettes of each class")
    parser.add_argument("--per-family", type=int, default=500, help="fields of each family")
    parser.add_argument("--input-size", type=int, default=96, help="pixels, for users")
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
    export(run.student.encoder, options.out / "encoder", options.input_size)


if __name__ == "__main__":
    main()
