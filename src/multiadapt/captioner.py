"""scikit-learn face of captioning: a sentence about a picture or a clip."""

from os import PathLike
from pathlib import Path
from typing import Any, Literal, cast

import pandas as pd

from multiadapt.crossmodal._base import BackboneSpec
from multiadapt.crossmodal._blip import usual_blip
from multiadapt.crossmodal._pairs import distinct
from multiadapt.crossmodal._texts import said
from multiadapt.crossmodal._writing import Decoding
from multiadapt.gather import Source, check_columns
from multiadapt.methods._base import Method, Training
from multiadapt.picture_to_text import PictureToText, Run, Wanted
from multiadapt.scoring import device_of
from multiadapt.tasks._caption_metrics import Captioned, captioned
from multiadapt.writing import Base, FittedWriter, blip_of, frames_note, table_of
from multiadapt.writing_files import load_writer

__all__ = ["Captioner"]


class Captioner(PictureToText):
    """Writes sentences about pictures or clips.

    Args:
        method: what is trained in the frozen network; a spec, or a name such as "uniadapter", "lora". The
            network has no new head: "frozen" trains nothing and is the network as it is.
        backbone: a BLIP network with a decoder by folder or hub name, or its spec, which also says how many
            frames of a clip are read, such as Blip("...", frames=8). "starter" is the small one inside the
            package; None: the hub's usual BLIP where there is a network, else the starter.
        training: the recipe.
        prompt: what every caption begins with; its tokens are not learned, and not told with a caption.
        smoothing: share of the loss in which every token is as good as the right one.
        validation: share of pictures or clips held out for early stopping where no rows are given; 0: none.
        on_error: "missing" treats an unreadable file as missing, which a row must not have: it is left out
            by you, or an error names it.
        max_files: most pictures, or clips, in one cell.
        device: "cpu", "cuda" ...; None picks a GPU where there is one.
        memory: gigabytes of frozen computation that may be kept.
    """

    def __init__(
        self,
        method: str | Method = "uniadapter",
        *,
        backbone: str | PathLike[str] | BackboneSpec | None = None,
        training: Training | None = None,
        prompt: str = "a picture of ",
        smoothing: float = 0.1,
        seed: int = 0,
        validation: float = 0.1,
        on_error: Literal["raise", "missing"] = "raise",
        max_files: int = 8,
        device: str | None = None,
        memory: float = 4.0,
        verbose: bool = True,
    ) -> None:
        self.method = method
        self.backbone = backbone
        self.training = training
        self.prompt = prompt
        self.smoothing = smoothing
        self.seed = seed
        self.validation = validation
        self.on_error: Literal["raise", "missing"] = on_error
        self.max_files = max_files
        self.device = device
        self.memory = memory
        self.verbose = verbose

    def fit(
        self,
        X: Source,
        y: None = None,
        *,
        image: str | None = None,
        video: str | None = None,
        caption: str,
        val_data: Source = None,
        split_column: str | None = None,
        root: str | Path | None = None,
        time_limit: float | None = None,
        resume: str | Path | None = None,
        init_from: str | Path | None = None,
        base: Base = "same",
        profile: bool = False,
    ) -> "Captioner":
        """Train on a table with one caption a row; several captions of a picture or clip are several rows.

        Args:
            image: the column of pictures.
            video: in its place that of clips: films, folders of frames, or lists of pictures.
            caption: the column of captions.
            val_data: rows to stop early on.
            split_column: a column whose rows "train" are trained on and "val" validated on.
            root: folder that file paths are relative to; default the table's own.
            time_limit: seconds after which training ends and the best so far is kept.
            resume: file to continue from, written while training.
            init_from: folder of a saved retriever, answerer or captioner of the same method whose adapters
                training begins from.
            base: "other" takes over also what was trained on other base weights.
            profile: tell where the time went, and keep it as `profile_`.
        """
        run = Run(val_data, split_column, root, time_limit, resume, init_from, base, profile)
        self._train(X, Wanted.of(image, video, None, caption), run)
        return self

    def predict(
        self,
        X: Source,
        *,
        how: Literal["beam", "nucleus"] = "beam",
        beams: int = 3,
        top_p: float = 0.9,
        max_length: int = 30,
        root: str | Path | None = None,
        seed: int = 0,
    ) -> pd.Series:
        """A caption of each row, without the prompt, under the rows' labels.

        Args:
            how: "beam" keeps the likeliest of several; "nucleus" draws, and tells more.
            beams: texts that are written side by side.
            top_p: nucleus draws each token among the likeliest that make up this share.
            max_length: most tokens that are written behind the prompt.
        """
        fitted, table = self._fit(), self._opened(X, root)
        check_columns(table.frame, fitted.plan.roles)
        decoding = Decoding(how, beams, top_p, max_length, seed)
        found = fitted.written(table.frame, table.root, decoding)
        return pd.Series(found, table.frame.index, dtype=object, name=fitted.plan.text)

    def evaluate(
        self,
        X: Source,
        *,
        where: str | None = None,
        beams: int = 3,
        max_length: int = 30,
        zero_shot: bool = True,
        root: str | Path | None = None,
        seed: int = 0,
    ) -> pd.DataFrame:
        """CIDEr-D, BLEU-1 to BLEU-4 and ROUGE-L, with 95 % bootstrap intervals over pictures or clips.

        Each different one is captioned once; its rows' captions are its references.

        Args:
            where: such as "split=test".
            beams, max_length: as in `predict`.
            zero_shot: measure the network as it was before training too; a warning says where training
                made it worse.
        """
        fitted, table = cast(FittedWriter, self._fit()), self._opened(X, root, where)
        plan = fitted.plan
        check_columns(table.frame, {**plan.roles, plan.text: "caption"})
        truth = said(cast(pd.Series, table.frame[plan.text]), several=False)
        first, which = distinct(table.frame[plan.shown])
        references: list[list[str]] = [[] for _ in first]
        for row, number in zip(truth, which, strict=True):
            references[number] += row
        looked = table.frame.iloc[first]
        decoding = Decoding("beam", beams, max_length=max_length)

        def measured(one: FittedWriter) -> Captioned:
            return captioned(one.written(looked, table.root, decoding), references, seed=seed)

        found = {"adapted": measured(fitted)}
        if zero_shot:
            with fitted.base() as base:
                found["zero-shot"] = measured(base)
        return table_of(found, "cider_d", frames_note(fitted.model, plan.shown))

    @staticmethod
    def load(
        folder: str | Path,
        *,
        backbone: str | PathLike[str] | BackboneSpec | None = None,
        device: str | None = None,
    ) -> "Captioner":
        """A saved captioner; `backbone` names another place of its network."""
        fitted = load_writer(folder, "captioning", device_of(device), backbone)
        plan = fitted.plan
        model = Captioner(
            **plan.options(), prompt=plan.prompt, smoothing=plan.smoothing, device=device
        )
        model.fitted_ = fitted
        return model

    def _network(self) -> BackboneSpec:
        return blip_of(usual_blip("captioning") if self.backbone is None else self.backbone)

    def _own(self, cells: pd.Series) -> dict[str, Any]:
        return {"prompt": self.prompt, "smoothing": self.smoothing, "answers": None}
