// Words of the view. The app may hand in another language; {names} are filled in. All of it is written as text.
const LABELS = {
  layer: "Layer",
  head: "Head",
  headNumber: "{n}",
  headMean: "Mean of heads",
  best: "Best head",
  bestHint: "The head that follows the sound most sharply and in order",
  words: "Whole words",
  wordsHint: "Add up the attention of all tokens of a word",
  scaleRows: "Scale each token",
  scaleRowsHint: "Show where each token looks most; off: one common scale",
  play: "Play",
  stop: "Stop",
  playSpan: "Play this moment",
  zoomIn: "Zoom in",
  zoomOut: "Zoom out",
  fit: "Show all",
  tokens: "Words of the reply",
  plot: "Sound, spectrogram and attention on one time axis",
  plotKeys: "Drag to select a span, arrows move between words, space plays, escape clears, plus and minus zoom.",
  overview: "Overview of the whole sound",
  wave: "sound",
  mel: "mel",
  attention: "attention",
  seconds: "s",
  emptyTitle: "Hear where each word came from",
  empty1: "Give the model a recording",
  empty1More: "Record or upload speech; a few seconds are enough.",
  empty2: "Read what it heard",
  empty2More: "Words appear here, underlined where the model was unsure.",
  empty3: "Click a word",
  empty3More: "You hear the moment of sound it came from, and see where else the model looked.",
  ready: "Click a word to hear the moment it came from. Drag over the sound to see which words look there.",
  noAttention: "This turn was saved without attention, so words cannot be traced back to the sound.",
  selected: "“{text}” looks at {start}–{end} s, centre {centre} s.",
  selectedBlank: "“{text}” does not look at the sound here.",
  brushed: "{start}–{end} s: looked at most by {list}.",
  brushedNone: "{start}–{end} s: no word looks here in particular.",
  listItem: "“{text}” ({share} %)",
  loading: "Loading layer {layer} …",
  failed: "Layer {layer} could not be loaded: {error}",
  probability: "Probability",
  entropy: "Entropy",
  span: "Looks at",
  centre: "Centre",
  onSound: "On the sound",
  nat: "nat",
  nothingSelected: "No word selected",
  nothingSelectedMore: "Click a word, or move with the arrow keys.",
  headMap: "Heads that listen",
  headMapHint: "rows: layers, columns: heads; darker follows the sound better",
  legendSure: "sure",
  legendUnsure: "unsure",
  legendLittle: "no attention",
  legendMuch: "most",
  table: "The same as a table",
  tableToken: "Token",
  offsetPredicts: "attention while the token was being chosen",
  offsetReads: "attention after the token was read",
};

const SPAN_SHARE = 0.6; // a word's moment: the shortest stretch that holds so much of its attention,
const SPAN_MARGIN_S = 0.08; // and one frame on each side, because attention sits on the middle of a word

const fill = (text, values) => text.replace(/\{(\w+)\}/g, (all, name) => (name in values ? values[name] : all));
const clamp = (value, low, high) => Math.min(high, Math.max(low, value));
const fixed = (value, digits = 2) => value.toFixed(digits);

function bytesOf(base64) {
  const text = atob(base64);
  const bytes = new Uint8Array(text.length);
  for (let k = 0; k < text.length; k += 1) bytes[k] = text.charCodeAt(k);
  return bytes;
}

function decodeLayer(encoded) {
  const scale = new Float32Array(bytesOf(encoded.scale).buffer);
  return { shape: encoded.shape, scale, codes: bytesOf(encoded.codes), maps: new Map() };
}

// All attention that is here already, and the way to get the rest.
class Attention {
  constructor(payload, fetchLayer) {
    this.id = payload.id;
    this.fetchLayer = fetchLayer;
    this.layers = new Map(Object.entries(payload.matrices || {}).map(([layer, m]) => [Number(layer), decodeLayer(m)]));
  }

  async load(layer) {
    if (this.layers.has(layer)) return this.layers.get(layer);
    if (!this.fetchLayer) throw new Error("not part of this file");
    const answer = await this.fetchLayer({ run: this.id, layer });
    if (!answer || answer.error) throw new Error((answer && answer.error) || "no answer");
    this.layers.set(layer, decodeLayer(answer));
    return this.layers.get(layer);
  }

  // Float32Array [query * frame] of one head, or of the mean over heads (null).
  map(layer, head) {
    const matrix = this.layers.get(layer);
    const key = head === null ? "mean" : head;
    if (!matrix.maps.has(key)) matrix.maps.set(key, unpack(matrix, head));
    return matrix.maps.get(key);
  }
}

