"""Rows of several models scored together: what their encoders have in common runs once for all."""

from collections import defaultdict
from collections.abc import Hashable, Iterator, Mapping, Sequence
from typing import NamedTuple, cast

import torch
from jaxtyping import Float
from torch import Tensor

from multiadapt.encoders._base import Encoder
from multiadapt.encoders._pretrained import PretrainedEncoder
from multiadapt.mixing import Corrections, Share, mixed
from multiadapt.model import AdaptedModel
from multiadapt.types import Inputs, Tokens

__all__ = ["Part", "joint_scores"]


class Part(NamedTuple):
    """Rows of one model, in evaluation mode."""

    model: AdaptedModel
    batch: Mapping[str, Inputs]


class _Stream(NamedTuple):
    """One stream of a part."""

    part: int
    encoder: Encoder
    inputs: Inputs
    guests: Float[Tensor, "g d"] | None


def joint_scores(parts: Sequence[Part]) -> list[Float[Tensor, "b _"]]:
    """Of each part's rows the scores of its own model.

    Streams that run the same shared network pass it together, whichever models they belong to, at most
    as many rows at once as the parts have. All else is each model's: what stands before and behind the
    network, tables, fusion, head.
    """
    tokens: list[dict[str, Tokens]] = [{} for _ in parts]
    for group in _groups(parts):
        for one, found in zip(group, _tokens(group), strict=True):
            tokens[one.part][one.encoder.stream.name] = found
    return [
        part.model.judged({s: own[s] for s in part.model.streams}).scores.float()
        for part, own in zip(parts, tokens, strict=True)
    ]


def _groups(parts: Sequence[Part]) -> Iterator[list[_Stream]]:
    """All streams of all parts; those that pass a network together are in one group."""
    most = sum(len(next(iter(part.batch.values()))) for part in parts)
    company: defaultdict[Hashable, list[_Stream]] = defaultdict(list)
    for number, part in enumerate(parts):
        guests = part.model.guests(part.batch)
        for name in part.model.streams:
            one = _Stream(number, part.model.encoder(name), part.batch[name], guests.get(name))
            company[_company(one)].append(one)
    for alike in company.values():
        yield from _at_most(most, alike)


def _company(one: _Stream) -> Hashable:
    """Equal for streams that can pass their network together."""
    encoder = one.encoder
    if not isinstance(encoder, PretrainedEncoder) or encoder.corrections is None:
        return id(encoder)
    if encoder.backbone.apart or not one.inputs.items:
        return id(encoder)
    network = id(encoder.backbone), one.inputs.cut
    if one.guests is None or encoder.entrance is None:
        return network
    return *network, len(one.guests), encoder.entrance, encoder.visibility


def _at_most(rows: int, alike: Sequence[_Stream]) -> Iterator[list[_Stream]]:
    """The streams in order, so many together that they have no more than `rows` rows."""
    group: list[_Stream] = []
    held = 0
    for one in alike:
        own = len(one.inputs)
        if group and held + own > rows:
            yield group
            group, held = [], 0
        group.append(one)
        held += own
    yield group


def _tokens(group: Sequence[_Stream]) -> list[Tokens]:
    if len(group) > 1 and (found := _together(group)) is not None:
        return found
    return [one.encoder(one.inputs, one.guests) for one in group]


def _together(group: Sequence[_Stream]) -> list[Tokens] | None:
    """In one pass; None: it turned out that the network does not allow it."""
    encoders = [cast(PretrainedEncoder, one.encoder) for one in group]
    items = [one.inputs.items for one in group]
    shares = [
        Share(cast(Corrections, e.corrections), n) for e, n in zip(encoders, items, strict=True)
    ]
    with mixed(shares) as passing:
        walked = encoders[0].walk(Inputs.join([one.inputs for one in group]), _guests(group))
    if passing.apart:
        encoders[0].backbone.apart = True
        return None
    found: list[Tokens] = []
    for encoder, one, start, size in zip(encoders, group, passing.starts, items, strict=False):
        found.append(encoder.arrived(walked.part(start, start + size), one.inputs))
    return found


def _guests(group: Sequence[_Stream]) -> Float[Tensor, "f g d"] | None:
    """Those of each item's own model."""
    each = [
        one.guests.expand(one.inputs.items, -1, -1)
        for one in group
        if one.guests is not None and one.encoder.entrance is not None
    ]
    return torch.cat(each) if each else None
