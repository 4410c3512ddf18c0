// Plays stretches of the common time axis, to the sample, through WebAudio.
class Player {
  constructor(clips, duration) {
    this.clips = clips;
    this.duration = duration;
    this.playing = null;
  }

  // The whole axis as one buffer, gaps included; made on the first press, as browsers want a gesture for sound.
  prepare() {
    if (this.buffer) return;
    this.context = new (window.AudioContext || window.webkitAudioContext)();
    const rate = this.clips[0].rate;
    this.buffer = this.context.createBuffer(1, Math.max(1, Math.ceil(this.duration * rate)), rate);
    const out = this.buffer.getChannelData(0);
    for (const clip of this.clips) {
      const from = Math.round(clip.offset_s * rate);
      const n = Math.min(clip.samples.length, out.length - from);
      for (let k = 0; k < n; k += 1) out[from + k] = clip.samples[k] / 32768;
    }
  }

  // Play a stretch; `onTime(seconds)` runs with every screen frame, `onEnd(finished)` once.
  play(start, end, onTime, onEnd) {
    this.stop();
    if (!this.clips.length) return;
    this.prepare();
    if (this.context.state === "suspended") this.context.resume();
    const source = this.context.createBufferSource();
    const gain = this.context.createGain();
    const now = this.context.currentTime + 0.02;
    const length = Math.min(end, this.duration) - start;
    // Ramps of 4 ms: a cut in the middle of a wave clicks.
    gain.gain.setValueAtTime(0, now);
    gain.gain.linearRampToValueAtTime(1, now + 0.004);
    gain.gain.setValueAtTime(1, Math.max(now + 0.004, now + length - 0.004));
    gain.gain.linearRampToValueAtTime(0, now + length);
    source.buffer = this.buffer;
    source.connect(gain).connect(this.context.destination);
    const playing = { source, onEnd, frame: 0 };
    const follow = () => {
      if (this.playing !== playing) return;
      onTime(clamp(start + this.context.currentTime - now, start, end));
      playing.frame = requestAnimationFrame(follow);
    };
    source.onended = () => this.finish(playing, true);
    source.start(now, start, length);
    this.playing = playing;
    follow();
  }

  finish(playing, finished) {
    if (this.playing !== playing) return;
    this.playing = null;
    cancelAnimationFrame(playing.frame);
    playing.onEnd(finished);
  }

  stop() {
    const playing = this.playing;
    if (!playing) return;
    playing.source.onended = null;
    playing.source.stop();
    this.finish(playing, false);
  }

  close() {
    this.stop();
    if (this.context) this.context.close();
  }
}
