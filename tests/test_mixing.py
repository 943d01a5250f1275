"""A pass of several models' items through one network: each item meets its own adapters, and nobody else's."""

import threading

import pytest
import torch
from torch import Tensor, nn

from multiadapt.adapters.lora import LoRA, LowRank
from multiadapt.attach import Adapter, attach, running
from multiadapt.mixing import Corrections, Share, listen, mixed
from multiadapt.types import Convolution, Site


class Shift(Adapter):
    """Adds a number, in company too, and says how often it did that alone."""

    def __init__(self, by: float, *, sociable: bool = True) -> None:
        super().__init__()
        self.by, self.sociable, self.alone = by, sociable, 0

    def forward(self, xs: tuple[Tensor, ...], y: Tensor) -> Tensor:
        self.alone += 1
        return y + self.by

    def company(self) -> str | None:
        return "shift" if self.sociable else None

    def in_company(self, adapters, sizes, xs, y):
        by = torch.tensor([a.by for a, n in zip(adapters, sizes, strict=True) for _ in range(n)])
        return y + by.view(-1, *[1] * (y.ndim - 1))


class Double(Adapter):
    def forward(self, xs: tuple[Tensor, ...], y: Tensor) -> Tensor:
        return 2 * y


class AddRead(Adapter):
    def forward(self, xs: tuple[Tensor, ...], y: Tensor) -> Tensor:
        return y + sum(xs)


class Ahead(Shift):
    corrects = "input"


class Pair(nn.Module):
    def forward(self, x: Tensor) -> tuple[Tensor, str]:
        return x, "weights"


