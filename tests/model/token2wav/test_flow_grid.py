"""The grid of blocks, and the masks that say the same."""

import pytest
import torch

from model.errors import OptionsError
from model.token2wav.flow_grid import BlockGrid, Window, attention_masks


def drawn(mask):
    return ["".join("x" if seen else "." for seen in row) for row in mask.tolist()]


def test_a_block_waits_for_its_look_ahead():
    grid = BlockGrid((4, 6))
    assert [grid.size(k) for k in range(4)] == [4, 6, 6, 6]
    assert grid.next_size(0, 6, 3, last=False) == 0
    assert grid.next_size(0, 7, 3, last=False) == 4
    assert grid.next_size(1, 8, 3, last=False) == 0
    assert grid.next_size(1, 8, 3, last=True) == 8
    assert grid.next_size(5, 0, 3, last=True) == 0


@pytest.mark.parametrize("n", range(0, 40))
def test_split_is_what_a_stream_does(n):
    grid, blocks, waiting = BlockGrid((4, 6)), [], 0
    for k in range(n + 1):
        while size := grid.next_size(len(blocks), waiting, 3, last=k == n):
            blocks.append(size)
            waiting -= size
        waiting += k < n
    assert blocks == grid.split(n, 3)
    assert sum(blocks) == n


def test_masks_of_a_stream():
    masks = attention_masks(6, n_ahead=0, frames_per_code=1, n_prompt=2, grid=BlockGrid((2,)), window=Window(1, None))
    assert drawn(masks.codes[0]) == ["xx....", "xx....", "xxxx..", "xxxx..", "xxxxxx", "xxxxxx"]
    assert drawn(masks.frames[0]) == ["xx....", "xx....", "xxxx..", "xxxx..", "xx.xxx", "xx.xxx"]


def test_masks_of_a_padded_batch():
    masks = attention_masks(2, n_ahead=3, lens=torch.tensor([2, 1]))
    assert drawn(masks.codes[0]) == ["xx", "xx"]
    assert drawn(masks.codes[1]) == ["x.", "x."]
    assert drawn(masks.frames[1]) == ["xx.."] * 4
    both = attention_masks(3, n_ahead=0, grid=BlockGrid((1,)), lens=torch.tensor([3, 2]))
    assert drawn(both.codes[1]) == ["x..", "xx.", "xx."]


def test_no_masks_where_everything_sees_everything():
    assert attention_masks(9, n_ahead=3) == (None, None)


@pytest.mark.parametrize("sizes", [(), (0,), (5, -1), (2.5,)])
def test_empty_blocks_are_refused(sizes):
    with pytest.raises(OptionsError, match="whole numbers above 0"):
        BlockGrid(sizes)


@pytest.mark.parametrize("reach", [(-1, None), (None, -5)])
def test_negative_windows_are_refused(reach):
    with pytest.raises(OptionsError, match="None for no limit"):
        Window(*reach)
