"""Is a recording good enough to be a voice? Four questions, asked before anything is computed.

    length     3 to 15 s                          the flow reads it all for every voice, and remembers it
    loudness   a second or more of sound          else there is nothing to imitate
    clipping   hardly a sample at full scale      distortion would be imitated, too
    noise      12 dB between loud and quiet       speech has pauses; noise, hum and music hardly have any

The thresholds stand between what was measured: of 3000 clips of read speech in eight sets all but those of distant
microphones had 20 to 58 dB between loud and quiet parts, rain, engines and the like 1 to 12 dB.
"""

from dataclasses import dataclass

import numpy as np

from model.audio import Waveform
from model.errors import AudioError

MIN_SECONDS, MAX_SECONDS = 3.0, 15.0
MIN_HEARD_S = 1.0
"""Least time in which there is sound."""
MIN_LOUD_DB = -50.0
"""Least level of the loud parts, relative to full scale."""
MIN_RANGE_DB = 12.0
"""Least distance between loud and quiet parts."""
FULL_SCALE, MAX_CLIPPED_SHARE = 0.98, 1e-3
"""From this size on a sample counts as clipped (resampling moves them a little), and how many may be."""
FRAME_S = 0.02
HEARD_BELOW_LOUD_DB = 30.0
"""A frame counts as sound down to this far below the loud ones."""


@dataclass(frozen=True)
class RecordingReport:
    """What was measured on a recording; levels are in dB below full scale."""

    duration_s: float
    heard_s: float
    """Time in which there is sound."""
    loud_db: float
    """Level of the loud parts: 95 % of the frames are below."""
    quiet_db: float
    """Level of the quiet parts: 10 % of the frames are below."""
    clipped_share: float
    """Share of the samples at full scale."""

    @property
    def range_db(self) -> float:
        """Distance between the loud and the quiet parts."""
        return self.loud_db - self.quiet_db

    @property
    def problem(self) -> tuple[str, str, str] | None:
        """What was found, what was expected and what to do; None if the recording can be a voice."""
        if not MIN_SECONDS <= self.duration_s <= MAX_SECONDS:
            length = "Record a few sentences." if self.duration_s < MIN_SECONDS else "Cut out the best ten seconds."
            return f"{self.duration_s:.1f} s of sound", f"{MIN_SECONDS:g} to {MAX_SECONDS:g} s", length
        if self.loud_db < MIN_LOUD_DB:
            found = "silence" if self.loud_db < MIN_LOUD_DB - 30 else f"hardly a sound ({self.loud_db:.0f} dB)"
            return found, f"speech above {MIN_LOUD_DB:.0f} dB", "Check the microphone, then record louder."
        if self.heard_s < MIN_HEARD_S:
            found = f"{self.heard_s:.1f} s of speech, the rest silent"
            return found, f"at least {MIN_HEARD_S:g} s of it", "Record a few sentences without long pauses."
        if self.clipped_share > MAX_CLIPPED_SHARE:
            found = f"clipped sound ({100 * self.clipped_share:.1f} % of the samples at full scale)"
            return found, "an undistorted recording", "Record again, quieter or further from the microphone."
        if self.range_db < MIN_RANGE_DB:
            found = f"steady sound: only {self.range_db:.0f} dB between its loud and its quiet parts"
            expected = f"speech with pauses, {MIN_RANGE_DB:.0f} dB or more"
            return found, expected, "Record one person in a quiet place, without noise or music."
        return None


def examine(recording: Waveform) -> RecordingReport:
    """Measure a recording of any rate and length."""
    size = max(1, round(FRAME_S * recording.sample_rate_hz))
    samples = recording.samples[: len(recording.samples) // size * size].reshape(-1, size)
    power = np.square(samples, dtype=np.float64).mean(axis=1)
    levels_db = 10 * np.log10(power + 1e-12) if len(power) else np.full(1, -120.0)
    quiet_db, loud_db = np.percentile(levels_db, [10, 95])
    heard = levels_db > max(loud_db - HEARD_BELOW_LOUD_DB, MIN_LOUD_DB - HEARD_BELOW_LOUD_DB)
    clipped = np.abs(recording.samples) >= FULL_SCALE
    return RecordingReport(
        duration_s=recording.duration_s,
        heard_s=float(heard.sum() * FRAME_S),
        loud_db=float(loud_db),
        quiet_db=float(quiet_db),
        clipped_share=float(clipped.mean()) if clipped.size else 0.0,
    )


def check_recording(recording: Waveform, name: str = "the recording") -> RecordingReport:
    """Return what was measured, or refuse the recording.

    Raises:
        AudioError: If it is too short, too long, silent, clipped or noisy.
    """
    report = examine(recording)
    if report.problem:
        found, expected, todo = report.problem
        raise AudioError(f"make a voice of {name}", found=found, expected=expected, todo=todo)
    return report
