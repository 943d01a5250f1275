"""Inputs keep each row's items together; tokens and sites say what they are."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from multiadapt.types import Inputs, Site, Tokens

COUNTS = st.lists(st.integers(0, 3), min_size=1, max_size=6)


def inputs(counts, cut=0):
    """Item k of row i holds 10 * i + k."""
    cells = [10 * i + k for i, n in enumerate(counts) for k in range(n)]
    x = torch.tensor(cells, dtype=torch.float32)
    return Inputs({"x": x, "pair": torch.stack([x, -x], 1)}, torch.tensor(counts), cut)


def rows_of(batch):
    """The items of each row."""
    parts = batch.tensors["x"].split(batch.count.tolist())
    assert torch.equal(batch.tensors["pair"][:, 1], -batch.tensors["x"])
    return [p.tolist() for p in parts]


@given(counts=COUNTS, data=st.data())
def test_select_gives_each_row_its_own_items(counts, data):
    rows = data.draw(st.lists(st.integers(0, len(counts) - 1), max_size=8))
    batch = inputs(counts, cut=2)
    chosen = batch.select(torch.tensor(rows, dtype=torch.long))
    assert rows_of(chosen) == [rows_of(batch)[i] for i in rows]
    assert len(chosen) == len(rows)
    assert chosen.items == sum(counts[i] for i in rows)
    assert chosen.cut == 2


@given(counts=COUNTS)
def test_mean_is_of_each_rows_items_and_zero_without_any(counts):
    batch = inputs(counts)
    expected = [
        [sum(row) / len(row), -sum(row) / len(row)] if row else [0.0] * 2 for row in rows_of(batch)
    ]
    torch.testing.assert_close(batch.mean(batch.tensors["pair"]), torch.tensor(expected))
    assert batch.single == all(n == 1 for n in counts)


@given(st.lists(COUNTS, min_size=1, max_size=4))
def test_join_puts_rows_one_after_the_other(parts):
    batches = [inputs(counts, cut=1) for counts in parts]
    joined = Inputs.join(batches)
    assert rows_of(joined) == [row for b in batches for row in rows_of(b)]
    assert joined.cut == 1


@given(counts=COUNTS, at=st.integers(0, 6))
def test_join_undoes_a_split(counts, at):
    batch = inputs(counts)
    order = torch.arange(len(counts))
    joined = Inputs.join([batch.select(order[:at]), batch.select(order[at:])])
    assert rows_of(joined) == rows_of(batch)


@pytest.mark.parametrize("counts", [[1, 1, 1], [2, 0, 1]])
def test_select_leaves_the_batch_as_it_was(counts):
    batch = inputs(counts)
    before = rows_of(batch)
    chosen = batch.select(torch.tensor([0, 0]))
    chosen.tensors["x"].zero_()
    assert rows_of(batch) == before


def test_sizes_of_inputs():
    batch = inputs([2, 0, 1])
    assert (len(batch), batch.items, batch.nbytes) == (3, 3, 3 * 4 + 6 * 4)
    assert batch.to(torch.device("meta")).tensors["pair"].is_meta
    assert batch.to(torch.device("meta")).count.is_meta


def test_single_tokens_are_one_a_row_and_no_guests():
    tokens = Tokens.single(torch.ones(3, 4), torch.tensor([True, False, True]))
    assert tokens.x.shape == (3, 1, 4)
    assert tokens.mask.tolist() == [[True], [False], [True]]
    assert tokens.guests.shape == (3, 0, 4)


def test_a_site_is_keyed_by_stream_block_and_role():
    site = Site("photo", "net.layers.3.attention", "query", 3, 8, 8, part=(0, 8))
    assert site.key == "photo/3/query"
    assert len({site, Site("photo", "net.layers.3.attention", "query", 3, 8, 8, part=(0, 8))}) == 1


def test_rows_of_numpy_choose_rows():
    batch = inputs([2, 0, 1])
    assert rows_of(batch.select(torch.from_numpy(np.array([2, 0])))) == [[20.0], [0.0, 1.0]]
