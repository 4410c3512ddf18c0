"""Every operation of the tape gives for pieces what it gives for the whole."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from model.token2wav.hift_tape import Tape

SIGNAL = torch.randn(2, 3, 240, generator=torch.Generator().manual_seed(0))
torch.manual_seed(0)
WIDE, DILATED = nn.Conv1d(3, 3, 7, padding=3), nn.Conv1d(3, 3, 5, dilation=4, padding=8)
STRIDED = nn.Conv1d(3, 3, 6, stride=3, padding=1)
UP, UP_EVENLY = nn.ConvTranspose1d(3, 3, 11, 5, padding=3), nn.ConvTranspose1d(3, 3, 4, 4)
OPERATIONS = {
    "conv": (lambda tape, x: tape.conv(WIDE, x), WIDE),
    "dilated": (lambda tape, x: tape.conv(DILATED, x), DILATED),
    "strided": (lambda tape, x: tape.conv(STRIDED, x), STRIDED),
    "causal": (lambda tape, x: tape.conv(DILATED, x, causal=True), lambda x: DILATED(F.pad(x, (8, 0)))[..., :240]),
    "transposed": (lambda tape, x: tape.conv_transposed(UP, x), UP),
    "transposed, nothing shared": (lambda tape, x: tape.conv_transposed(UP_EVENLY, x), UP_EVENLY),
    "windows": (lambda tape, x: tape.windows(x, 16, 4).transpose(2, 3).flatten(1, 2), lambda x: _columns(x, 16, 4)),
    "mirror": (lambda tape, x: tape.mirror(x, 8, 5), lambda x: F.pad(x, (8, 5), mode="reflect")),
    "mirror, left": (lambda tape, x: tape.mirror(x, 1, 0), lambda x: F.pad(x, (1, 0), mode="reflect")),
    "paths of different reach": (
        lambda tape, x: tape.add(x, tape.conv(WIDE, x), tape.conv(DILATED, x)),
        lambda x: x + WIDE(x) + DILATED(x),
    ),
}


def _columns(x, size, hop):
    return x.unfold(-1, size, hop).transpose(2, 3).flatten(1, 2)


@pytest.mark.parametrize("cuts", [[], [120], [40, 41, 42, 200], [30, 30, 90], [239], [50, 240]], ids=str)
@pytest.mark.parametrize("name", OPERATIONS)
@torch.no_grad()
def test_pieces_equal_the_whole(name, cuts):
    operation, whole = OPERATIONS[name]
    memory, given = None, []
    bounds = [0, *cuts, SIGNAL.shape[-1]]
    for start, end in zip(bounds, bounds[1:]):
        tape = Tape(memory, last=end == bounds[-1] and start == bounds[-2])
        given.append(operation(tape, SIGNAL[..., start:end]))
        memory = tape.memory
    torch.testing.assert_close(torch.cat(given, dim=-1), whole(SIGNAL), atol=1e-5, rtol=0)


def test_memory_is_copied_out_of_the_piece():
    """A view would keep the whole piece alive, and change with it."""
    piece = SIGNAL.clone()
    tape = Tape(None, last=False)
    tape.windows(piece, 16, 4)
    kept = tape.memory[0].clone()
    piece.zero_()
    assert torch.equal(tape.memory[0], kept)
    assert tape.memory[0].untyped_storage().nbytes() < piece.untyped_storage().nbytes()


def test_the_end_leaves_no_memory():
    tape = Tape()
    tape.mirror(SIGNAL, 8, 8)
    assert tape.whole and tape.memory == ()
