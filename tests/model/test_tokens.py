"""Ids are resolved by name, codes round trip, and every id is of exactly one kind."""

import pytest

from model.errors import CheckpointError
from model.tokens import CONTROL_NAMES, Kind, TokenIds, code_name


class Vocabulary:
    """The one method of a tokenizer that ids are read from."""

    def __init__(self, names):
        self.ids = {name: index for index, name in enumerate(names)}

    def get_vocab(self):
        return self.ids


def small_names(n_codes=8):
    codes = [code_name(code) for code in range(n_codes + 1)]
    return ["a", "b", *codes, *CONTROL_NAMES, "<|im_end|>"]


def test_official_layout():
    ids = TokenIds.official()
    assert (ids.audio_start, ids.audio_end, ids.audio_patch) == (151688, 151689, 151690)
    assert (ids.id_of(0), ids.id_of(6560), ids.code_pad) == (151696, 158256, 158257)
    assert ids.eos == (151643, 151645, 151665)


@pytest.mark.parametrize(
    ("token_id", "kind"),
    [
        (0, Kind.TEXT),
        (151657, Kind.TEXT),  # <tool_call> is text, as in the official wrapper
        (151643, Kind.SPECIAL),
        (151645, Kind.SPECIAL),
        (151688, Kind.SPECIAL),
        (151690, Kind.AUDIO_IN),
        (151695, Kind.SPECIAL),
        (151696, Kind.AUDIO_OUT),
        (158257, Kind.AUDIO_OUT),  # the padding of an audio slot sits in an audio slot
        (158258, Kind.SPECIAL),  # unused rows
    ],
)
def test_kind_of_official_ids(token_id, kind):
    assert TokenIds.official().kind(token_id) is kind


def test_codes_round_trip():
    ids = TokenIds.official()
    assert all(ids.code_of(ids.id_of(code)) == code for code in range(ids.n_codes))


def test_the_pad_is_no_code():
    ids = TokenIds.official()
    assert not ids.is_code(ids.code_pad)
    with pytest.raises(ValueError, match="is no speech code"):
        ids.code_of(ids.code_pad)
    with pytest.raises(ValueError, match="outside the codebook"):
        ids.id_of(ids.n_codes)


def test_ids_are_resolved_by_name_whatever_their_order():
    ids = TokenIds.from_tokenizer(Vocabulary(small_names()))
    assert (ids.first_code, ids.n_codes, ids.code_pad) == (2, 8, 10)
    assert ids.kind(0) is Kind.TEXT and ids.kind(2) is Kind.AUDIO_OUT
    assert ids.control_id("<|EOT|>") == ids.eot and ids.eot in ids.eos and len(ids.eos) == 3


def test_a_missing_control_token_is_named():
    names = [name for name in small_names() if name != "<audio_patch>"]
    with pytest.raises(CheckpointError, match="no token named <audio_patch>"):
        TokenIds.from_tokenizer(Vocabulary(names))


def test_codes_with_a_gap_are_refused():
    names = small_names()
    names.insert(names.index("<audio_5>"), "between")
    with pytest.raises(CheckpointError, match="without gaps"):
        TokenIds.from_tokenizer(Vocabulary(names))


def test_clashing_ids_are_refused():
    values = TokenIds.official().to_dict()
    with pytest.raises(CheckpointError, match="distinct control ids"):
        TokenIds(**{**values, "eot": values["bot"]})
