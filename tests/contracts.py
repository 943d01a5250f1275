"""What an encoder of pictures, texts or sounds promises, to be tried on any tiny network.

`batch` makes inputs at cut 0 from the number of items of each row.
"""

import copy
from collections.abc import Callable
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

from multiadapt.attach import Adapter, attach, recomputing
from multiadapt.encoders._base import Encoder
from multiadapt.encoders._pretrained import PretrainedEncoder
from multiadapt.mixing import Corrections, Share, listen, mixed
from multiadapt.types import Inputs, Site

__all__ = [
    "Batch",
    "Change",
    "cuts_give_the_whole_pass",
    "guests_see_and_are_not_seen",
    "models_pass_together",
    "recomputed_gradients_are_the_same",
    "shake",
    "sites_are_live",
]

Batch = Callable[..., Inputs]


class Change(Adapter):
    """Rescales every channel by its own factor: keys move too, where a constant would not."""

    def __init__(self, site: Site) -> None:
        super().__init__()
        factor = 1 + 0.5 * torch.randn(site.out_width, generator=torch.Generator().manual_seed(0))
        shape = (1, -1, 1, 1) if site.layout == "map" else (-1,)
        self.factor = nn.Parameter(factor.view(shape))

    def forward(self, xs: tuple[Tensor, ...], y: Tensor) -> Tensor:
        return y * self.factor + 0.1


