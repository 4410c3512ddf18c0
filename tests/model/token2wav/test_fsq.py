"""Codes are digits; rounding passes gradients; the same class serves 6561 and 729 codes."""

import pytest
import torch

from model.errors import OptionsError
from model.token2wav.fsq import FSQ


def quantiser(n_digits=6, n_levels=3, width=16):
    torch.manual_seed(1)
    return FSQ(width, n_digits, n_levels)


@pytest.mark.parametrize(("n_digits", "n_levels", "n_codes"), [(8, 3, 6561), (6, 3, 729), (2, 5, 25), (1, 7, 7)])
def test_every_code_has_its_own_values(n_digits, n_levels, n_codes):
    fsq = quantiser(n_digits, n_levels)
    codes = torch.arange(n_codes)
    values = fsq.values_of(codes)
    assert fsq.n_codes == n_codes and values.shape == (n_codes, n_digits)
    assert values.abs().max() == 1 and len(values.unique(dim=0)) == n_codes
    assert torch.equal(fsq.codes_of(values), codes)


def test_first_digit_counts_least():
    assert quantiser(n_digits=2).codes_of(torch.tensor([[0.0, -1.0], [-1.0, 0.0], [1.0, 1.0]])).tolist() == [1, 3, 8]


@pytest.mark.parametrize("n_levels", [3, 5])
def test_values_are_exactly_on_the_grid_and_belong_to_the_codes(n_levels):
    fsq = quantiser(n_levels=n_levels)
    values, codes = fsq(3 * torch.randn(2, 500, 16))
    assert torch.equal(values, fsq.values_of(codes)) and codes.dtype == torch.int64
    assert len(values.unique()) == n_levels, "with enough inputs every level occurs, the outermost included"


def test_gradient_is_that_of_the_value_before_rounding():
    fsq, hidden = quantiser(), torch.randn(4, 16, requires_grad=True)
    weights = torch.randn(4, 6)
    (fsq(hidden)[0] * weights).sum().backward()
    straight_through = hidden.grad.clone()
    hidden.grad = None
    (fsq.bound(hidden) * weights).sum().backward()
    assert torch.equal(straight_through, hidden.grad) and hidden.grad.abs().sum() > 0


def test_training_moves_codes_to_where_the_loss_wants_them():
    fsq, hidden, wanted = quantiser(), torch.randn(64, 16), torch.ones(64, 6)
    optimiser = torch.optim.Adam(fsq.parameters(), lr=0.1)
    for _ in range(60):
        loss = (fsq(hidden)[0] - wanted).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert (fsq(hidden)[1] == fsq.n_codes - 1).float().mean() > 0.95


def test_codes_do_not_depend_on_autocast():
    fsq, hidden = quantiser(), torch.randn(200, 16)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        values, codes = fsq(hidden)
    assert values.dtype == torch.float32 and torch.equal(codes, fsq(hidden)[1])


@pytest.mark.parametrize(("n_digits", "n_levels"), [(0, 3), (4, 4), (4, 1)])
def test_impossible_codebooks_are_refused(n_digits, n_levels):
    with pytest.raises(OptionsError, match=f"{n_digits} digits with {n_levels} levels"):
        FSQ(16, n_digits, n_levels)


@pytest.mark.parametrize("codes", [[729], [-1, 4]])
def test_codes_out_of_range_have_no_values(codes):
    with pytest.raises(OptionsError, match="0 to 728"):
        quantiser().values_of(torch.tensor(codes))


def test_no_codes_have_no_values():
    assert quantiser().values_of(torch.zeros(0, dtype=torch.int64)).shape == (0, 6)
