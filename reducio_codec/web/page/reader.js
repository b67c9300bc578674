// An .rdc file, read once from the beginning to the end: its clips, their pictures and times, and what is damaged.

import { Problem, crc32, inflate, signed, varint } from "./bytes.js";
import { readHeader } from "./header.js";

const CLIP = 16;
const [PICTURE, LATENT, AUDIO, TIMES, INDEX, CUT] = [1, 2, 3, 4, 5, 7];
const MAX_PAYLOAD = 2 ** 28 - 1;
const MAX_SEQUENCE = 255;
const LATEST = 2 ** 60;
const MOST_FRAMES = 2 ** 21; // 19 hours at 30 frames/s

/**
 * What is in a file:
 * `header`; `clips`, each {index, start, frames, lead, step, latent, pictures, expected, lack, times, bytes, cut, damage}; `frames`;
 * `seconds`, when each frame of the video is shown and, as one more, when the last one ends; `sequences`, by a picture's
 * frame {frames, samples, place}; `sound`, whether there is any; `damage`, lines about the file as a whole.
 */
export async function readFile(bytes) {
  const { header, body } = await readHeader(bytes);
  const found = new Found(header, bytes.length);
  for (const record of records(bytes, body, found.damage)) {
    try {
      await found.take(record);
    } catch (error) {
      if (!(error instanceof Problem)) throw error;
      found.damage.push(error.message);
    }
  }
  const file = found.settle();
  if (!file.clips.length) throw new Problem(file.damage[0] ? `the file holds no clip: ${file.damage[0]}` : "the file holds no clip");
  return file;
}

/** The intact records, {kind, payload}; where one isn't, the search goes on byte by byte. */
function* records(bytes, start, damage) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  let spent = 0; // bytes of checksums that were wrong: heads that claim the same bytes again and again must cost nothing
  function recordAt(at) {
    let length, place;
    try {
      [length, place] = varint(bytes.subarray(0, at + 10), at + 1);
    } catch {
      return null;
    }
    const payload = place + 6;
    if (length > MAX_PAYLOAD || payload > bytes.length) return null;
    if (view.getUint16(place, true) !== (crc32(bytes, at, place) & 0xffff)) return null;
    const allowed = bytes.length + 2 ** 20 + 4 * (at - start) - spent;
    if (length > Math.min(allowed, bytes.length - payload)) return null;
    if (view.getUint32(place + 2, true) !== crc32(bytes, payload, payload + length)) {
      spent += length;
      return null;
    }
    return { kind: bytes[at], payload: bytes.subarray(payload, payload + length), end: payload + length };
  }
  for (let at = start, lost = false; at < bytes.length; ) {
    const record = recordAt(at);
    if (record) yield record;
    else if (!lost) damage.push(`damaged from byte ${at} on`);
    lost = !record;
    at = record ? record.end : at + 1;
  }
}

/** The records of a file as they come, and, once all are there, what they make together. */
class Found {
  constructor(header, size) {
    this.header = header;
    this.most = Math.floor(size / 10) + 1; // clips that so many bytes can hold
    this.damage = [];
    this.pictures = new Map();
    this.latents = new Map();
    this.times = new Map();
    this.cuts = new Map();
    this.index = null;
    this.sound = false;
  }

  async take({ kind, payload }) {
    if (kind === PICTURE) this.takePicture(payload);
    else if (kind === LATENT) this.takeLatent(payload);
    else if (kind === AUDIO) this.sound = true;
    else if (kind === TIMES) await this.takeTimes(payload);
    else if (kind === INDEX) this.takeIndex(payload);
    else if (kind === CUT) this.takeCut(payload);
  }

  clipNumber(payload) {
    const [number, at] = varint(payload, 0);
    if (number >= this.most) throw new Problem(`a record claims clip ${number + 1}; the file's bytes hold at most ${this.most} clips`);
    return [number, at];
  }

  takePicture(payload) {
    let [frame, at] = varint(payload, 0);
    let distance;
    [distance, at] = varint(payload, at);
    const alone = this.header.keyframe_codec !== "avif";
    if (frame >= CLIP * this.most || distance > frame || at === payload.length || (distance && alone)) {
      throw new Problem(`a picture record says what can't be: frame ${frame + 1}, ${payload.length - at} bytes`);
    }
    if (this.pictures.has(frame)) throw new Problem(`frame ${frame + 1} has a second picture, which is ignored`);
    this.pictures.set(frame, { distance, data: payload.subarray(at), bytes: payload.length });
  }

