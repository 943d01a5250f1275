"""Hooks: only a stream's own adapters fire, in every thread; nothing of the network changes."""

import copy
import threading

import pytest
import torch
from torch import Tensor, nn

from multiadapt.attach import Adapter, attach, resting, running
from multiadapt.types import Site


class Shift(Adapter):
    """Adds a number, and keeps what it was given."""

    def __init__(self, by: float) -> None:
        super().__init__()
        self.by = nn.Parameter(torch.tensor(by))
        self.seen: tuple[Tensor, ...] = ()
        self.bound: nn.Module | None = None

    def bind(self, module: nn.Module) -> None:
        self.bound = module

    def forward(self, xs: tuple[Tensor, ...], y: Tensor) -> Tensor:
        self.seen = xs
        return y + self.by


class Pair(nn.Module):
    """Gives a tuple, as attention layers do."""

    def forward(self, x: Tensor, *, extra: Tensor | None = None) -> tuple[Tensor, str]:
        return 2 * x, "weights"


class Net(nn.Module):
    """first -> qkv -> pair; the last is called by keyword where asked."""

    def __init__(self, *, keyword: bool = False) -> None:
        super().__init__()
        self.first = nn.Linear(4, 4)
        self.qkv = nn.Linear(4, 6)
        self.pair = Pair()
        self.keyword = keyword

    def forward(self, x: Tensor) -> Tensor:
        h = self.qkv(self.first(x))
        return (self.pair(x=h) if self.keyword else self.pair(h))[0]


class Model(nn.Module):
    """A network with its adapters beside it, as an adapted model holds them."""

    def __init__(self, net: nn.Module, placed: dict[Site, Adapter]) -> None:
        super().__init__()
        self.net = net
        self.adapters = nn.ModuleList(placed.values())
        self.attachment = attach(net, placed)


def site(path, stream="s", **other):
    return Site(stream, path, "ffn", 0, 4, 4, **other)


def live(net, x, stream="s"):
    with running(stream):
        return net(x)


@pytest.fixture
def x():
    return torch.randn(5, 4, generator=torch.Generator().manual_seed(0))


def test_an_adapter_corrects_the_output_of_its_site(x):
    net, shift = Net(), Shift(1.0)
    plain = net.first(x)
    attach(net, {site("first"): shift})
    torch.testing.assert_close(live(net, x), net.pair(net.qkv(plain + 1))[0])
    assert torch.equal(shift.seen[0], x)
    assert shift.bound is net.first


def test_outside_a_run_the_network_is_untouched(x):
    net = Net()
    before = net(x)
    attach(net, {site("first"): Shift(1.0)})
    assert torch.equal(net(x), before)
    assert torch.equal(live(net, x, "another"), before)
    assert torch.equal(net(x), before)


def test_at_rest_the_network_is_untouched_and_afterwards_it_is_live_again(x):
    net = Net()
    before = net(x)
    attach(net, {site("first"): Shift(1.0), site("qkv", part=(0, 2)): Shift(2.0)})
    corrected = live(net, x)
    with resting():
        assert torch.equal(live(net, x), before)
    assert torch.equal(live(net, x), corrected)
    assert not torch.equal(before, corrected)


@pytest.mark.parametrize("mode", [torch.inference_mode, torch.no_grad, torch.enable_grad])
@pytest.mark.parametrize("keyword", [False, True])
def test_tuple_outputs_keep_their_other_elements(x, mode, keyword):
    net, shift = Net(keyword=keyword), Shift(1.0)
    with mode():
        before = net(x)
        attach(net, {site("pair"): shift})
        torch.testing.assert_close(live(net, x), before + 1)
        with running("s"):
            assert net.pair(x)[1] == "weights"
            net(x)
    assert shift.seen[0].shape == (5, 6)


def test_a_part_corrects_its_slice_alone(x):
    net = Net()
    before = net(x)
    query, value = Shift(1.0), Shift(3.0)
    attach(net, {site("qkv", part=(0, 2)): query, site("qkv", part=(4, 6)): value})
    moved = live(net, x) - before
    torch.testing.assert_close(moved, torch.tensor([2.0, 2, 0, 0, 6, 6]).expand(5, 6))


def test_reads_hands_over_inputs_of_submodules_in_order(x):
    net, shift = Net(), Shift(0.0)
    attach(net, {site("pair", reads=("qkv", "first")): shift})
    live(net, x)
    hidden, first = shift.seen
    assert torch.equal(first, x)
    assert torch.equal(hidden, net.first(x))


def test_reads_of_a_corrected_submodule_see_the_correction(x):
    net, shift = Net(), Shift(0.0)
    attach(net, {site("first"): Shift(1.0), site("pair", reads=("qkv",)): shift})
    live(net, x)
    assert torch.equal(shift.seen[0], net.first(x) + 1)


def test_two_streams_on_one_module_fire_only_for_their_own(x):
    net = Net()
    before = net(x)
    one, two = Shift(1.0), Shift(5.0)
    attach(net, {site("pair", "one"): one})
    attach(net, {site("pair", "two"): two})
    torch.testing.assert_close(live(net, x, "one"), before + 1)
    torch.testing.assert_close(live(net, x, "two"), before + 5)
    assert torch.equal(net(x), before)


