"""What every way to join streams promises."""

import pytest
import torch

from multiadapt.errors import SpecError
from multiadapt.fusion._base import Fusion
from multiadapt.fusion.attention import Attention
from multiadapt.fusion.gated import Gated
from multiadapt.fusion.mean import Mean
from multiadapt.fusion.mlp import MLP
from multiadapt.spec import names, resolve
from multiadapt.types import Tokens

WIDTHS = {"table": 6, "photo": 8, "a note: of any name.": 5}


@pytest.fixture(params=names("fusion"))
def fusion(request: pytest.FixtureRequest) -> Fusion:
    torch.manual_seed(0)
    return resolve("fusion", request.param)().build(WIDTHS)


def tokens(rows: int = 4) -> dict[str, Tokens]:
    g = torch.Generator().manual_seed(1)
    present = torch.ones(rows, dtype=torch.bool)
    return {s: Tokens.single(torch.randn(rows, w, generator=g), present) for s, w in WIDTHS.items()}


def test_every_stream_and_every_parameter_counts(fusion: Fusion) -> None:
    given = tokens()
    for t in given.values():
        t.pooled.requires_grad_()
    fused = fusion(given)
    assert fused.shape == (4, fusion.width)
    (fused * torch.randn(fused.shape, generator=torch.Generator().manual_seed(2))).sum().backward()
    assert all(t.pooled.grad is not None and t.pooled.grad.any() for t in given.values())
    # An attention layer's key bias moves nothing: softmax cancels it.
    assert all(p.grad is not None and p.grad.any() for p in fusion.parameters())


def test_rows_do_not_meet_and_the_streams_order_is_the_fusions(fusion: Fusion) -> None:
    given = tokens()
    whole = fusion.eval()(given)
    alone = fusion({s: Tokens.single(t.pooled[1:2], t.mask[1:2, 0]) for s, t in given.items()})
    torch.testing.assert_close(alone[0], whole[1], rtol=1e-5, atol=1e-6)
    assert torch.equal(fusion(dict(reversed(given.items()))), whole)


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        (Mean, {"width": 0}, "width must be at least 1, got 0"),
        (Gated, {"width": 0}, "width must be at least 1, got 0"),
        (MLP, {"width": 0}, "width must be at least 1, got 0"),
        (MLP, {"layers": 0}, "layers must be at least 1, got 0"),
        (MLP, {"dropout": 1.0}, r"dropout must be in \[0, 1\), got 1.0"),
        (Attention, {"width": 30}, "width must be a multiple of heads, got 30 and 4"),
    ],
)
def test_options_out_of_range_are_refused(
    kind: type, options: dict[str, float], message: str
) -> None:
    with pytest.raises(SpecError, match=message):
        kind(**options)
