"""The loop: resuming to the same bits, stopping, what is kept in memory, sums that must agree."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file
from tiny_text import TINY, WORDS, make_text_network, make_tokenizer

from multiadapt import U2A, Full, LoRA, MultimodalClassifier, PlainLoRA, TIAdapter, Training
from multiadapt.encoders._families.resnet import ResNet
from multiadapt.encoders._pretrained import Backbone
from multiadapt.errors import ArtifactError, SpecError, TrainingError
from multiadapt.methods._image_branch import ImageBranch
from multiadapt.resume_file import ResumeFile
from multiadapt.training import _alike

METHOD = TIAdapter(image=ImageBranch(variant="bc1"))


def classifier(network: Path, training: Training, **options: object) -> MultimodalClassifier:
    encoders = {"image": str(network), "tabular": "mlp"}
    method = options.pop("method", METHOD)
    return MultimodalClassifier(
        method, encoders=encoders, training=training, verbose=False, **options
    )


def fit(network, table, photos, training, **given) -> MultimodalClassifier:
    options = given.pop("options", {})
    frame = table.drop(columns="price")
    return classifier(network, training, **options).fit(frame, label="kind", root=photos, **given)


def state(model: MultimodalClassifier) -> dict[str, torch.Tensor]:
    return model.fitted_.model.trained_state()


def same_bits(one: dict[str, torch.Tensor], two: dict[str, torch.Tensor]) -> bool:
    return one.keys() == two.keys() and all(torch.equal(t, two[k]) for k, t in one.items())


def test_a_run_learns_what_the_photo_shows(network, table, photos) -> None:
    model = fit(network, table, photos, Training(epochs=15, batch_size=16, learning_rate=1e-2))
    history = model.fitted_.info["history"]["epochs"]
    assert history[-1]["loss"] < 0.5 * history[0]["loss"]
    assert model.evaluate(table, root=photos).loc["accuracy", "value"] > 0.9


class PowerCutError(Exception):
    """Stands for the power going out."""


@pytest.mark.parametrize("batch", range(1, 9))
def test_resume_at_any_step_gives_the_same_bits(
    batch, network, table, photos, tmp_path, monkeypatch
) -> None:
    training = Training(epochs=3, batch_size=16, accumulate=2, clip=1.0)
    whole = fit(network, table, photos, training)
    monkeypatch.setattr(ResumeFile, "every", 0.0)
    write, calls = ResumeFile.write, []

    def cut_after(self, *given) -> None:
        write(self, *given)
        calls.append(1)
        if len(calls) == batch:
            raise PowerCutError

    monkeypatch.setattr(ResumeFile, "write", cut_after)
    with pytest.raises(PowerCutError):
        fit(network, table, photos, training, resume=tmp_path / "run")
    monkeypatch.setattr(ResumeFile, "write", write)
    resumed = fit(network, table, photos, training, resume=tmp_path / "run")
    assert same_bits(state(whole), state(resumed))
    assert [e["loss"] for e in whole.fitted_.info["history"]["epochs"]] == [
        e["loss"] for e in resumed.fitted_.info["history"]["epochs"]
    ]


def test_resume_keeps_the_order_in_memory_of_a_network_s_own_weights(
    network, table, photos, tmp_path, monkeypatch
) -> None:
    """Convolutions lie channels last; one update of all tensors reads them as they lie in memory."""
    training = Training(epochs=2, batch_size=16, accumulate=2)

    def run(**given: object) -> MultimodalClassifier:
        model = MultimodalClassifier(
            Full(),
            encoders={"image": str(network), "tabular": "mlp"},
            training=training,
            verbose=False,
        )
        return model.fit(table.drop(columns="price"), label="kind", root=photos, **given)

    whole = run()
    monkeypatch.setattr(ResumeFile, "every", 0.0)
    write, calls = ResumeFile.write, []

    def cut_after(self, *given) -> None:
        write(self, *given)
        calls.append(1)
        if len(calls) == 3:
            raise PowerCutError

    monkeypatch.setattr(ResumeFile, "write", cut_after)
    with pytest.raises(PowerCutError):
        run(resume=tmp_path / "run")
    monkeypatch.setattr(ResumeFile, "write", write)
    assert same_bits(state(whole), state(run(resume=tmp_path / "run")))


SCRIPT = """
import sys
import pandas as pd, torch
torch.set_num_threads(1)
from pathlib import Path
from multiadapt import MultimodalClassifier, TIAdapter, Training
from multiadapt.methods._image_branch import ImageBranch
from multiadapt.resume_file import ResumeFile
ResumeFile.every = 0.0
network, photos, out, resume = sys.argv[1:]
model = MultimodalClassifier(TIAdapter(image=ImageBranch(variant="bc1")), encoders={"image": network, "tabular": "mlp"},
    training=Training(epochs=30, batch_size=16, patience=None), verbose=False)