  takeLatent(payload) {
    let [number, at] = this.clipNumber(payload);
    if (at >= payload.length) throw new Problem(`clip ${number + 1}: its latent record holds no length`);
    const flags = payload[at++];
    const frames = (flags & 15) + 1;
    let step = this.header.step, moved = 0, lead = (CLIP - frames) >> 1, pictures = 1;
    if (flags & 16) [step, at] = varint(payload, at);
    if (flags & 32) [moved, at] = signed(payload, at);
    if (flags & 64) lead = at < payload.length ? payload[at++] : CLIP;
    if (flags & 128) [pictures, at] = varint(payload, at);
    const start = CLIP * number + moved;
    const good = step >= 16 && step <= 16384 && start >= number && start <= CLIP * number && lead <= CLIP - frames && pictures <= frames;
    if (!good) throw new Problem(`clip ${number + 1}: its latent record says what can't be`);
    if (this.latents.has(number)) throw new Problem(`clip ${number + 1} has a second latent record, which is ignored`);
    this.latents.set(number, { start, frames, lead, step, pictures, latent: payload.subarray(at), bytes: payload.length });
  }

  async takeTimes(payload) {
    const [number, at] = this.clipNumber(payload);
    if (this.times.has(number)) throw new Problem(`clip ${number + 1} has a second times record, which is ignored`);
    const deltas = await inflate(payload.subarray(at), "deflate", CLIP * 9);
    const times = [];
    for (let place = 0, last = 0, delta; place < deltas.length; ) {
      [delta, place] = signed(deltas, place);
      times.push((last += delta));
    }
    if (times.length < 1 || times.length > CLIP || times.some((time) => Math.abs(time) > LATEST)) {
      throw new Problem(`clip ${number + 1}: its times record says what can't be`);
    }
    this.times.set(number, times);
  }

  takeIndex(payload) {
    let [clips, at] = varint(payload, 0);
    let frames, end = null;
    [frames, at] = varint(payload, at);
    if (at < payload.length) [end, at] = signed(payload, at);
    if (at !== payload.length || Math.abs(end) > LATEST || clips > frames || frames > CLIP * clips || clips > this.most) {
      throw new Problem(`the index says what can't be: ${clips} clips of ${frames} frames`);
    }
    if (this.index) throw new Problem("the file has a second index, which is ignored");
    this.index = { clips, frames, end };
  }

  takeCut(payload) {
    const [number, at] = this.clipNumber(payload);
    if (!number || payload.length !== at + 1 || payload[at] < 1 || payload[at] > 3) {
      throw new Problem(`clip ${number + 1}: its cut record says what can't be`);
    }
    if (this.cuts.has(number)) throw new Problem(`clip ${number + 1} has a second cut record, which is ignored`);
    this.cuts.set(number, payload[at]);
  }

  settle() {
    if (!this.index) this.damage.push("the end of the file is missing");
    const sequences = this.sequences();
    const pictured = [...sequences.keys()].sort((a, b) => a - b);
    const clips = this.layOut(pictured.length ? pictured.at(-1) + 1 : 0);
    const frames = endOf(clips);
    if (frames > MOST_FRAMES) throw new Problem(`the file claims ${frames} frames; this page plays at most ${MOST_FRAMES}`);
    const beyond = pictured.find((frame) => frame >= frames);
    if (beyond !== undefined) this.damage.push(`frame ${beyond + 1} has a picture; the video has ${frames} frames`);
    const byClip = clips.map(() => []);
    for (let clip = 0, at = 0; at < pictured.length && pictured[at] < frames; at++) {
      while (pictured[at] >= clips[clip].start + clips[clip].frames) clip++;
      byClip[clip].push(pictured[at]);
    }
    const { header, sound, damage } = this;
    const complete = clips.map((clip, index) => this.complete(clip, index, byClip[index]));
    return { header, clips: complete, frames, seconds: this.seconds(complete), sequences, sound, damage };
  }

