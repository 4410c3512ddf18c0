"""Guided attention: tokens are paired with the sound of their words, and looking there costs nothing."""

import pytest
import torch

from model.training import guide
from model.training.corpus import Clip, Row

ROW = Row(Clip("x", "world", "en", "Turn left."), 1, 0, 100, 16_000, (("turn", 0.2, 0.5), ("left", 0.5, 0.9)))


def test_tokens_are_paired_with_their_words():
    found = guide.looks(ROW, "Turn left.", [(0, 4), (4, 9), (9, 10)], n_frames=12)
    assert found == [guide.Look(0, 1, 7), guide.Look(1, 5, 11)]  # punctuation has no sound


def test_two_tokens_of_one_word_look_at_the_same_sound_and_unknown_words_are_left_out():
    row = Row(ROW.clip, 1, 0, 100, 16_000, (("computer", 0.0, 0.4), ("nowhere", 0.4, 0.5)))
    found = guide.looks(row, "Computer.", [(0, 3), (3, 8), (8, 9)], n_frames=4)
    assert [look.token for look in found] == [0, 1] and found[0][1:] == found[1][1:] == (0, 3)


def test_loss_is_zero_where_all_attention_is_and_large_elsewhere():
    weights = torch.zeros(1, 4, 3, 6)
    weights[0, :, 2, 3] = 1.0
    assert guide.guide_loss(weights, [(0, 2, 2, 4)]).item() == pytest.approx(0.0, abs=1e-3)
    assert guide.guide_loss(weights, [(0, 2, 0, 1)]).item() > 5
    assert guide.guide_loss(weights, []).item() == 0.0


def test_only_the_guided_heads_are_told():
    weights = torch.full((1, 4, 1, 4), 0.25, requires_grad=True)
    guide.guide_loss(weights, [(0, 0, 1, 1)]).backward()
    assert weights.grad[0, : guide.HEADS].abs().sum() > 0 and weights.grad[0, guide.HEADS :].abs().sum() == 0