frame = pd.read_parquet(Path(photos) / "table.parquet").drop(columns="price")
model.fit(frame, label="kind", root=photos, resume=resume)
model.save(out)
"""


def test_resume_after_kill_9_gives_the_same_bits(network, photos, tmp_path) -> None:
    def start(name: str) -> subprocess.Popen[bytes]:
        places = [str(network), str(photos), str(tmp_path / name), str(tmp_path / f"{name}.resume")]
        return subprocess.Popen(
            [sys.executable, "-c", SCRIPT, *places], env={**os.environ, "OMP_NUM_THREADS": "1"}
        )

    whole, killed = start("whole"), start("killed")
    file = tmp_path / "killed.resume"
    while not file.exists() and killed.poll() is None:
        time.sleep(0.01)
    time.sleep(0.3)  # somewhere in the middle of an epoch
    assert killed.poll() is None, "it ended before it could be killed"
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    assert start("killed").wait() == 0
    assert whole.wait() == 0
    one, two = (load_file(tmp_path / n / "adapter.safetensors") for n in ("whole", "killed"))
    assert same_bits(one, two)


def test_resume_file_holds_trainables_and_optimizer_only(network, table, photos, tmp_path) -> None:
    model = fit(network, table, photos, Training(epochs=1), resume=tmp_path / "run")
    kept = load_file(tmp_path / "run")
    assert {k.split(":")[0] for k in kept} <= {"now", "best", "optimizer", "gradient", "rng"}
    assert {k.removeprefix("now:") for k in kept if k.startswith("now:")} == state(model).keys()


def test_resume_file_of_another_run_is_refused(network, table, photos, tmp_path) -> None:
    fit(network, table, photos, Training(epochs=1), resume=tmp_path / "run")
    for change in (
        {"training": Training(epochs=1, decay=0.5)},
        {"options": {"seed": 1}},
        {"table": table.assign(size=table["size"] + 1)},
        {"table": table.assign(kind=table["kind"].to_numpy()[::-1])},
    ):
        given = {"table": table, "training": Training(epochs=1)} | change
        with pytest.raises(ArtifactError, match="belongs to another run"):
            fit(network, photos=photos, resume=tmp_path / "run", **given)
    (tmp_path / "run").write_bytes(b"cut off")
    with pytest.raises(ArtifactError, match="is no resume file that can be read"):
        fit(network, table, photos, Training(epochs=1), resume=tmp_path / "run")


def test_more_epochs_continue_a_finished_run(network, table, photos, tmp_path) -> None:
    fit(network, table, photos, Training(epochs=2), resume=tmp_path / "run")
    more = fit(network, table, photos, Training(epochs=4), resume=tmp_path / "run")
    assert same_bits(state(more), state(fit(network, table, photos, Training(epochs=4))))


def test_diverged_run_is_an_error(network, table, photos) -> None:
    with pytest.raises(
        TrainingError, match=r"the loss must be finite; it is (nan|inf) at epoch \d+, batch"
    ):
        fit(network, table, photos, Training(epochs=9, learning_rate=1e30))


def test_clipping_bounds_the_step(network, table, photos) -> None:
    """AdamW divides the gradient by its size, but not by less than 1e-8: below that, steps shrink."""
    base = {"epochs": 1, "batch_size": 1000, "weight_decay": 0.0}
    start, free, clipped = (
        state(fit(network, table, photos, Training(**base, **change)))["head:linear.weight"]
        for change in ({"learning_rate": 1e-30}, {}, {"clip": 1e-12})
    )
    assert (clipped - start).abs().max() < 1e-2 * (free - start).abs().max()


def test_callers_random_numbers_are_the_callers(network, table, photos) -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    fit(network, table, photos, Training(epochs=1))
    assert torch.equal(torch.rand(3), expected)


def test_finished_run_is_not_trained_again(network, table, photos, tmp_path) -> None:
    first = fit(network, table, photos, Training(epochs=2), resume=tmp_path / "run")
    again = fit(network, table, photos, Training(epochs=2), resume=tmp_path / "run")
    assert same_bits(state(first), state(again))
    assert len(again.fitted_.info["history"]["epochs"]) == 2


def test_interrupt_keeps_the_best_so_far(network, table, photos, monkeypatch, caplog) -> None:
    from multiadapt import training as loop

    two = fit(network, table, photos, Training(epochs=2, batch_size=16))
    order = loop._Run._order

    def interrupted(self):
        if self.at.epoch == 2:
            raise KeyboardInterrupt
        return order(self)

    monkeypatch.setattr(loop._Run, "_order", interrupted)
    model = fit(network, table, photos, Training(epochs=9, batch_size=16))
    assert "interrupted: the best weights so far" in caplog.text
    assert model.fitted_.info["history"]["stopped"] == "interrupt"
    assert same_bits(state(model), state(two))


def test_time_limit_ends_early_and_still_predicts(network, table, photos) -> None:
    model = fit(network, table, photos, Training(epochs=10_000, patience=None), time_limit=0.5)
    history = model.fitted_.info["history"]
    assert history["stopped"] == "time_limit"
    assert 1 <= len(history["epochs"]) < 10_000
    assert model.predict(table).isin(["red", "blue"]).all()


def test_patience_stops_and_restores_the_best_epoch(network, table, photos) -> None:
    training = Training(epochs=60, batch_size=16, learning_rate=0.05, patience=2)
    history = fit(network, table, photos, training).fitted_.info["history"]
    losses = [e["validation_loss"] for e in history["epochs"]]
    assert history["stopped"] == "patience"
    assert history["best_epoch"] == int(np.argmin(losses)) + 1 == len(losses) - 2


def test_without_validation_the_last_epoch_stays(network, table, photos) -> None:
    model = fit(network, table, photos, Training(epochs=3), options={"validation": 0.0})
    assert model.fitted_.info["history"]["best_epoch"] == 3
    assert model.fitted_.info["validation_rows"] == 0


def test_learning_rate_follows_the_schedule(network, table, photos) -> None:
    training = Training(epochs=5, decay_every=2, decay=0.5, learning_rate=1e-3, patience=None)
    records = fit(network, table, photos, training).fitted_.info["history"]["epochs"]
    assert [r["learning_rate"] for r in records] == [1e-3, 1e-3, 5e-4, 5e-4, 2.5e-4]


def test_kept_prefix_changes_nothing(network, table, photos) -> None:
    training = Training(epochs=2, batch_size=16)
    kept = fit(network, table, photos, training)
    streamed = fit(network, table, photos, training, options={"memory": 0.0})
    first = [m.fitted_.info["history"]["epochs"][0]["loss"] for m in (kept, streamed)]
    assert first[0] == pytest.approx(first[1], rel=1e-5)
    np.testing.assert_allclose(
        kept.fitted_.scores(table, photos),
        streamed.fitted_.scores(table, photos),
        rtol=1e-3,
        atol=1e-4,
    )


def test_what_does_not_fit_in_memory_is_said(network, table, photos, caplog) -> None:
    with caplog.at_level("INFO", "multiadapt"):
        fit(network, table, photos, Training(epochs=1), options={"memory": 1e-6})
    assert "does not fit in memory and is computed again in every epoch" in caplog.text


def test_accumulated_batches_are_one_large_batch(network, table, photos) -> None:
    """Without BatchNorm, which sees each batch alone, and of equal sizes (48 rows train)."""
    method = TIAdapter(image=ImageBranch(variant="bc1", norm=False))
    base = {"epochs": 2, "normalize": False, "patience": None}
    found = [
        MultimodalClassifier(
            method,
            encoders={"image": str(network), "tabular": "starter"},
            training=t,
            verbose=False,
        ).fit(table.drop(columns=["price", "size", "colour"]), label="kind", root=photos)
        for t in (Training(batch_size=48, **base), Training(batch_size=24, accumulate=2, **base))
    ]
    for name, tensor in state(found[0]).items():
        torch.testing.assert_close(tensor, state(found[1])[name], rtol=1e-3, atol=1e-5)


def test_bf16_agrees_with_fp32_roughly(network, table, photos) -> None:
    losses = [
        fit(network, table, photos, Training(epochs=2, precision=p)).fitted_.info["history"][
            "epochs"
        ][-1]["loss"]
        for p in ("fp32", "bf16")
    ]
    assert losses[0] == pytest.approx(losses[1], rel=0.1)
    assert losses[0] != losses[1]


@pytest.mark.parametrize(
    "method",
    [
        TIAdapter(image=ImageBranch(variant="bc2", norm=False)),
        Full(),
        PlainLoRA(LoRA(lora_dropout=0.5)),
        U2A(),
    ],
    ids=lambda method: method.name,
)
def test_gradient_checkpointing_changes_no_bit(method, network, table, photos, monkeypatch) -> None:
    passes = []
    block = ResNet.block
    monkeypatch.setattr(
        ResNet, "block", lambda *args, **given: passes.append(1) or block(*args, **given)
    )

    def trained(*, on: bool) -> tuple[dict[str, torch.Tensor], int]:
        passes.clear()
        training = Training(epochs=2, batch_size=16, gradient_checkpointing=on)
        model = fit(network, table, photos, training, options={"method": method})
        return state(model), len(passes)

    (kept, once), (again, twice) = trained(on=False), trained(on=True)
    assert same_bits(kept, again)
    assert twice > once


def test_gradient_checkpointing_needs_a_block_to_compute_again(network, table, photos) -> None:
    with pytest.raises(SpecError, match="gradient_checkpointing has no block to compute again"):
        fit(network, table, photos, Training(epochs=1, gradient_checkpointing=True))


def test_a_resumed_run_may_begin_to_compute_again(network, table, photos, tmp_path) -> None:
    method = TIAdapter(image=ImageBranch(variant="bc2", norm=False))

    def trained(epochs: int, *, on: bool, **given: Path) -> dict[str, torch.Tensor]:
        recipe = Training(epochs=epochs, batch_size=16, gradient_checkpointing=on)
        return state(fit(network, table, photos, recipe, options={"method": method}, **given))

    trained(1, on=False, resume=tmp_path / "run")
    resumed = trained(2, on=True, resume=tmp_path / "run")
    assert same_bits(resumed, trained(2, on=False))


def test_sample_weights_of_zero_are_rows_that_are_not_there(network, table, photos) -> None:
    """Full-batch training without BatchNorm or statistics over rows: weightless rows leave no trace."""
    weight = np.ones(len(table))
    weight[::3] = 0
    method = TIAdapter(image=ImageBranch(variant="bc1", norm=False))
    training = Training(epochs=2, batch_size=1000, normalize=False)

    def trained(rows: np.ndarray, weight: np.ndarray | None) -> dict[str, torch.Tensor]:
        model = MultimodalClassifier(
            method,
            encoders={"image": str(network)},
            training=training,
            verbose=False,
            validation=0.0,
        )
        frame = table[["front", "kind"]].iloc[rows]
        return state(model.fit(frame, label="kind", root=photos, sample_weight=weight))

    every, some = np.arange(len(table)), np.flatnonzero(weight)
    one, two = trained(every, weight), trained(some, None)
    for name, tensor in one.items():
        torch.testing.assert_close(tensor, two[name], rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [
        ("epochs", 0, "epochs must be at least 1, got 0"),
        ("learning_rate", 0.0, r"learning_rate must be above 0, got 0\.0"),
        ("precision", "fp8", "precision must be one of 'fp32', 'bf16', got 'fp8'"),
    ],
)
def test_recipe_refuses_what_cannot_train(option: str, value: object, words: str) -> None:
    with pytest.raises(SpecError, match=words):
        Training(**{option: value})


@pytest.mark.parametrize(("option", "value"), [("time_limit", 60.0), ("resume", "run")])
def test_what_trains_nothing_takes_neither_limit_nor_resume_file(option, value, table) -> None:
    model = MultimodalClassifier("trees", verbose=False)
    frame = table[["size", "kind"]]
    with pytest.raises(SpecError, match=f"trains nothing step by step: leave {option}= out"):
        model.fit(frame, label="kind", **{option: value})


@pytest.mark.parametrize("rows", [37, 640, 1003])
def test_batches_of_like_lengths_hold_every_row_once(rows) -> None:
    lengths = np.random.default_rng(0).integers(1, 500, rows)
    drawn = np.random.default_rng(1).permutation(rows)
    found = _alike(drawn, lengths, 16, np.random.default_rng(2))
    assert sorted(found.tolist()) == list(range(rows))

    def padded(order: np.ndarray) -> int:
        return sum(16 * lengths[order[i : i + 16]].max() for i in range(0, rows // 16 * 16, 16))

    assert padded(found) < 0.85 * padded(drawn)
    assert np.array_equal(found[rows // 16 * 16 :], drawn[rows // 16 * 16 :])
    first = [lengths[found[i : i + 16]].mean() for i in range(0, rows // 16 * 16, 16)]
    assert rows < 640 or not np.all(np.diff(first) > 0)  # the batches are at random


def test_rows_of_like_lengths_train_together(tmp_path, monkeypatch) -> None:
    make_text_network(tmp_path / "text", **TINY)
    make_tokenizer(tmp_path / "text")
    dice = np.random.default_rng(0)
    texts = [" ".join(dice.choice(WORDS, n)) for n in dice.integers(1, 20, 64)]
    table = pd.DataFrame({"note": [None, *texts[1:]], "kind": ["a", "b"] * 32})
    passed: list[int] = []
    run = Backbone.run
    monkeypatch.setattr(
        Backbone,
        "run",
        lambda self, state, *rest: passed.append(state[..., 0].numel()) or run(self, state, *rest),
    )

    def tokens(*, on: bool) -> int:
        recipe = Training(epochs=2, batch_size=8, group_by_length=on, normalize=False)
        passed.clear()
        model = MultimodalClassifier(
            PlainLoRA(), encoders={"text": str(tmp_path / "text")}, training=recipe,
            column_types={"note": "text"}, validation=0.0, verbose=False,
        ).fit(table, label="kind")  # fmt: skip
        found = sum(passed)
        assert model.predict(table).notna().all()
        return found

    assert tokens(on=True) < 0.8 * tokens(on=False)


def test_like_lengths_are_of_texts(network, table, photos) -> None:
    with pytest.raises(SpecError, match="group_by_length is of models for the rows of tables"):
        fit(network, table, photos, Training(epochs=1, group_by_length=True))