  /** By a picture's frame the sequence that it lies in, and where. What follows a lost one is lost. */
  sequences() {
    const found = new Map();
    let last = -1;
    for (const frame of [...this.pictures.keys()].sort((a, b) => a - b)) {
      const { distance, data } = this.pictures.get(frame);
      let group = { frames: [], samples: [] };
      if (distance) {
        group = found.get(frame - distance)?.group;
        if (!group) continue;
        if (last !== frame - distance || group.frames.length === MAX_SEQUENCE) {
          this.damage.push(`frame ${frame + 1}: its picture follows that of frame ${frame - distance + 1}, which can't be`);
          continue;
        }
      }
      group.frames.push(frame);
      group.samples.push(data);
      found.set(frame, { group, place: group.frames.length - 1 });
      last = frame;
    }
    return found;
  }

  /** Which clip shows which frames, {start, frames, known}: those found, and in place of lost ones what must have been. */
  layOut(pictured) {
    const clips = [];
    const fits = (number, start) => {
      const between = number - clips.length, gap = start - endOf(clips);
      return between >= 0 && between <= gap && gap <= CLIP * between;
    };
    const fill = (number, start) => {
      for (let left = number - clips.length - 1; left >= 0; left--) {
        const at = endOf(clips);
        clips.push({ start: at, frames: Math.min(CLIP, start - at - left), known: false });
      }
    };
    for (const number of [...this.latents.keys()].sort((a, b) => a - b)) {
      const { start, frames } = this.latents.get(number);
      if (!fits(number, start)) {
        this.damage.push(`clip ${number + 1} claims to begin at frame ${start + 1}, which the clips before don't allow`);
        continue;
      }
      fill(number, start);
      clips.push({ start, frames, known: true });
    }
    const { index } = this;
    if (index && fits(index.clips, index.frames)) {
      fill(index.clips, index.frames);
      return clips;
    }
    if (index) this.damage.push(`the index claims ${index.clips} clips of ${index.frames} frames; the file has ${clips.length} of ${endOf(clips)} at least`);
    while (endOf(clips) < pictured) clips.push({ start: endOf(clips), frames: CLIP, known: false });
    return clips;
  }

  complete({ start, frames, known }, index, pictures) {
    const record = known ? this.latents.get(index) : null;
    const expected = record ? record.pictures : 1;
    let lack = null;
    if (pictures.length < expected) {
      lack = expected === 1 ? "its picture is damaged or missing" : `${pictures.length} of its ${expected} pictures are left`;
    }
    const damage = lack === null ? [] : [lack];
    if (!record) damage.push("its latent record is damaged or missing");
    const stored = this.times.get(index);
    const times = stored?.length === frames ? stored : null;
    if (!times && !(this.header.frame_duration && !stored)) damage.push("its times are damaged or missing");
    return {
      index, start, frames, pictures, times, expected, lack,
      lead: record ? record.lead : (CLIP - frames) >> 1,
      step: record ? record.step : this.header.step,
      latent: record ? record.latent : null,
      bytes: {
        pictures: pictures.reduce((sum, frame) => sum + this.pictures.get(frame).bytes, 0),
        latent: record ? record.bytes : 0,
      },
      cut: this.cuts.get(index) ?? 0,
      damage: damage.map((line) => `clip ${index + 1}: ${line}`),
    };
  }

  /** When each frame is shown, from 0 on, and when the last one ends. */
  seconds(clips) {
    const ticks = [];
    const guess = clockOf(this.header);
    for (const clip of clips) {
      for (let i = 0; i < clip.frames; i++) ticks.push(clip.times ? clip.times[i] : guess(clip.start + i));
    }
    const last = ticks.length - 1;
    const step = guess(last + 1) - guess(last);
    ticks.push(this.index?.end ?? ticks[last] + Math.max(1, step));
    for (let i = 1; i < ticks.length; i++) ticks[i] = Math.max(ticks[i], ticks[i - 1] + 1); // guesses may fall behind
    const [numerator, denominator] = this.header.time_base;
    return ticks.map((tick) => ((tick - ticks[0]) * numerator) / denominator);
  }
}

function endOf(clips) {
  return clips.length ? clips.at(-1).start + clips.at(-1).frames : 0;
}

/** The time in ticks of any frame, where the file doesn't store it. */
function clockOf({ start, rate, time_base: base, frame_duration: duration }) {
  if (!rate[0]) return (frame) => start + frame * (duration || 1);
  const up = BigInt(rate[1]) * BigInt(base[1]), down = BigInt(rate[0]) * BigInt(base[0]);
  return (frame) => start + Number((2n * BigInt(frame) * up + down) / (2n * down)); // halves up
}
