"""Opening a pretrained network: the package's own, a folder, a hub name, or random weights."""

import os
import re
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path
from typing import Any, TypeAlias

import torch
import transformers
from safetensors import SafetensorError
from torch import nn
from transformers import AutoConfig
from transformers.utils import logging as library_logging
from transformers.utils.hub import cached_file

from multiadapt.encoders._base import Origin
from multiadapt.encoders._families._base import Family, families, family_of
from multiadapt.encoders._families._lean import lean
from multiadapt.encoders._families._preparation import Preparation
from multiadapt.encoders._fingerprint import fingerprint
from multiadapt.errors import EncoderError

__all__ = [
    "Opened",
    "Prepare",
    "Whole",
    "explained",
    "hub_reached",
    "model_type",
    "open_network",
    "open_whole",
    "quiet",
    "sealed",
]


@dataclass(frozen=True)
class Opened:
    """A network in evaluation mode without gradients, and what goes with it."""

    family: Family
    preparation: Any
    """A `Preparation`."""
    origin: Origin


Prepare: TypeAlias = Callable[[str | None, Any, str | None], Preparation]
"""The preparation of a checkpoint: its folder or hub name (None: random weights), config, revision."""


def open_network(source: str, modality: str, prepare: Prepare, revision: str | None) -> Opened:
    """The network that `source` names; EncoderError where it cannot be had."""
    if source.startswith("random:"):
        return sealed(_random(source, modality, prepare))
    return sealed(_pretrained(source, modality, prepare, revision))


@dataclass(frozen=True)
class Whole:
    """A network of several towers, in evaluation mode without gradients."""

    network: Any
    place: str | None
    """Folder or hub name; None: its weights are random."""
    origin: Origin


def open_whole(
    source: str, classes: Mapping[str, str], known: Mapping[str, Any], revision: str | None
) -> Whole:
    """A network of several towers as one; EncoderError where it cannot be had.

    `classes` maps a config's `model_type` to the class of transformers that reads it; `known` names
    architectures, as config values with their `model_type`, for "random:NAME".
    """
    if source.startswith("random:"):
        name = source.removeprefix("random:")
        if name not in known:
            raise EncoderError(
                f"no architecture is named {name!r}; there are {', '.join(sorted(known))}"
            )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            config = AutoConfig.for_model(**known[name])
            network = getattr(transformers, classes[config.model_type])(config)
        return _whole(network, None, Origin(source, licence="none: random weights"))
    place = _place(source, "vision-language")
    with quiet(), explained(source):
        config = AutoConfig.from_pretrained(place, revision=revision)
        if config.model_type not in classes:
            raise EncoderError(
                f"{source} is a network of type {config.model_type!r}; choose one of type "
                f"{', '.join(sorted(classes))}"
            )
        network, report = getattr(transformers, classes[config.model_type]).from_pretrained(
            place, config=config, revision=revision, dtype=torch.float32, output_loading_info=True
        )
        _check_whole(source, report)
        licence = "Apache-2.0" if source == "starter" else _licence(place, revision)
    commit = getattr(config, "_commit_hash", None) or revision
    return _whole(network, place, Origin(source, "", commit, licence))


def _whole(network: Any, place: str | None, origin: Origin) -> Whole:
    network = _frozen(network)
    return Whole(network, place, replace(origin, sha256=_hash(network)))


def _check_whole(source: str, report: Mapping[str, Any]) -> None:
    if missing := sorted(report["missing_keys"]):
        raise EncoderError(f"{source} lacks {len(missing)} tensors of its network: {missing[:5]}")


def reads(source: str, modality: str, revision: str | None) -> bool:
    """Whether the network that `source` names is of a family that reads this modality."""
    found = families(modality)
    if source.startswith("random:"):
        return any(source.removeprefix("random:") in family.known for family in found)
    kind = model_type(source, modality, revision)
    return any(kind in family.classes for family in found)


def model_type(source: str, modality: str, revision: str | None) -> str:
    """The kind of network that a folder or a hub name holds, as its config has it."""
    with quiet(), explained(source):
        return AutoConfig.from_pretrained(_place(source, modality), revision=revision).model_type


def sealed(opened: Opened) -> Opened:
    """The same in evaluation mode, without gradients, with tensors of its own and its hash taken."""
    network = _frozen(opened.family.network)
    return replace(opened, origin=replace(opened.origin, sha256=_hash(network)))


def _frozen(network: nn.Module) -> nn.Module:
    """The network in evaluation mode, without gradients, with tensors of its own, laid out for speed.

    Loading maps the file: whoever overwrites that file would change the running network. A CNN runs
    up to 1.5 times as fast on a CPU with its channels last.
    """
    for tensor in (*network.parameters(), *network.buffers()):
        layout = torch.channels_last if tensor.ndim == 4 else torch.contiguous_format
        tensor.data = tensor.data.clone(memory_format=layout)
    return lean(network.requires_grad_(False).eval())


