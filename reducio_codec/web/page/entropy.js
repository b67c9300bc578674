// A latent's bytes to its whole numbers, bit for bit: FORMAT.md, "Latents".

import { Problem, varint } from "./bytes.js";

const LADDER = Array.from({ length: 38 }, (_, i) => Math.round(4 * 1.27 ** i));
const BORDERS = Array.from({ length: 15 }, (_, i) => Math.round(4 * 1.75 ** i));
const UNIT = 1024;
const LARGEST = 2 ** 20;
const WORD = 2 ** 32;
const WHOLE = 2 ** 24; // what a distribution's intervals add up to

const SHAPE = Float64Array.from({ length: 2561 }, (_, i) =>
  // no value lies within 0.00004 of a rounding border, so no engine's exp() can round one differently
  Math.round((1 - 0.9 * Math.exp(-i / 64) - 0.1 * Math.exp(-i / 192)) * 2 ** 20) * 16,
);

/** Frequencies of the symbols -A to A, then of the escape; they add up to 65536. */
export function frequencies(scale, step) {
  const within = Array.from({ length: 256 }, (_, k) => SHAPE[Math.min(2560, Math.floor(((2 * k + 1) * step * 32) / scale))]);
  const largest = within.indexOf(within[255]);
  const counts = new Array(2 * largest + 2).fill(0);
  counts[largest] = within[0];
  for (let k = 1; k <= largest; k++) {
    counts[largest - k] = counts[largest + k] = Math.floor((within[k] - within[k - 1]) / 2);
  }
  const spare = 65536 - counts.length;
  const found = counts.map((mass) => 1 + Math.floor((mass * spare) / WHOLE));
  found[largest] += 65536 - found.reduce((sum, count) => sum + count, 0);
  return found;
}

/** A distribution's intervals: where each symbol's begins, and as one more where the last one ends. */
function intervals(scale, step) {
  const counts = frequencies(scale, step);
  const spare = WHOLE - counts.length;
  const begins = new Float64Array(counts.length + 1);
  for (let j = 0, sum = 0; j < counts.length; sum += counts[j++]) begins[j] = Math.floor((sum * spare) / 65536) + j;
  begins[counts.length] = WHOLE;
  return { begins, largest: counts.length / 2 - 1 };
}

/** FORMAT.md's range decoder. Of `lower` and `point` only their difference matters; 64 bits are two numbers of 32. */
class RangeDecoder {
  constructor(bytes) {
    this.bytes = bytes;
    this.at = 0;
    this.rangeHigh = this.rangeLow = WORD - 1;
    this.high = this.word();
    this.low = this.word();
  }

  word() {
    let value = 0;
    for (let i = 3; i >= 0; i--) value = value * 256 + (this.bytes[this.at + i] ?? 0);
    this.at += 4;
    return value;
  }

  decode(begins) {
    const scale = this.rangeHigh * 256 + (this.rangeLow >>> 24); // the range / 2^24, below 2^40
    // long division in two steps of 12 bits, so that every number is below 2^53; % is exact
    const top = this.high * 2 ** 20 + (this.low >>> 12);
    const first = top % scale;
    const rest = first * 4096 + (this.low & 4095);
    const remainder = rest % scale;
    const quantile = ((top - first) / scale) * 4096 + (rest - remainder) / scale;
    if (quantile >= WHOLE) throw new Problem("a latent is damaged: it holds no valid code");
    let symbol = 0;
    for (let end = begins.length - 1; end - symbol > 1; ) {
      const middle = (symbol + end) >> 1;
      if (begins[middle] <= quantile) symbol = middle;
      else end = middle;
    }
    [this.high, this.low] = product(quantile - begins[symbol], scale, remainder);
    [this.rangeHigh, this.rangeLow] = product(begins[symbol + 1] - begins[symbol], scale, 0);
    if (!this.rangeHigh) {
      [this.rangeHigh, this.rangeLow] = [this.rangeLow, 0];
      [this.high, this.low] = [this.low, this.word()];
    }
    return symbol;
  }
}

/** factor * scale + more, of 24, 40 and 40 bits, as [upper, lower] 32 bits. */
function product(factor, scale, more) {
  const upper = Math.floor(scale / 65536);
  const low = factor * (scale % 65536) + more;
  const high = factor * upper + Math.floor(low / 65536);
  return [Math.floor(high / 65536), (high % 65536) * 65536 + (low % 65536)];
}

