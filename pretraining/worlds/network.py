"""A small BLIP whose text encoder and decoder share all but self-attention, and its losses."""

import json
from pathlib import Path

import torch
from jaxtyping import Bool, Float, Int
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import BlipConfig, BlipForImageTextRetrieval
from transformers.models.blip.modeling_blip_text import BlipTextLMHeadModel

from multiadapt.crossmodal._cross import CrossPass, Seen, mind_masks
from worlds.drawing import PATCHES, SIDE
from worlds.lessons import LABELS, MEAN, STD, Lesson, Words
from worlds.wording import DEC, LIMIT, PAD, PROMPT, SEP, tokenizer, vocabulary

__all__ = ["Pupil", "export"]

WIDTH, HEADS, DEPTH = 128, 4, 4


def settings() -> BlipConfig:
    tower = {
        "hidden_size": WIDTH,
        "num_hidden_layers": DEPTH,
        "num_attention_heads": HEADS,
        "intermediate_size": 4 * WIDTH,
    }
    vision = {**tower, "image_size": SIDE, "patch_size": SIDE // PATCHES, "initializer_range": 0.02}
    text = {
        **tower,
        "encoder_hidden_size": WIDTH,
        "vocab_size": len(vocabulary()),
        "max_position_embeddings": LIMIT,
        "bos_token_id": DEC,
        "eos_token_id": SEP,
        "sep_token_id": SEP,
        "pad_token_id": PAD,
    }
    return BlipConfig(vision_config=vision, text_config=text, image_text_hidden_size=128)


class Pupil(nn.Module):
    """The towers with the decoder, and heads that only pretraining needs."""

    def __init__(self) -> None:
        super().__init__()
        config = settings()
        self.towers = BlipForImageTextRetrieval(config)
        self.decoder = BlipTextLMHeadModel(self.towers.text_encoder.config)
        self._share()
        self.cross = CrossPass(self.towers.text_encoder)
        mind_masks(self.decoder.bert)
        self.log_temperature = nn.Parameter(torch.tensor(0.07).log())
        self.widths = [len(names) + 1 for names in LABELS]
        self.patches = nn.Linear(WIDTH, sum(self.widths))

    def _share(self) -> None:
        """As BLIP's pretraining does: reading and writing differ in self-attention alone."""
        own, other = self.towers.text_encoder, self.decoder.bert
        other.embeddings = own.embeddings
        for mine, its in zip(own.encoder.layer, other.encoder.layer, strict=True):
            its.crossattention, its.intermediate, its.output = (
                mine.crossattention,
                mine.intermediate,
                mine.output,
            )
        self.decoder.cls.predictions.decoder.weight = own.embeddings.word_embeddings.weight
        self.decoder.cls.predictions.decoder.bias = self.decoder.cls.predictions.bias

    def losses(self, batch: Lesson, *, match: bool = True) -> dict[str, Tensor]:
        """By name; those of questions only where there are any, that of matching pairs if asked."""
        states = self.towers.vision_model(batch.pixels).last_hidden_state
        found = {"patches": self._patches(states[:, 1:], batch.labels)}
        rows = len(batch.names)
        near = self.near(states[:, 0].unflatten(0, (rows, -1)).mean(1), batch.captions)
        seen = Seen(states.unflatten(0, (rows, -1)).flatten(1, 2))
        found["contrast"] = _contrast(near, _same(batch.names))
        if match:
            found["match"] = self._match(near, batch, seen)
        found["write"] = self._written(batch.written, seen, len(PROMPT.split()))
        if batch.asked is not None:
            asked, answers = batch.asked
            read = self.cross(asked.ids, asked.mask, seen)
            found["answer"] = self._written(answers, Seen(read, asked.mask), 0)
        return found

    def near(self, pooled: Float[Tensor, "b d"], texts: Words) -> Float[Tensor, "b b"]:
        """Similarities of pictures, in rows, and texts, divided by the temperature."""
        read = self.towers.text_encoder(texts.ids, attention_mask=texts.mask.long())
        told = F.normalize(self.towers.text_proj(read.last_hidden_state[:, 0]).float(), dim=1)
        shown = F.normalize(self.towers.vision_proj(pooled).float(), dim=1)
        return shown @ told.T / self.log_temperature.exp().clamp(0.001, 0.5)

    def _patches(
        self, states: Float[Tensor, "f p d"], labels: Int[Tensor, "f p 3"]
    ) -> Float[Tensor, ""]:
        """Each patch says shape, colour and pattern of what covers it."""
        guesses = self.patches(states).float().split(self.widths, dim=2)
        parts = [
            F.cross_entropy(guess.flatten(0, 1), labels[..., i].flatten())
            for i, guess in enumerate(guesses)
        ]
        return torch.stack(parts).sum()

    def _match(self, near: Float[Tensor, "b b"], batch: Lesson, seen: Seen) -> Float[Tensor, ""]:
        """Half of the pairs as they are; of the others half with a hard text, half with a hard picture."""
        rows = len(near)
        wrong = near.detach().masked_fill(_same(batch.names), -torch.inf)
        half, quarter = rows // 2, rows // 4
        there = torch.arange(rows)
        texts = torch.multinomial(wrong[half : half + quarter].softmax(1), 1)[:, 0]
        shown = torch.multinomial(wrong.T[half + quarter :].softmax(1), 1)[:, 0]
        words = torch.cat([there[:half], texts, there[half + quarter :]])
        looked = torch.cat([there[: half + quarter], shown])
        read = self.cross(batch.captions.ids[words], batch.captions.mask[words], seen.rows(looked))
        return F.cross_entropy(self.towers.itm_head(read[:, 0]).float(), (there < half).long())

    def _written(self, texts: Words, seen: Seen, prompt: int) -> Float[Tensor, ""]:
        """The mean over the tokens behind the prompt."""
        aims = texts.ids.masked_fill(~texts.mask, -100)[:, 1:].clone()
        aims[:, :prompt] = -100
        logits = self.decoder(
            input_ids=texts.ids[:, :-1],
            encoder_hidden_states=seen.x,
            encoder_attention_mask=None if seen.mask is None else seen.mask.long(),
            use_cache=False,
        ).logits
        return F.cross_entropy(logits.float().flatten(0, 1), aims.flatten())


def _same(names: tuple[str, ...]) -> Bool[Tensor, "b b"]:
    numbers = {name: i for i, name in enumerate(names)}
    which = torch.tensor([numbers[name] for name in names])
    return which[:, None] == which


def _contrast(near: Float[Tensor, "b b"], same: Bool[Tensor, "b b"]) -> Float[Tensor, ""]:
    aim = same / same.sum(1, keepdim=True)
    ways = [-(logits.log_softmax(1) * aim).sum(1).mean() for logits in (near, near.T)]
    return torch.stack(ways).mean()


def export(pupil: Pupil, folder: Path) -> None:
    """A float16 folder that BLIP's classes for retrieval, answering and captioning open."""
    folder.mkdir(parents=True, exist_ok=True)
    state = {**pupil.towers.state_dict()}
    state |= {f"text_decoder.{name}": t for name, t in pupil.decoder.state_dict().items()}
    tied = "text_decoder.cls.predictions.decoder."
    whole = {
        name: (t.half() if t.is_floating_point() else t).clone().contiguous()
        for name, t in state.items()
        if not name.startswith(tied)
    }
    save_file(whole, folder / "model.safetensors", {"format": "pt"})
    config = pupil.towers.config.to_dict()
    tasks = ("ImageTextRetrieval", "QuestionAnswering", "ConditionalGeneration")
    config["architectures"] = [f"BlipFor{task}" for task in tasks]
    config["dtype"] = "float32"  # stored halved, opened whole
    _write(folder / "config.json", config)
    size = {"height": SIDE, "width": SIDE}
    processor = {"image_processor_type": "BlipImageProcessor", "size": size, "resample": 3}
    processor |= {
        "do_resize": True,
        "do_rescale": True,
        "do_normalize": True,
        "do_convert_rgb": True,
    }
    processor |= {"rescale_factor": 1 / 255, "image_mean": [MEAN] * 3, "image_std": [STD] * 3}
    _write(folder / "preprocessor_config.json", processor)
    tokenizer().save_pretrained(folder)


def _write(path: Path, content: dict[str, object]) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