def _hash(network: nn.Module) -> str:
    return "" if any(p.is_meta for p in network.parameters()) else fingerprint(network)


def _random(source: str, modality: str, prepare: Prepare) -> Opened:
    name = source.removeprefix("random:")
    known = {k: (f, values) for f in families(modality) for k, values in f.known.items()}
    if name not in known:
        also = ", timm:NAME" if modality == "image" else ""
        raise EncoderError(
            f"no architecture is named {name!r}; there are {', '.join(sorted(known))}{also}"
        )
    family, values = known[name]
    with torch.random.fork_rng(devices=[]):  # the caller's generator stays where it is
        torch.manual_seed(0)
        config = AutoConfig.for_model(**{**values, **family.settings})
        network = _class(family, config)(config, **family.options)
    origin = Origin(source, licence="none: random weights")
    return Opened(family(network), prepare(None, config, None), origin)


def _pretrained(source: str, modality: str, prepare: Prepare, revision: str | None) -> Opened:
    place = _place(source, modality)
    with quiet(), explained(source):
        config = AutoConfig.from_pretrained(place, revision=revision)
        family = family_of(config.model_type, modality, source)
        config = getattr(
            config, _TOWERS.get(modality, ""), config
        )  # CLIP and SigLIP have two towers
        config.update(dict(family.settings))
        network, report = _class(family, config).from_pretrained(
            place,
            config=config,
            revision=revision,
            dtype=torch.float32,
            output_loading_info=True,
            **family.options,
        )
        _check_whole(source, report)
        preparation = prepare(place, config, revision)
        licence = "Apache-2.0" if source == "starter" else _licence(place, revision)
    commit = getattr(config, "_commit_hash", None) or revision
    return Opened(family(network), preparation, Origin(source, "", commit, licence))


_TOWERS: Mapping[str, str] = {"image": "vision_config", "text": "text_config"}


def _class(family: type[Family], config: Any) -> Any:
    return getattr(transformers, family.classes[config.model_type])


def _place(source: str, modality: str) -> str:
    """What transformers is given: a folder that exists, or a hub name."""
    if source == "starter":
        folder = Path(str(resources.files("multiadapt"))) / "starter" / modality
    else:
        folder = Path(source).expanduser()
    named = source == "starter" or source.count("/") > 1 or source[0] in "./~\\"
    if not folder.is_dir() and not named:
        return source
    if not (folder / "config.json").is_file():
        found = "it has no config.json" if folder.is_dir() else "there is no such folder"
        raise EncoderError(
            f"{source} must be a folder with config.json and model.safetensors, as save_pretrained "
            f"writes it; {found}"
        )
    return str(folder)


def _licence(place: str, revision: str | None) -> str:
    """What the model card's heading says; "unknown" where it says nothing or cannot be had."""
    card = cached_file(
        place,
        "README.md",
        revision=revision,
        _raise_exceptions_for_missing_entries=False,
        _raise_exceptions_for_connection_errors=False,
    )
    text = Path(card).read_text(encoding="utf-8", errors="replace") if card else ""
    heading = re.match(r"---\n(.*?)\n---\s", text, re.DOTALL)
    found = re.search(r"^license:[ ]*(\S+)", heading[1], re.MULTILINE) if heading else None
    return found[1] if found else "unknown"


def hub_reached() -> bool:
    """Whether the hub answers; asked briefly."""
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "TRUE", "YES", "ON"):
        return False
    try:
        with socket.create_connection(("huggingface.co", 443), timeout=2):
            return True
    except OSError:
        return False


@contextmanager
def explained(source: str) -> Iterator[None]:
    """Turns what the library raises into one error that says what to do."""
    try:
        yield
    except EncoderError:
        raise
    except (OSError, ValueError, RuntimeError, KeyError, SafetensorError) as error:
        first = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
        raise EncoderError(
            f"{source} cannot be opened as a folder or fetched from the hub: {first}. Give a local "
            'folder that save_pretrained wrote, or "starter" for the encoder inside this package'
        ) from error


@contextmanager
def quiet() -> Iterator[None]:
    """No progress bars and no tables of unused weights; both are settings of the whole process."""
    level, bars = library_logging.get_verbosity(), library_logging.is_progress_bar_enabled()
    library_logging.set_verbosity_error()
    library_logging.disable_progress_bar()
    try:
        yield
    finally:
        library_logging.set_verbosity(level)
        if bars:
            library_logging.enable_progress_bar()