/** The five passes over a plane: places, and the four neighbours of each (`width * height` where there is none). */
function passesOf(height, width) {
  const passes = Array.from({ length: 5 }, () => ({ places: [], around: [] }));
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const number = (y + x) % 2 ? 4 : y % 2 ? 3 : (y / 2 + x / 2) % 2 ? 2 : (y / 2) % 2;
      const far = number < 3 ? 2 : 1;
      const steps = number % 2 ? [[-far, -far], [-far, far], [far, -far], [far, far]] : [[-far, 0], [far, 0], [0, -far], [0, far]];
      for (const [dy, dx] of steps) {
        const row = y + dy < 0 || y + dy >= height ? y - dy : y + dy;
        const column = x + dx < 0 || x + dx >= width ? x - dx : x + dx;
        const inside = row >= 0 && row < height && column >= 0 && column < width;
        passes[number].around.push(inside ? row * width + column : height * width);
      }
      passes[number].places.push(y * width + x);
    }
  }
  return passes;
}

/** Reads the latents of one model. */
export class LatentDecoder {
  /** @param tables the model's entropy.json */
  constructor(tables) {
    this.tables = tables;
    this.known = new Map();
  }

  /** The quantiser's step of a channel, in 1/1024. */
  channelStep(channel, step) {
    return Math.max(1, Math.floor((step * this.tables.multipliers[channel] + UNIT / 2) / UNIT));
  }

  /** Whole numbers, Int32Array of [channel][time][row][column]; `step` in 1/1024. */
  decode(bytes, [channels, times, height, width], step) {
    const plane = height * width;
    const symbols = new Int32Array(channels * times * plane);
    if (!bytes.length) return symbols;
    const [size, start] = varint(bytes, 0);
    if (size > bytes.length - start) throw new Problem("a latent is damaged: its escapes reach past its end");
    const escapes = { bytes: bytes.subarray(start, start + size), at: 0 };
    const coder = new RangeDecoder(bytes.subarray(start + size));
    const passes = passesOf(height, width);
    // errors of each channel, the newest there are; one place more for neighbours that aren't there
    const errors = Array.from({ length: channels }, () => new Float64Array(plane + 1));
    for (let time = 0; time < times; time++) {
      for (let channel = 0; channel < channels; channel++) {
        const values = new Int32Array(plane + 1);
        const before = errors[channel].slice();
        const others = errors.slice(Math.max(0, channel - 4), channel);
        passes.forEach((pass, number) => {
          this.decodePass(pass, { number, time, channel, values, error: errors[channel], before, others, coder, escapes, step });
        });
        symbols.set(values.subarray(0, plane), (channel * times + time) * plane);
      }
    }
    return symbols;
  }

  decodePass({ places, around }, { number, time, channel, values, error, before, others, coder, escapes, step }) {
    const slot = Math.min(time, 3), own = this.channelStep(channel, step);
    const weights = this.tables.weights[channel][slot][number], scales = this.tables.scales[channel][slot][number];
    const follow = number ? this.tables.follow[channel][number - 1] : 0;
    const predictions = new Int32Array(places.length);
    const byScale = Array.from(LADDER, () => []);
    for (let i = 0; i < places.length; i++) {
      const place = places[i];
      let near = 0, sum = 0, beside = 0;
      for (let k = 4 * i; number && k < 4 * i + 4; k++) {
        near += error[around[k]];
        sum += values[around[k]];
      }
      for (const other of others) beside += other[place];
      const value = Math.floor((weights[0] * near + weights[1] * before[place] + weights[2] * beside) / 4096);
      const kind = BORDERS.findIndex((border) => border > value);
      predictions[i] = (follow * sum + 32) >> 6;
      byScale[scales[kind < 0 ? BORDERS.length : kind]].push(i);
    }
    byScale.forEach((group, scale) => {
      const { begins, largest } = group.length ? this.intervals(LADDER[scale], own) : {};
      for (const i of group) {
        let residual = coder.decode(begins) - largest;
        if (residual > largest) {
          let code;
          [code, escapes.at] = varint(escapes.bytes, escapes.at);
          residual = (Math.floor(code / 2) + largest + 1) * (code % 2 ? -1 : 1);
        }
        const value = residual + predictions[i];
        if (Math.abs(value) > LARGEST) throw new Problem("a latent is damaged: a symbol is larger than allowed");
        values[places[i]] = value;
        error[places[i]] = Math.abs(residual) * own;
      }
    });
  }

  intervals(scale, step) {
    const key = scale * 2 ** 21 + step;
    if (!this.known.has(key)) this.known.set(key, intervals(scale, step));
    return this.known.get(key);
  }

  /** Whole numbers back to the latent's values, Float32Array. */
  dequantize(symbols, channels, step) {
    const plane = symbols.length / channels;
    const steps = Float32Array.from({ length: channels }, (_, channel) => this.channelStep(channel, step) / UNIT);
    return Float32Array.from(symbols, (symbol, i) => symbol * steps[Math.floor(i / plane)]);
  }
}
