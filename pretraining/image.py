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

from pictures.learning import export, pretrain, start
from running import begin, options_of, tell


def read_options() -> argparse.Namespace:
    parser = options_of(__doc__ or "", "checkpoints, banks, encoder/")
    parser.add_argument("--minutes", type=float, default=50.0)
    parser.add_argument("--steps", type=int, help="stop after so many steps, whatever the time")
    parser.add_argument("--batch", type=int, default=64, help="objects; each is shown twice")
    parser.add_argument("--learning-rate", type=float, default=2e-3)
    parser.add_argument("--large", type=float, default=0.1, help="last share of time at 96 px")
    parser.add_argument("--per-class", type=int, default=150, help="silhouettes of each class")
    parser.add_argument("--per-family", type=int, default=500, help="fields of each family")
    parser.add_argument("--input-size", type=int, default=96, help="pixels, for users")
    return parser.parse_args()


def main() -> None:
    options = read_options()
    begin(options)
    run = start(options)
    tell(pretrain(run), options.log)
    export(run.student.encoder, options.out / "encoder", options.input_size)


if __name__ == "__main__":
    main()
