"""scikit-learn face of answering: questions about pictures and clips."""

from collections import Counter
from collections.abc import Iterable, Sequence, Set
from pathlib import Path
from typing import Any, Literal, cast

import pandas as pd

from multiadapt.choosing import FittedChooser, chooses, load_chooser
from multiadapt.crossmodal._base import BackboneSpec
from multiadapt.crossmodal._blip import usual_blip
from multiadapt.crossmodal._choice import Backbone, backbone_of
from multiadapt.crossmodal._pairs import distinct
from multiadapt.crossmodal._texts import said
from multiadapt.crossmodal._writing import Decoding
from multiadapt.crossmodal.dual import Dual
from multiadapt.data.values import text
from multiadapt.errors import SpecError
from multiadapt.gather import Source, check_columns
from multiadapt.methods._base import Method, Training
from multiadapt.picture_to_text import PictureToText, Run, Wanted
from multiadapt.scoring import device_of
from multiadapt.tasks._answer_metrics import LEAST, Answered, answered, most_frequent, normalised
from multiadapt.writing import Base, FittedWriter, frames_note, table_of, warn_outside
from multiadapt.writing_files import load_writer

__all__ = ["QuestionAnswerer"]


class QuestionAnswerer(PictureToText):
    """Answers questions about pictures or clips, in words of its own or from a list.

    A network without a decoder gets a new head over the answers, with a sigmoid for each that learns how
    right it is: by the VQA challenge's accuracy where at least four people answered, else by the share
    that says so.

    Args:
        method: what is trained in the frozen network; a spec, or a name such as "uniadapter", "lora".
            With a decoder there is no new head: "frozen" trains nothing and is the network as it is.
        backbone: a BLIP network with a decoder, or a network with two towers such as CLIP, by folder or hub
            name; or an encoder for each side by modality or column, such as {"text": "...", "image": "..."};
            or a spec, which also says how many frames of a clip are read, such as Blip("...", frames=8) or
            VideoEncoder("...", frames=8). "starter" is the small one inside the package; None: the hub's usual
            BLIP where there is a network, else the starter.
        training: the recipe.
        answers: the list that is ranked: "auto", the answers of the training rows; a list of one's own; or
            None, there is none and answers are written.
        min_count: with "auto", an answer must have been given so often to be in the list; case, articles
            and punctuation make no difference.
        smoothing: share of the loss in which every token is as good as the right one, where answers are
            written; None: 0.1.
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
        backbone: Backbone | None = None,
        training: Training | None = None,
        answers: Literal["auto"] | Sequence[str] | None = "auto",
        min_count: int = 1,
        smoothing: float | None = None,
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
        self.answers = answers
        self.min_count = min_count
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
        question: str,
        answer: str,
        val_data: Source = None,
        split_column: str | None = None,
        root: str | Path | None = None,
        time_limit: float | None = None,
        resume: str | Path | None = None,
        init_from: str | Path | None = None,
        base: Base = "same",
        profile: bool = False,
    ) -> "QuestionAnswerer":
        """Train on a table with one question a row.

        Args:
            image: the column of pictures.
            video: in its place that of clips: films, folders of frames, or lists of pictures. It is never
                guessed: such folders and lists look like other columns.
            question: the column of questions.
            answer: the column of answers; a cell may hold those of several people, as a list or with ";"
                between them, which then count by how many gave them.
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
        self._train(X, Wanted.of(image, video, question, answer), run)
        return self

    def predict(
        self,
        X: Source,
        *,
        how: str | None = None,
        k: int = 128,
        beams: int = 3,
        top_p: float = 0.9,
        max_length: int = 10,
        root: str | Path | None = None,
        seed: int = 0,
    ) -> pd.Series:
        """An answer of each row, under the rows' labels.

        Args:
            how: "rank" takes the likeliest of the answer list, "beam" and "nucleus" write; None: rank where
                there is a list, else beam.
            k: so many answers with the likeliest first tokens are compared whole.
            beams: texts that are written side by side.
            top_p: nucleus draws each token among the likeliest that make up this share.
            max_length: most tokens that are written.
        """
        fitted, table = self._fit(), self._opened(X, root)
        self._check(table.frame)
        written: Any = "beam" if how in (None, "rank") else how
        decoding = Decoding(written, beams, top_p, max_length, seed)
        found = _answers(fitted, table.frame, table.root, how, k, decoding)
        return pd.Series(found, table.frame.index, dtype=object, name=fitted.plan.text)

    def rank(self, X: Source, k: int = 5, *, root: str | Path | None = None) -> list[pd.DataFrame]:
        """For each row the k likeliest answers of the list, best first: `answer` and `log_likelihood`."""
        if k < 1:
            raise SpecError(f"k must be at least 1, got {k}")
        fitted, table = self._fit(), self._opened(X, root)
        self._check(table.frame)
        answers = _list_of(fitted)
        which, likely = fitted.ranked(table.frame, table.root, max(k, 128))
        return [
            pd.DataFrame({"answer": [answers[i] for i in row], "log_likelihood": scores})
            for row, scores in zip(which[:, :k], likely[:, :k], strict=True)
        ]

    def evaluate(
        self,
        X: Source,
        *,
        where: str | None = None,
        how: str | None = None,
        k: int = 128,
        zero_shot: bool = True,
        root: str | Path | None = None,
        seed: int = 0,
    ) -> pd.DataFrame:
        """Exact match, and the VQA challenge's soft accuracy where four or more people answered every row.

        With 95 % bootstrap intervals over pictures or clips.

        Args:
            where: such as "split=test".
            how, k: as in `predict`.
            zero_shot: measure the network as it was before training too; a warning says where training
                made it worse. A head over answers is new, and has no such numbers.
        """
        fitted, table = self._fit(), self._opened(X, root, where)
        plan = fitted.plan
        self._check(table.frame, plan.text)
        truth = said(cast(pd.Series, table.frame[plan.text]), several=True)
        if plan.answers is not None and how in (None, "rank"):
            warn_outside(plan.answers, truth)
        written: Any = "beam" if how in (None, "rank") else how
        decoding = Decoding(written, max_length=10, seed=seed)
        looked = distinct(table.frame[plan.shown])[1].tolist()

        def measured(one: FittedWriter | FittedChooser) -> Answered:
            said = _answers(one, table.frame, table.root, how, k, decoding)
            return _measured(said, truth, looked, seed)

        found = {"adapted": measured(fitted)}
        if zero_shot and isinstance(fitted, FittedWriter):
            with fitted.base() as base:
                found["zero-shot"] = measured(base)
        least = "vqa_accuracy" if "vqa_accuracy" in found["adapted"].estimates else "exact_match"
        return table_of(found, least, frames_note(fitted.model, plan.shown))

    @staticmethod
    def load(
        folder: str | Path,
        *,
        backbone: Backbone | None = None,
        device: str | None = None,
    ) -> "QuestionAnswerer":
        """A saved answerer; `backbone` names another place of its network."""
        smoothing = None
        if chooses(folder):
            fitted = load_chooser(folder, device_of(device), backbone)
        else:
            fitted = load_writer(folder, "answering", device_of(device), backbone)
            smoothing = fitted.plan.smoothing
        plan = fitted.plan
        model = QuestionAnswerer(
            **plan.options(), answers=plan.answers, smoothing=smoothing, device=device
        )
        model.fitted_ = fitted
        return model

    def _network(self) -> BackboneSpec:
        given = usual_blip("answering") if self.backbone is None else self.backbone
        network = backbone_of(given)
        if isinstance(network, Dual) and self.smoothing is not None:
            raise SpecError(
                "smoothing is of answers that are written; a head over a list has none: leave it out"
            )
        return network

    def _own(self, cells: pd.Series) -> dict[str, Any]:
        smoothing = 0.1 if self.smoothing is None else self.smoothing
        return {"prompt": "", "smoothing": smoothing, "answers": self._list(cells)}

    def _list(self, cells: pd.Series) -> tuple[str, ...] | None:
        """The answers that are ranked. SpecError: there are none."""
        own = not isinstance(self.answers, str)
        if self.min_count < 1 or (own and self.min_count != 1):
            rule = 'goes with answers="auto": leave it out' if own else "must be at least 1"
            raise SpecError(f"min_count={self.min_count} {rule}")
        if self.answers is None:
            return None
        if isinstance(self.answers, str) and self.answers == "auto":
            return self._frequent(cells)
        # A set has no order: two fits would differ.
        if isinstance(self.answers, (str, Set)) or not isinstance(self.answers, Iterable):
            raise SpecError(
                f'answers must be "auto", a list of answers or None, got {self.answers!r:.200}'
            )
        found = [text(a) for a in self.answers]
        if not found or None in found:
            raise SpecError(
                f"answers must hold at least one answer, none of them blank, got {list(self.answers)!r:.200}"
            )
        return tuple(dict.fromkeys(a for a in found if a is not None))

    def _frequent(self, cells: pd.Series) -> tuple[str, ...]:
        given = Counter(answer for row in said(cells, several=True) for answer in row)
        forms = {answer: normalised(answer) for answer in given}
        counts: Counter[str] = Counter()
        for answer, count in given.items():
            counts[forms[answer]] += count
        found = tuple(answer for answer in given if counts[forms[answer]] >= self.min_count)
        if counts and not found:
            answer, most = counts.most_common(1)[0]
            raise SpecError(
                f"min_count must leave some answers: none is given {self.min_count} times, the most "
                f"frequent, {answer!r}, {most} times"
            )
        return found

    def _check(self, frame: pd.DataFrame, answer: str | None = None) -> None:
        named = self._fit().plan.roles
        check_columns(frame, named if answer is None else {**named, answer: "answer"})


def _list_of(fitted: FittedWriter | FittedChooser) -> tuple[str, ...]:
    if fitted.plan.answers is None:
        raise SpecError('there is no answer list to rank; fit with answers="auto", or how="beam"')
    return fitted.plan.answers


def _answers(
    fitted: FittedWriter | FittedChooser,
    frame: pd.DataFrame,
    root: Path | None,
    how: str | None,
    k: int,
    decoding: Decoding,
) -> list[str]:
    how = how or ("beam" if fitted.plan.answers is None else "rank")
    if how == "rank":
        known = _list_of(fitted)
        which, _ = fitted.ranked(frame, root, k)
        return [known[i] for i in which[:, 0]]
    return fitted.written(frame, root, decoding)


def _measured(found: list[str], truth: list[list[str]], looked: list[int], seed: int) -> Answered:
    """By what several people said where there are enough of them, else by what most of them said."""
    if truth and min(map(len, truth)) >= LEAST:
        return answered(found, truth, groups=looked, seed=seed)
    most = [most_frequent(row, i) for i, row in enumerate(truth)]
    return answered(found, most, groups=looked, seed=seed)
