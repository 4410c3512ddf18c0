"""A trace file comes back bit for bit, and a hostile one is refused before it costs anything."""

import io
import json
import zipfile
from dataclasses import fields, replace

import numpy as np
import pytest
import soundfile

from analysis.trace import CaptureSpec, Trace
from analysis.trace_file import TraceLimits, load_trace, save_trace
from model.audio import Waveform
from model.errors import TraceError
from tests.analysis.planted import planted_trace


@pytest.fixture(scope="module")
def trace() -> Trace:
    return planted_trace()[0]


@pytest.fixture(scope="module")
def data(trace) -> bytes:
    return written(trace)


def written(trace: Trace) -> bytes:
    buffer = io.BytesIO()
    save_trace(buffer, trace)
    return buffer.getvalue()


def members(data: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def zipped(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def edited(data: bytes, edit) -> bytes:
    """The same file with its trace.json changed by `edit`."""
    files = members(data)
    document = json.loads(files["trace.json"])
    edit(document)
    return zipped(files | {"trace.json": json.dumps(document).encode()})


def assert_same(one: Trace, other: Trace) -> None:
    assert one.meta == other.meta and one.events == other.events
    for column in fields(one.tokens):
        np.testing.assert_array_equal(getattr(one.tokens, column.name), getattr(other.tokens, column.name))
    assert dict(one.audio) == dict(other.audio)
    assert set(one.tensors) == set(other.tensors)
    for name, tensor in one.tensors.items():
        assert tensor.dtype == other.tensors[name].dtype
        np.testing.assert_array_equal(tensor, other.tensors[name])


def test_a_trace_comes_back_bit_for_bit(trace, data, tmp_path):
    path = tmp_path / "turn.zip"
    save_trace(path, trace)
    assert_same(trace, load_trace(path))
    assert_same(trace, load_trace(data))
    assert path.read_bytes() == data  # no clock and no randomness in the file
    assert [file.name for file in tmp_path.iterdir()] == ["turn.zip"]


def test_odd_traces_come_back_too(trace):
    loud = Waveform((1.8 * np.sin(np.arange(500) / 9)).astype(np.float32), 24000)
    silent = Waveform(np.zeros(0, np.float32), 16000)
    spec = CaptureSpec(layers=(0, 1, 2), heads="all", offset="reads")
    odd = replace(
        trace,
        audio={**trace.audio, "output": loud, "empty": silent},
        meta=replace(trace.meta, capture=spec, seed=None, clips=("今天 ’.wav",)),
        events=(),
        tensors={},
    )
    assert_same(odd, load_trace(written(odd)))


def test_saving_over_a_trace_is_all_or_nothing(trace, tmp_path, monkeypatch):
    path = tmp_path / "turn.zip"
    path.write_bytes(b"before")
    monkeypatch.setattr(soundfile, "write", lambda *_, **__: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        save_trace(path, trace)
    assert path.read_bytes() == b"before" and len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("schema", [None, 0, 2, "1"])
def test_unknown_schema_is_refused(data, schema):
    with pytest.raises(TraceError, match="found schema"):
        load_trace(edited(data, lambda document: document.update(schema=schema)))


@pytest.mark.parametrize(
    "name", ["../trace.json", "/etc/passwd", "audio/../x.flac", "audio/a/b.flac", "tensors.pkl", "audio/"]
)
def test_a_member_with_another_name_is_refused(data, name):
    with pytest.raises(TraceError, match="a member named"):
        load_trace(zipped(members(data) | {name: b"x"}))


def test_two_members_of_one_name_are_refused(data):
    buffer = io.BytesIO(data)
    with zipfile.ZipFile(buffer, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("trace.json", "{}")
    with pytest.raises(TraceError, match="same name"):
        load_trace(buffer)


def test_an_encrypted_member_is_refused(data):
    locked = bytearray(data)
    central = locked.rfind(b"PK\x01\x02")
    locked[central + 8] |= 1
    with pytest.raises(TraceError, match="encrypted"):
        load_trace(bytes(locked))


def test_bombs_are_refused_before_they_are_unpacked(data):
    files = members(data)
    with pytest.raises(TraceError, match="tensors.safetensors of 3,000,000 bytes"):
        load_trace(zipped(files | {"tensors.safetensors": bytes(3_000_000)}))
    with pytest.raises(TraceError, match=r"trace.json of 3,000,000 bytes"):
        load_trace(zipped(files | {"trace.json": b" " * 3_000_000}), limits=TraceLimits(json_bytes=2_000_000))
    with pytest.raises(TraceError, match="members"):
        load_trace(zipped(files | {f"audio/a{k}.flac": b"" for k in range(100)}))
    with pytest.raises(TraceError, match="at most 10 bytes"):
        load_trace(data, limits=TraceLimits(file_bytes=10))


def test_a_member_that_lies_about_its_size_is_refused(data):
    """The declared size is made small by hand; reading must still stop."""
    lying = bytearray(zipped(members(data) | {"trace.json": b" " * 3_000_000}))
    for signature, offset in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):
        at = lying.find(signature)
        lying[at + offset : at + offset + 4] = (100).to_bytes(4, "little")
    with pytest.raises(TraceError):
        load_trace(bytes(lying))


def test_sound_bombs_are_refused(data):
    buffer = io.BytesIO()
    soundfile.write(buffer, np.zeros(16000 * 600, np.int32), 16000, format="FLAC", subtype="PCM_24")
    files = members(data) | {"audio/input_0.flac": buffer.getvalue()}
    with pytest.raises(TraceError, match="as trace.json says"):  # ten minutes where four seconds were listed
        load_trace(zipped(files))

    def claim(document):
        document["audio"]["input_0"]["n_samples"] = 16000 * 600

    with pytest.raises(TraceError, match="600 s of sound"):
        load_trace(edited(zipped(files), claim), limits=TraceLimits(audio_s=60))


@pytest.mark.parametrize(
    "edit",
    [
        lambda d: d["audio"].pop("input_0"),
        lambda d: d["audio"]["input_0"].update(sample_rate_hz=0),
        lambda d: d["audio"]["input_0"].update(sample_rate_hz=-16000),
        lambda d: d["audio"]["input_0"].update(exponent=10**9),
        lambda d: d["audio"]["input_0"].update(n_samples=1),
        lambda d: d["tokens"].update(ids=["a"]),
        lambda d: d["tokens"].update(ids=[2**70] * len(d["tokens"]["ids"])),
        lambda d: d["tokens"].update(text=[None] * len(d["tokens"]["ids"])),
        lambda d: d["tokens"].pop("kind"),
        lambda d: d["tokens"].update(extra=[1]),
        lambda d: d["meta"].update(n_heads=10**6),
        lambda d: d["meta"].update(n_prompt="x"),
        lambda d: d["meta"].update(surprise=1),
        lambda d: d["meta"]["capture"].update(layers=5),
        lambda d: d.update(events=[{"type": "Exec"}]),
        lambda d: d.update(events=[{"type": "TextDelta", "colour": 1}]),
        lambda d: d.update(meta=[]),
        lambda d: d.pop("tokens"),
    ],
)
def test_wrong_json_is_refused(data, edit):
    with pytest.raises(TraceError):
        load_trace(edited(data, edit))


@pytest.mark.parametrize(
    "rubbish",
    [b"", b"PK", b"RIFF....WAVE", zipped({}), zipped({"trace.json": b"{"}), zipped({"trace.json": b"[" * 100_000}),
     zipped({"trace.json": b"[1]"}), zipped({"trace.json": b'{"schema": NaN}'}), zipped({"trace.json": b"\xff\xfe"})],
)  # fmt: skip
def test_rubbish_is_refused(rubbish):
    with pytest.raises(TraceError):
        load_trace(rubbish)


def test_damaged_arrays_are_refused(data):
    files = members(data)
    tensors = files["tensors.safetensors"]
    for damaged in (b"", tensors[:-4], b"\xff" * 16, (2**40).to_bytes(8, "little") + tensors[8:]):
        with pytest.raises(TraceError):
            load_trace(zipped(files | {"tensors.safetensors": damaged}))


def test_a_cut_file_is_refused(data):
    for end in range(0, len(data), len(data) // 17):
        with pytest.raises(TraceError):
            load_trace(data[:end])


def test_a_flipped_byte_never_escapes_as_another_error(data):
    """Either the damage does not matter (a date, a comment) or it is refused as a TraceError."""
    rng = np.random.default_rng(0)
    for place in rng.integers(len(data), size=150):
        damaged = bytearray(data)
        damaged[place] ^= 1 << rng.integers(8)
        try:
            load_trace(bytes(damaged))
        except TraceError:
            pass


def test_a_missing_file_is_an_ordinary_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        load_trace(tmp_path / "none.zip")
