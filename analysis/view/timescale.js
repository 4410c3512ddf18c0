// One time axis for every row: which stretch of the sound is in view, and where a time is on the screen.
class TimeScale {
  constructor(duration) {
    this.duration = Math.max(duration, 0.01);
    this.fit();
  }

  fit() {
    this.start = 0;
    this.end = this.duration;
  }

  get length() {
    return this.end - this.start;
  }

  get zoomed() {
    return this.length < this.duration - 1e-6;
  }

  // Show a stretch, moved and shrunk so that it stays inside the sound.
  show(start, end) {
    const length = clamp(end - start, Math.min(0.1, this.duration), this.duration);
    this.start = clamp((start + end - length) / 2, 0, this.duration - length);
    this.end = this.start + length;
  }

  zoom(factor, at = (this.start + this.end) / 2) {
    const length = this.length / factor;
    const start = at - ((at - this.start) / this.length) * length;
    this.show(start, start + length);
  }

  pan(seconds) {
    const start = clamp(this.start + seconds, 0, this.duration - this.length);
    this.end = start + this.length;
    this.start = start;
  }

  // Scroll just far enough that a stretch is in view.
  reveal(start, end) {
    if (start >= this.start && end <= this.end) return;
    if (end - start > this.length) this.show(start - 0.1, end + 0.1);
    else this.pan((start + end) / 2 - (this.start + this.end) / 2);
  }

  x(time, rect) {
    return rect.x + ((time - this.start) / this.length) * rect.width;
  }

  time(x, rect) {
    return clamp(this.start + ((x - rect.x) / rect.width) * this.length, 0, this.duration);
  }

  // Round times, about `count` of them, and how many digits they need.
  ticks(count) {
    const rough = this.length / Math.max(1, count);
    const power = 10 ** Math.floor(Math.log10(rough));
    const step = [1, 2, 5, 10].map((k) => k * power).find((size) => size >= rough * 0.999);
    const times = [];
    for (let k = Math.ceil(this.start / step - 1e-9); k * step <= this.end + 1e-9; k += 1) times.push(k * step);
    return { times, digits: Math.max(0, -Math.floor(Math.log10(step) + 1e-9)) };
  }
}
