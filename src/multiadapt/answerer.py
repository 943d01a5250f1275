"""scikit-learn face of answering: questions about pictures."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator
from sklearn.exceptions import NotFittedError

from multiadapt.crossmodal._base import BackboneSpec
from multiadapt.crossmodal._texts import said
from multiadapt.crossmodal._writing import Decoding
from multiadapt.data.values import text
from multiadapt.errors import SpecError
from multiadapt.gather import Roles, Source, opened, parted
from multiadapt.methods._base import Method, Training
from multiadapt.reports.progress import showing
from multiadapt.tasks._answer_metrics import LEAST, Answered, answered, normalised
from multiadapt.training import Session, device_of
from multiadapt.writing import (
    RECIPE,
    Base,
    FittedWriter,
    WritingPlan,
    blip_of,
    fit_texts,
    method_of,
    schema_of,
    table_of,
    warn_outside,
)
from multiadapt.writing_files import load_writer, read_donor, save_writer

__all__ = ["QuestionAnswerer"]


class QuestionAnswerer(BaseEstimator):
    """Answers questions about pictures, in words of its own or from a list.

    Args:
        method: what is trained in the frozen network; a spec, or a name such as "uniadapter", "lora". The
            network has no new head: "frozen" trains nothing and is the network as it is.
        backbone: a BLIP network with a decoder by folder or hub name, or its spec.
        training: the recipe.
        answers: the list that is ranked: "auto", all answers of the training rows; a list of one's own; or
            None, there is none and answers are written.
        smoothing: share of the loss in which every token is as good as the right one.
        validation: share of pictures held out for early stopping where no rows are given; 0: none.
        on_error: "missing" treats an unreadable file as missing, which a row must not have: it is left out
            by you, or an error names it.
        max_files: most pictures in one cell.
        device: "cpu", "cuda" ...; None picks a GPU where there is one.
        memory: gigabytes of frozen computation that may be kept.
    """

    def __init__(
        self,
        method: str | Method = "uniadapter",
        *,
        backbone: str | BackboneSpec = "Salesforce/blip-vqa-base",
        training: Training | None = None,
        answers: Literal["auto"] | Sequence[str] | None = "auto",
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
        self.answers = answers
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
        image: str,
        question: str,
        answer: str,
        val_data: Source = None,
        split_column: str | None = None,
        root: str | Path | None = None,
        time_limit: float | None = None,
        resume: str | Path | None = None,
        init_from: str | Path | None = None,
        base: Base = "same",
    ) -> "QuestionAnswerer":
        """Train on a table with one question a row.

        Args:
            image, question: the columns of pictures and of questions.
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
        """
        table = opened(X, root)
        Roles([image, question, answer], split_column).check(table.frame)
        train, held = parted(table, split_column, val_data, root)
        if held is not None:
            Roles([image, question, answer]).check(held.frame)
        kinds = {image: "image", question: "text"}
        schema = schema_of(train.frame, kinds, table.root, self.max_files)  # type: ignore[arg-type]
        plan = WritingPlan(
            method_of(self.method), blip_of(self.backbone), self.training or RECIPE, schema,
            image, question, answer, "", self.smoothing, self._list(cast(pd.Series, train.frame[answer])),
            table.root, self.seed, self.validation, self.on_error, device_of(self.device), self.memory,
        )  # fmt: skip
        plan.check()
        donor = None if init_from is None else read_donor(init_from)
        with showing(verbose=self.verbose) as tell:
            session = Session(time_limit, Path(resume) if resume else None, tell=tell)
            self.fitted_ = fit_texts(plan, train, held, session=session, donor=donor, base=base)
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
        fitted, table = self._fit(), opened(X, root)
        self._check(table.frame)
        written: Any = "beam" if how in (None, "rank") else how
        decoding = Decoding(written, beams, top_p, max_length, seed)
        found = _answers(fitted, table.frame, table.root, how, k, decoding)
        return pd.Series(found, table.frame.index, dtype=object, name=fitted.plan.text)

    def rank(self, X: Source, k: int = 5, *, root: str | Path | None = None) -> list[pd.DataFrame]:
        """For each row the k likeliest answers of the list, best first: `answer` and `log_likelihood`."""
        fitted, table = self._fit(), opened(X, root)
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

        With 95 % bootstrap intervals over pictures.

        Args:
            where: such as "split=test".
            how, k: as in `predict`.
            zero_shot: measure the network as it was before training too; a warning says where training
                made it worse.
        """
        fitted, table = self._fit(), opened(X, root, where)
        plan = fitted.plan
        self._check(table.frame, plan.text)
        truth = said(cast(pd.Series, table.frame[plan.text]), several=True)
        if plan.answers is not None and how in (None, "rank"):
            warn_outside(plan.answers, truth)
        written: Any = "beam" if how in (None, "rank") else how
        decoding = Decoding(written, max_length=10, seed=seed)
        models = {"adapted": fitted, **({"zero-shot": fitted.base()} if zero_shot else {})}
        found = {
            name: _measured(
                _answers(one, table.frame, table.root, how, k, decoding),
                truth,
                table.frame[plan.image].astype(str).tolist(),
                seed,
            )
            for name, one in models.items()
        }
        least = "vqa_accuracy" if "vqa_accuracy" in found["adapted"].estimates else "exact_match"
        return table_of(found, least)

    def save(self, folder: str | Path) -> None:
        """Write the trained tensors and what is needed to use them; the frozen network is named, not copied."""
        save_writer(self._fit(), folder)

    @staticmethod
    def load(
        folder: str | Path, *, backbone: str | BackboneSpec | None = None, device: str | None = None
    ) -> "QuestionAnswerer":
        """A saved answerer; `backbone` names another place of its network."""
        spec = None if backbone is None else blip_of(backbone)
        fitted = load_writer(folder, "answering", device_of(device), spec)
        plan = fitted.plan
        model = QuestionAnswerer(
            plan.method,
            backbone=plan.backbone,
            training=plan.training,
            answers=plan.answers,
            smoothing=plan.smoothing,
            seed=plan.seed,
            validation=plan.validation,
            on_error=plan.on_error,
            max_files=plan.schema.max_files,
            device=device,
            memory=plan.memory,
        )
        model.fitted_ = fitted
        return model

    def _list(self, cells: pd.Series) -> tuple[str, ...] | None:
        if self.answers is None:
            return None
        if isinstance(self.answers, str):
            if self.answers != "auto":
                raise SpecError(
                    f'answers must be "auto", a list of answers or None, got {self.answers!r}'
                )
            return tuple(dict.fromkeys(a for row in said(cells, several=True) for a in row))
        found = [text(a) for a in self.answers]
        if not found or None in found:
            raise SpecError(
                f"answers must hold at least one answer, none of them blank, got {list(self.answers)!r:.200}"
            )
        return tuple(dict.fromkeys(a for a in found if a is not None))

    def _check(self, frame: pd.DataFrame, *more: str) -> None:
        plan = self._fit().plan
        Roles([plan.image, cast(str, plan.question), *more]).check(frame)

    def _fit(self) -> FittedWriter:
        if not hasattr(self, "fitted_"):
            raise NotFittedError("this answerer is not fitted yet; call fit or load first")
        return self.fitted_


def _list_of(fitted: FittedWriter) -> tuple[str, ...]:
    if fitted.plan.answers is None:
        raise SpecError('there is no answer list to rank; fit with answers="auto", or how="beam"')
    return fitted.plan.answers


def _answers(
    fitted: FittedWriter,
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


def _measured(found: list[str], truth: list[list[str]], pictures: list[str], seed: int) -> Answered:
    """By what several people said where there are enough of them, else by what most of them said."""
    if truth and min(map(len, truth)) >= LEAST:
        return answered(found, truth, groups=pictures, seed=seed)
    return answered(found, [_most(row) for row in truth], groups=pictures, seed=seed)


def _most(row: list[str]) -> str:
    """The most frequent answer, of equally frequent ones the first."""
    forms = [normalised(a) for a in row]
    counts = Counter(forms)
    return row[int(np.argmax([counts[f] for f in forms]))]