class Net(nn.Module):
    """first -> second -> pair, where the items' average is looked at by `table` as well."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4)
        self.table, self.pair = nn.Linear(4, 4), Pair()

    def forward(self, x: Tensor) -> Tensor:
        return self.pair(self.second(self.first(x)) + self.table(torch.ones(1, 4)))[0]


def site(path: str, **other) -> Site:
    return Site("s", path, "ffn", 0, 4, 4, **other)


PLACES = [site("first"), site("second"), site("table"), site("pair", reads=("second",))]


@pytest.fixture
def net() -> Net:
    torch.manual_seed(0)
    found = Net().requires_grad_(False)
    listen(found, PLACES)
    return found


@pytest.fixture
def x() -> Tensor:
    return torch.randn(7, 4, generator=torch.Generator().manual_seed(1))


def alone(net: Net, adapters: dict[Site, Adapter], x: Tensor) -> Tensor:
    """What a network of its own says with these adapters attached to it."""
    own = Net().requires_grad_(False)
    own.load_state_dict(net.state_dict())
    attach(own, adapters)
    with running("s"):
        return own(x)


def together(net: Net, shares: list[tuple[dict[Site, Adapter], int]], x: Tensor) -> Tensor:
    with mixed([Share(Corrections(net, adapters), items) for adapters, items in shares]) as passing:
        found = net(x)
    assert not passing.apart
    return found


ADAPTERS = {
    "output": lambda i: {site("first"): Shift(i)},
    "alone": lambda i: {site("first"): Shift(i, sociable=False)},
    "part": lambda i: {
        site("second", part=(1, 3)): Shift(i),
        site("second", part=(3, 4)): Double(),
    },
    "read": lambda i: {site("pair", reads=("second",)): AddRead()},
    "input": lambda i: {site("second"): Ahead(i)},
    "two at one place": lambda i: {site("first"): Shift(i), site("first", index=1): Double()},
    "nothing": lambda i: {},
}


@pytest.mark.parametrize("kind", ADAPTERS)
def test_each_share_equals_a_network_of_its_own(kind, net, x):
    sizes = [2, 1, 4]
    own = [ADAPTERS[kind](float(i + 1)) for i in range(3)]
    found = together(net, list(zip(own, sizes, strict=True)), x)
    for adapters, y, rows in zip(own, found.split(sizes), x.split(sizes), strict=True):
        torch.testing.assert_close(y, alone(net, adapters, rows))


def test_shares_with_different_adapters_meet_in_one_pass(net, x):
    kinds, sizes = ["output", "nothing", "part", "read", "input"], [2, 1, 1, 2, 1]
    own = [ADAPTERS[kind](2.0) for kind in kinds]
    found = together(net, list(zip(own, sizes, strict=True)), x)
    for adapters, y, rows in zip(own, found.split(sizes), x.split(sizes), strict=True):
        torch.testing.assert_close(y, alone(net, adapters, rows))


def test_adapters_of_one_company_run_as_one(net, x):
    shifts = [Shift(1.0), Shift(2.0), Shift(3.0, sociable=False)]
    together(net, [({site("first"): s}, n) for s, n in zip(shifts, (3, 2, 2), strict=True)], x)
    assert [s.alone for s in shifts] == [0, 0, 1]


def test_company_that_lies_apart_meets_its_own_items(net, x):
    shifts = [Shift(1.0), Shift(5.0, sociable=False), Shift(3.0)]
    found = together(
        net, [({site("first"): s}, n) for s, n in zip(shifts, (3, 2, 2), strict=True)], x
    )
    for shift, y, rows in zip(shifts, found.split([3, 2, 2]), x.split([3, 2, 2]), strict=True):
        torch.testing.assert_close(y, alone(net, {site("first"): shift}, rows))


def test_outside_a_pass_the_network_is_untouched(net, x):
    plain = Net()
    plain.load_state_dict(net.state_dict())
    before = plain(x)
    assert torch.equal(net(x), before)
    together(net, [({site("first"): Shift(1.0)}, 7)], x)
    with running("s"):
        assert torch.equal(net(x), before)


def test_what_a_layer_says_is_not_written_into(x):
    """The layer hands on what it was given: the correction must not reach that."""
    net = nn.Sequential(nn.Identity())
    listen(net, [site("0")])
    before = x.clone()
    shares = [
        ({site("0"): Shift(1.0, sociable=False)}, 3),
        ({site("0"): Shift(2.0, sociable=False)}, 4),
    ]
    together(net, shares, x)  # type: ignore[arg-type]
    assert torch.equal(x, before)


def test_a_place_that_reads_nobodys_items_voids_a_pass_of_several(net, x):
    shift = {site("table"): Shift(1.0)}
    with mixed([Share(Corrections(net, shift), 3), Share(Corrections(net, {}), 4)]) as passing:
        net(x)
    assert passing.apart
    torch.testing.assert_close(together(net, [(shift, 7)], x), alone(net, shift, x))


def test_a_failed_pass_ends(net, x):
    with pytest.raises(KeyError, match="stop"), mixed([Share(Corrections(net, {}), 7)]):
        raise KeyError("stop")
    with mixed([Share(Corrections(net, {site("first"): Shift(1.0)}), 7)]):
        inner = net(x)
    assert not torch.equal(net(x), inner)


def test_two_threads_do_not_swap_items():
    """Both threads stand between the read and the correction at the same time."""
    meet = threading.Barrier(2, timeout=10)

    class Wait(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            meet.wait()
            return x

    net = nn.Sequential(nn.Identity(), Wait(), nn.Identity())
    place = site("2", reads=("0",))
    listen(net, [place])
    found: dict[float, Tensor] = {}

    def work(row: float) -> None:
        own = Corrections(net, {place: AddRead()}), Corrections(net, {place: Double()})
        with mixed([Share(own[0], 1), Share(own[1], 1)]):
            for _ in range(20):
                found[row] = net(torch.full((2, 4), row))

    threads = [threading.Thread(target=work, args=(row,)) for row in (1.0, 5.0)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {row: y.unique().tolist() for row, y in found.items()} == {1.0: [2.0], 5.0: [10.0]}


SHAPES = {
    "vectors": (None, (4,)),
    "tokens": (None, (3, 4)),
    "map with channels last": (None, (2, 3, 4)),
    "wide kernel": (Convolution((3, 3), (2, 2), (1, 1), (1, 1)), (4, 6, 5)),
    "narrow kernel": (Convolution((1, 1), (1, 1), (0, 0), (1, 1)), (4, 6, 5)),
    "sounds": (Convolution((3,), (1,), (1,), (1,)), (4, 9)),
}


@pytest.mark.parametrize("sizes", [[2, 2, 2], [1, 4, 1]], ids=["even", "uneven"])
@pytest.mark.parametrize("name", SHAPES)
def test_low_rank_in_company_equals_each_alone(name, sizes):
    shape, items = SHAPES[name]
    place = Site("s", "p", "query", 0, 4, 6, convolution=shape)
    torch.manual_seed(0)
    own = [LowRank(place, LoRA(r=2, lora_alpha=3)) for _ in sizes]
    for adapter in own:
        nn.init.normal_(adapter.up.weight)
    assert len({adapter.company() for adapter in own}) == 1
    x = torch.randn(6, *items)
    layer = nn.Linear(4, 6) if shape is None else _layer(shape)
    y = layer(x)
    found = own[0].in_company(own, sizes, (x,), y)
    parts = zip(own, x.split(sizes), y.split(sizes), found.split(sizes), strict=True)
    for adapter, some, before, after in parts:
        torch.testing.assert_close(after, adapter((some,), before))


def _layer(shape: Convolution) -> nn.Module:
    kind = nn.Conv1d if len(shape.kernel) == 1 else nn.Conv2d
    return kind(4, 6, shape.kernel, shape.stride, shape.padding)  # type: ignore[arg-type]


def test_low_rank_of_another_rank_scale_or_kind_is_other_company():
    place = site("p")
    specs = [LoRA(), LoRA(r=4), LoRA(lora_alpha=1), LoRA(use_rslora=True)]
    assert len({LowRank(place, spec).company() for spec in specs}) == 4
    assert LowRank(place, LoRA(use_dora=True)).company() is None
    grouped = Convolution((3, 3), (1, 1), (1, 1), (1, 1), groups=2)
    assert LowRank(site("p", convolution=grouped), LoRA()).company() is None
