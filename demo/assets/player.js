// Plays sound while it arrives: pieces of 16-bit samples in, one gapless stretch of Web Audio out. Nothing is fetched.
//
//   value {id, rate, pieces: [base64 ...], done}   pieces only ever grow under one id, so a lost update costs nothing
//
// The context runs at the rate of the sound and every piece starts on a whole sample after the one before, so what is
// heard is what was sent, sample by sample. A piece that comes too late leaves a gap, which is counted, never a click.
globalThis.PcmPlayer = (() => {
  "use strict";

  const LEAD_S = 0.06; // between the first piece and its first sample: time to schedule it
  const WAIT_S = 0.25; // ... after a gap, so that the next piece finds the one before still playing
  const RAMP_S = 0.008; // a cut in the middle of a wave clicks
  const LABELS = { play: "Play", pause: "Pause", stop: "Stop", download: "Download", position: "Position",
    waiting: "Waiting for more sound", blocked: "Press Play to hear it", file: "speech" };

  const clock = (seconds) => `${Math.floor(seconds / 60)}:${(seconds % 60).toFixed(1).padStart(4, "0")}`;

  function samplesOf(base64) {
    const text = atob(base64);
    const bytes = new Uint8Array(text.length);
    for (let k = 0; k < text.length; k += 1) bytes[k] = text.charCodeAt(k);
    return new Int16Array(bytes.buffer);
  }

  // All samples so far, in the pieces in which they came.
  class Sound {
    constructor(rate) {
      this.rate = rate;
      this.pieces = [];
      this.length = 0;
    }

    add(samples) {
      this.pieces.push({ from: this.length, samples });
      this.length += samples.length;
    }

    // The rest of the piece that holds a sample.
    from(frame) {
      const piece = this.pieces.findLast((each) => each.from <= frame);
      return piece.samples.subarray(frame - piece.from);
    }

    whole() {
      const all = new Int16Array(this.length);
      for (const piece of this.pieces) all.set(piece.samples, piece.from);
      return all;
    }

    wav() {
      const head = new DataView(new ArrayBuffer(44));
      const text = (at, letters) => [...letters].forEach((letter, k) => head.setUint8(at + k, letter.charCodeAt(0)));
      const n_bytes = 2 * this.length;
      text(0, "RIFF"); head.setUint32(4, 36 + n_bytes, true); text(8, "WAVEfmt ");
      head.setUint32(16, 16, true); head.setUint16(20, 1, true); head.setUint16(22, 1, true);
      head.setUint32(24, this.rate, true); head.setUint32(28, 2 * this.rate, true);
      head.setUint16(32, 2, true); head.setUint16(34, 16, true);
      text(36, "data"); head.setUint32(40, n_bytes, true);
      return new Blob([head, this.whole()], { type: "audio/wav" });
    }
  }

  // Schedules a growing sound. `onChange` is called whenever `state` may have changed.
  class Engine {
    constructor(onChange) {
      this.onChange = () => {};
      this.reset(24000);
      this.onChange = onChange;
    }

    reset(rate) {
      this.silence();
      if (this.context && this.context.sampleRate !== rate) {
        this.context.close();
        this.context = null;
      }
      this.sound = new Sound(rate);
      this.done = false;
      this.playing = false;
      this.head = 0; // where to go on, while nothing is scheduled
      this.gaps = 0;
      this.onChange();
    }

    // Open the sound card; browsers let it run only after a click or a key somewhere on the page.
    prepare() {
      if (this.context) return this.context;
      const Context = window.AudioContext || window.webkitAudioContext;
      this.context = new Context({ sampleRate: this.sound.rate });
      this.context.onstatechange = () => this.onChange();
      this.output = this.context.createGain();
      this.output.connect(this.context.destination);
      return this.context;
    }

    get state() {
      if (!this.sound.length) return this.playing ? "waiting" : "empty";
      if (!this.playing) return this.head >= this.sound.length && this.done ? "ended" : "paused";
      if (this.context.state !== "running") return "blocked";
      return this.run && this.position < this.run.next ? "playing" : "waiting";
    }

    add(samples) {
      if (samples.length) this.sound.add(samples);
      this.pump();
    }

    finish() {
      this.done = true;
      this.endIfOver();
      this.onChange();
    }

    play() {
      if (this.head >= this.sound.length && this.done) this.head = 0;
      this.playing = true;
      this.prepare().resume();
      this.pump();
    }

    pause() {
      this.head = this.position;
      this.silence();
      this.playing = false;
      this.onChange();
    }

    stop() {
      this.silence();
      this.playing = false;
      this.head = 0;
      this.onChange();
    }

    seek(frame) {
      this.silence();
      this.head = Math.min(Math.max(0, Math.round(frame)), this.sound.length);
      if (this.playing) this.pump();
      this.endIfOver();
      this.onChange();
    }

    // The sample that is heard now.
    get position() {
      const { run, context } = this;
      if (!run) return this.head;
      const heard = run.from + Math.round(context.currentTime * this.sound.rate) - run.start;
      return Math.min(Math.max(run.from, heard), run.next);
    }

    // Schedule what has come and is not scheduled yet.
    pump() {
      if (!this.playing) return this.onChange();
      const rate = this.sound.rate;
      const now = Math.ceil(this.prepare().currentTime * rate);
      let lead = LEAD_S;
      if (this.run && this.run.next < this.sound.length && now >= this.run.start + this.run.next - this.run.from) {
        this.gaps += 1;
        lead = WAIT_S;
        this.head = this.run.next;
        this.run = null;
      }
      if (!this.run && this.head < this.sound.length) this.run = this.begin(now + Math.round(lead * rate), lead);
      while (this.run && this.run.next < this.sound.length) this.schedule(this.sound.from(this.run.next));
      this.onChange();
    }

    // A run is a stretch without gaps; in the middle of a sound it fades in.
    begin(start) {
      const gain = this.context.createGain();
      gain.connect(this.output);
      if (this.head > 0) {
        gain.gain.setValueAtTime(0, start / this.sound.rate);
        gain.gain.linearRampToValueAtTime(1, start / this.sound.rate + RAMP_S);
      }
      return { start, from: this.head, next: this.head, gain, sources: new Set() };
    }

    schedule(samples) {
      const { run, context, sound } = this;
      const buffer = context.createBuffer(1, samples.length, sound.rate);
      const channel = buffer.getChannelData(0);
      for (let k = 0; k < samples.length; k += 1) channel[k] = samples[k] / 32768;
      const source = context.createBufferSource();
      source.buffer = buffer;
      source.connect(run.gain);
      source.onended = () => {
        run.sources.delete(source);
        if (this.run === run && !run.sources.size) this.endIfOver();
        this.onChange();
      };
      run.sources.add(source);
      source.start((run.start + run.next - run.from) / sound.rate);
      run.next += samples.length;
    }

    endIfOver() {
      const played = this.run ? !this.run.sources.size && this.run.next >= this.sound.length : this.head >= this.sound.length;
      if (!this.done || !this.playing || !played) return;
      this.playing = false;
      this.head = this.sound.length;
      this.run = null;
    }

    silence() {
      const run = this.run;
      this.run = null;
      if (!run) return;
      const now = this.context.currentTime;
      run.gain.gain.cancelScheduledValues(now);
      run.gain.gain.setValueAtTime(1, now);
      run.gain.gain.linearRampToValueAtTime(0, now + RAMP_S);
      for (const source of run.sources) source.stop(now + RAMP_S);
    }

    close() {
      this.silence();
      if (this.context) this.context.close();
    }
  }

  // The buttons around an engine. The root publishes data-state, data-seconds, data-gaps for tests and style, and
  // carries the engine as `root.pcm`.
  function mount(root, { labels = {}, onTime = () => {} } = {}) {
    const words = { ...LABELS, ...labels };
    const make = (tag, name, more = {}) => Object.assign(document.createElement(tag), { className: name, ...more });
    const play = make("button", "pcm-play", { type: "button" });
    const stop = make("button", "pcm-stop", { type: "button", title: words.stop, ariaLabel: words.stop });
    const bar = make("input", "pcm-bar", { type: "range", min: 0, max: 0, step: 0.01, value: 0, ariaLabel: words.position });
    const time = make("span", "pcm-time");
    const note = make("span", "pcm-note", { role: "status" });
    const save = make("a", "pcm-save", { textContent: words.download, download: `${words.file}.wav` });
    root.classList.add("pcm");
    root.replaceChildren(play, stop, bar, time, note, save);
    let id = "", taken = 0, drawn = 0, link = "";

    const draw = () => {
      cancelAnimationFrame(drawn);
      const { sound, state, position } = engine;
      const going = state === "playing" || state === "waiting";
      const total = sound.length / sound.rate;
      root.dataset.state = state;
      root.dataset.seconds = total.toFixed(3);
      root.dataset.gaps = engine.gaps;
      play.disabled = state === "empty";
      stop.disabled = !going && !position;
      play.dataset.sign = going ? "pause" : "play";
      play.ariaLabel = play.title = going ? words.pause : words.play;
      bar.disabled = !sound.length;
      bar.max = total;
      bar.value = position / sound.rate;
      bar.style.setProperty("--share", sound.length ? position / sound.length : 0);
      bar.setAttribute("aria-valuetext", clock(position / sound.rate));
      time.textContent = `${clock(position / sound.rate)} / ${clock(total)}`;
      note.textContent = state === "blocked" ? words.blocked : state === "waiting" && sound.length ? words.waiting : "";
      save.hidden = !engine.done || !sound.length;
      onTime(position / sound.rate, state);
      if (going || state === "blocked") drawn = requestAnimationFrame(draw);
    };
    const engine = new Engine(draw);
    root.pcm = engine;

    play.onclick = () => (["playing", "waiting"].includes(engine.state) ? engine.pause() : engine.play());
    stop.onclick = () => engine.stop();
    bar.oninput = () => engine.seek(bar.valueAsNumber * engine.sound.rate);
    save.onclick = () => {
      if (!link) link = URL.createObjectURL(engine.sound.wav());
      save.href = link;
    };
    save.href = "#";

    const clear = (rate) => {
      engine.reset(rate);
      if (link) URL.revokeObjectURL(link);
      [taken, link] = [0, ""];
    };
    // A sound that is new is heard at once, unless it was there before the page was (`live` is false).
    const update = (value, live = true) => {
      if (!value.id) {
        clear(engine.sound.rate);
        id = "";
        return;
      }
      if (value.id !== id) {
        clear(value.rate);
        id = value.id;
        if (live) engine.play();
      }
      for (const piece of value.pieces.slice(taken)) engine.add(samplesOf(piece));
      taken = value.pieces.length;
      if (value.done && !engine.done) engine.finish();
    };
    draw();
    return { update, engine, close: () => engine.close() };
  }

  return { mount };
})();