def shake(network: nn.Module) -> None:
    """Random weights that say something: the libraries' initial ones are nearly silent."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, tensor in network.state_dict().items():
            if "running_var" in name:
                tensor.uniform_(0.5, 1.5, generator=generator)
            elif tensor.is_floating_point():
                scale = 1 / tensor[0].numel() ** 0.5 if tensor.ndim > 1 else 0.3
                tensor.normal_(
                    1.0 if tensor.ndim == 1 and "weight" in name else 0.0,
                    scale,
                    generator=generator,
                )


def cuts_give_the_whole_pass(encoder: Encoder, batch: Batch) -> None:
    """From the state at any cut, the rest of the network says what the whole would have said."""
    inputs = batch(1, 1, 1)
    whole = encoder(inputs)
    for cut in range(encoder.blocks + 2):
        state = encoder.prefix(inputs, cut)
        assert state.cut == cut
        assert not any(t.requires_grad for t in state.tensors.values())
        assert all(t.is_contiguous() for t in state.tensors.values())
        found = encoder(state)
        # Convolutions round differently where a state was made contiguous.
        torch.testing.assert_close(found.pooled, whole.pooled, rtol=1e-5, atol=1e-5)
        if cut <= encoder.blocks:
            torch.testing.assert_close(found.x, whole.x, rtol=1e-5, atol=1e-5)


def sites_are_live(encoder: Encoder, batch: Batch) -> None:
    """A change at any site moves the pooled vector, also in inference mode."""
    inputs = batch(1, 1, 1, 1)
    with torch.inference_mode():
        before = encoder(inputs).pooled
        for site in encoder.sites():
            attachment = attach(encoder, {site: Change(site)})
            moved = (encoder(inputs).pooled - before).abs().max()
            attachment.remove()
            assert moved > 1e-3 * before.std(), f"{site.key} has no effect"
        assert torch.equal(encoder(inputs).pooled, before)


def recomputed_gradients_are_the_same(encoder: Encoder, batch: Batch) -> None:
    """Adapters at all sites and, where there is room, guests; another stream passes before the gradient."""
    adapters = {site: Change(site) for site in encoder.sites()}
    attachment = attach(encoder, adapters)
    inputs, other = batch(1, 0, 2), batch(1)
    guests = torch.randn(2, encoder.width, generator=torch.Generator().manual_seed(4))
    encoder.entrance = 0 if encoder.hosts(0) == "blocks" else None
    found: list[list[Tensor]] = []
    kept: list[int] = []
    for on in (False, True):
        saved: dict[int, int] = {}

        def keep(tensor: Tensor, saved: dict[int, int] = saved) -> Tensor:
            saved[tensor.data_ptr()] = tensor.numel()
            return tensor

        with recomputing(on), saved_tensors_hooks(keep, lambda tensor: tensor):
            said = encoder(inputs, guests)
            encoder(other)
        kept.append(sum(saved.values()))
        (said.pooled.square().sum() + said.guests.square().sum()).backward()
        found.append([a.factor.grad for a in adapters.values() if a.factor.grad is not None])
        for adapter in adapters.values():
            adapter.factor.grad = None
    attachment.remove()
    encoder.entrance = None
    assert len(found[0]) > encoder.blocks
    torch.testing.assert_close(found[1], found[0], rtol=0, atol=0)
    assert kept[1] < 0.8 * kept[0]


def guests_see_and_are_not_seen(encoder: Encoder, batch: Batch) -> None:
    """Guests from every block on: the tokens stay, each guest depends on its row and on no other guest."""
    inputs = batch(1, 0, 2, 1)
    plain = encoder(inputs)
    guests = torch.randn(3, encoder.width, generator=torch.Generator().manual_seed(4))
    for entrance in range(encoder.blocks):
        encoder.entrance = entrance
        found = encoder(inputs, guests)
        # Another number of tokens is another order of additions, no more.
        torch.testing.assert_close(found.pooled, plain.pooled, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(found.x, plain.x, rtol=1e-5, atol=1e-5)
        assert found.guests.shape == (4, 3, encoder.width)
        assert not found.guests[1].any()
        assert (found.guests[0] - found.guests[3]).abs().max() > 1e-3
        alone = encoder(inputs, guests[1:2])
        torch.testing.assert_close(alone.guests, found.guests[:, 1:2], rtol=1e-4, atol=1e-5)
        late = encoder(encoder.prefix(inputs, entrance), guests)
        torch.testing.assert_close(late.guests, found.guests, rtol=1e-4, atol=1e-5)
        turned = encoder(inputs, guests.flip(0)).guests.flip(1)
        torch.testing.assert_close(turned, found.guests, rtol=1e-4, atol=1e-5)
    nobody_has_a_place(encoder, encoder.prefix(inputs, encoder.blocks - 1), guests)
    none = encoder(batch(0, 0), guests).guests
    assert none.shape == (2, 3, encoder.width)
    assert not none.any()
    encoder.entrance = None


def nobody_has_a_place(encoder: Encoder, inputs: Inputs, guests: Float[Tensor, "g d"]) -> None:
    """A guest looks alike at what stands before and after it; in one block alone, since tokens may know
    an order among themselves."""
    state = inputs.tensors["state"]
    order = [1, 0, *range(2, state.shape[1])]  # all texts have two tokens
    swapped = replace(inputs, tensors={**inputs.tensors, "state": state[:, order]})
    found = [encoder(given, guests).guests for given in (inputs, swapped)]
    torch.testing.assert_close(*found, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def models_pass_together(encoder: Encoder, batch: Batch) -> bool:
    """Items of two models, adapted at every place, are in one pass what they are alone; False: the network
    does not allow that, and it was noticed."""
    encoder = copy.deepcopy(encoder)  # others must not meet the listeners
    assert isinstance(encoder, PretrainedEncoder)
    inner = [site for site in encoder.sites() if site.role != "pooled"]
    listen(encoder, inner)
    inputs = batch(1, 1, 1)
    own: list[Corrections] = []
    for scale in (1.0, 0.8):
        changes = {site: Change(site) for site in inner}
        for change in changes.values():
            change.factor.mul_(scale)
        own.append(Corrections(encoder, changes))
    with mixed([Share(own[0], 1), Share(own[1], 2)]) as passing:
        found = encoder.walk(inputs).pooled
    if passing.apart:
        return False
    for corrections, rows in zip(own, ([0], [1, 2]), strict=True):
        alone = {}
        for name, one in (("own", corrections), ("other", own[corrections is own[0]])):
            with mixed([Share(one, len(rows))]):
                alone[name] = encoder.walk(inputs.select(torch.tensor(rows))).pooled
        # Another number of items or tokens is another order of additions, no more.
        torch.testing.assert_close(found[rows], alone["own"], rtol=1e-4, atol=1e-4)
        assert (found[rows] - alone["other"]).abs().max() > 1e-2
    return True