function unpack({ shape: [heads, queries, frames], scale, codes }, head) {
  const out = new Float32Array(queries * frames);
  const wanted = head === null ? [...Array(heads).keys()] : [head];
  for (const h of wanted) {
    for (let q = 0; q < queries; q += 1) {
      const unit = scale[h * queries + q] / 255 / wanted.length;
      const from = (h * queries + q) * frames;
      for (let f = 0; f < frames; f += 1) out[q * frames + f] += unit * codes[from + f];
    }
  }
  return out;
}

// The attention of several tokens together, [frame].
function sumRows(map, n_frames, queries) {
  const row = new Float32Array(n_frames);
  for (const q of queries) for (let f = 0; f < n_frames; f += 1) row[f] += map[q * n_frames + f];
  return row;
}

// Where a row looks: the clip with most of it, there the centre (half of it lies before) and the
// moment to play.
function lookOf(row, frames, tokens = 1) {
  const byClip = [];
  let sound = 0;
  row.forEach((value, f) => {
    byClip[frames.clip[f]] = (byClip[frames.clip[f]] || 0) + value;
    sound += value;
  });
  if (!(sound > 0)) return null;
  const clip = byClip.reduce((best, value, k) => (value > (byClip[best] || 0) ? k : best), 0);
  const total = byClip[clip];
  let centre = null;
  let before = 0;
  let low = 0;
  let sum = 0;
  let best = null;
  for (let f = 0; f < row.length; f += 1) {
    if (frames.clip[f] !== clip) continue;
    before += row[f];
    if (centre === null && before >= total / 2) centre = (frames.start[f] + frames.end[f]) / 2;
    sum += row[f];
    while (frames.clip[low] !== clip || sum - row[low] >= SPAN_SHARE * total) {
      if (frames.clip[low] === clip) sum -= row[low];
      low += 1;
    }
    const length = frames.end[f] - frames.start[low];
    if (sum >= SPAN_SHARE * total && (!best || length < best.end - best.start)) {
      best = { start: frames.start[low], end: frames.end[f] };
    }
  }
  const start = Math.max(frames.clipStart[clip], best.start - SPAN_MARGIN_S);
  const end = Math.min(frames.clipEnd[clip], best.end + SPAN_MARGIN_S);
  return { start, end, centre, sound: sound / tokens };
}

// How much of a row falls into a stretch of time, 0..1.
function shareInside(row, frames, start, end) {
  let inside = 0;
  let all = 0;
  row.forEach((value, f) => {
    const overlap = Math.min(end, frames.end[f]) - Math.max(start, frames.start[f]);
    all += value;
    if (overlap > 0) inside += (value * overlap) / (frames.end[f] - frames.start[f]);
  });
  return all > 0 ? inside / all : 0;
}

function framesOf(payload) {
  const starts = payload.frames.start_s;
  const clipAt = (time) => payload.clips.findLastIndex((clip) => clip.offset_s <= time + 1e-6);
  return {
    n: starts.length,
    start: Float64Array.from(starts),
    end: Float64Array.from(payload.frames.end_s),
    clip: starts.map((time) => Math.max(0, clipAt(time))),
    clipStart: payload.clips.map((clip) => clip.offset_s),
    clipEnd: payload.clips.map((clip) => clip.offset_s + clip.duration_s),
  };
}

// Samples of a clip, and their extremes over blocks, so that a long sound is drawn from few numbers.
function soundOf(clip) {
  const samples = new Int16Array(bytesOf(clip.pcm).buffer);
  return { ...clip, ...levelsOf(samples), mel: { ...clip.mel, codes: bytesOf(clip.mel.codes) } };
}

function levelsOf(samples) {
  const levels = [{ block: 1, low: samples, high: samples }];
  let loudest = 1;
  for (const value of samples) loudest = Math.max(loudest, Math.abs(value));
  while (levels[levels.length - 1].low.length > 2000) {
    const { block, low, high } = levels[levels.length - 1];
    const n = Math.ceil(low.length / 8);
    const next = { block: block * 8, low: new Int16Array(n), high: new Int16Array(n) };
    for (let k = 0; k < n; k += 1) {
      let least = 32767;
      let most = -32768;
      for (let j = 8 * k; j < Math.min(8 * k + 8, low.length); j += 1) {
        if (low[j] < least) least = low[j];
        if (high[j] > most) most = high[j];
      }
      next.low[k] = least;
      next.high[k] = most;
    }
    levels.push(next);
  }
  return { samples, levels, loudest };
}