def test_a_run_inside_a_run_leaves_the_outer_one_live(x):
    net = Net()
    before = net(x)
    attach(net, {site("pair", "one"): Shift(1.0), site("pair", "two"): Shift(5.0)})
    with running("one"):
        torch.testing.assert_close(live(net, x, "two"), before + 5)
        torch.testing.assert_close(net(x), before + 1)


def test_a_failed_run_ends(x):
    net = Net()
    before = net(x)
    attach(net, {site("pair"): Shift(1.0)})
    with pytest.raises(KeyError, match="stop"), running("s"):
        raise KeyError("stop")
    assert torch.equal(net(x), before)


def test_two_threads_do_not_swap_rows():
    """Both threads stand between the read and the correction at the same time."""
    meet = threading.Barrier(2, timeout=10)

    class Wait(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            meet.wait()
            return x

    class Add(Adapter):
        def forward(self, xs: tuple[Tensor, ...], y: Tensor) -> Tensor:
            return y + xs[0]

    net = nn.Sequential(nn.Identity(), Wait(), nn.Identity())
    attach(net, {site("2", "a", reads=("0",)): Add(), site("2", "b", reads=("0",)): Add()})
    found: dict[float, Tensor] = {}

    def work(stream, row):
        with running(stream):
            for _ in range(20):
                found[row] = net(torch.full((1, 4), row))

    threads = [threading.Thread(target=work, args=pair) for pair in (("a", 1.0), ("b", 2.0))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {row: y.unique().tolist() for row, y in found.items()} == {1.0: [2.0], 2.0: [4.0]}


def test_one_threads_run_is_not_anothers(x):
    net = Net()
    before = net(x)
    attach(net, {site("pair"): Shift(1.0)})
    found = []
    with running("s"):
        thread = threading.Thread(target=lambda: found.append(net(x)))
        thread.start()
        thread.join()
    assert torch.equal(found[0], before)


def test_remove_restores_the_network(x):
    net = Net()
    before, state = net(x), {k: v.clone() for k, v in net.state_dict().items()}
    kinds = [type(m) for m in net.modules()]
    attachment = attach(net, {site("pair", reads=("qkv",)): Shift(1.0), site("first"): Shift(1.0)})
    assert not torch.equal(live(net, x), before)
    assert [type(m) for m in net.modules()] == kinds
    assert list(net.state_dict()) == list(state)
    attachment.remove()
    attachment.remove()  # a second time is nothing
    assert torch.equal(live(net, x), before)
    hooks = [(m._forward_hooks, m._forward_pre_hooks) for m in net.modules()]
    assert not any(after or ahead for after, ahead in hooks)
    assert all(torch.equal(v, state[k]) for k, v in net.state_dict().items())


def test_removing_one_attachment_leaves_the_other(x):
    net = Net()
    before = net(x)
    one = attach(net, {site("pair"): Shift(1.0)})
    attach(net, {site("pair"): Shift(5.0)})
    one.remove()
    torch.testing.assert_close(live(net, x), before + 5)


def test_a_copy_of_an_adapted_model_works_and_is_independent(x):
    model = Model(Net(), {site("pair", reads=("qkv",)): Shift(1.0)})
    other = copy.deepcopy(model)
    before = live(model.net, x)
    assert torch.equal(live(other.net, x), before)
    with torch.no_grad():
        other.adapters[0].by.add_(10)
    torch.testing.assert_close(live(other.net, x), before + 10)
    assert torch.equal(live(model.net, x), before)
    other.attachment.remove()
    torch.testing.assert_close(live(other.net, x), before - 1)
    assert torch.equal(live(model.net, x), before)


def test_gradient_reaches_the_adapter_through_the_frozen_network(x):
    net, shift = Net().requires_grad_(False), Shift(0.0)
    attach(net, {site("first"): shift})
    live(net, x).sum().backward()
    assert shift.by.grad is not None
    assert shift.by.grad.abs() > 0
    assert all(p.grad is None for p in net.parameters())


def test_adapters_are_live_inside_torchs_fast_path(x):
    layer = nn.TransformerEncoderLayer(4, 2, 8, batch_first=True, dropout=0.0).eval()
    attach(layer, {site("linear1"): Shift(1.0)})
    with torch.inference_mode():
        before = layer(x[None])
        moved = (live(layer, x[None]) - before).abs().max()
    assert moved > 1e-3 * before.std()


def test_a_default_adapter_binds_nothing_and_is_not_folded():
    class Plain(Adapter):
        def forward(self, xs: tuple[Tensor, ...], y: Tensor) -> Tensor:
            return y

    adapter = Plain()
    adapter.bind(nn.Identity())
    assert adapter.fold(torch.zeros(2, 2), None) is None


def test_a_site_that_is_not_there_is_named():
    with pytest.raises(AttributeError, match="no attribute `nowhere`"):
        attach(Net(), {site("nowhere"): Shift(0.0)})
