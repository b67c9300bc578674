// The page's other half: reads a file and decodes its clips, beside the page so that it stays at hand.

import { Problem } from "./bytes.js";
import { colourOf, flowOf } from "./flow.js";
import { Model } from "./model.js";
import { Pictures } from "./pictures.js";
import { picturesBeside } from "./plan.js";
import { readFile } from "./reader.js";
import { CELL } from "./tiles.js";

const here = new URL("./", import.meta.url);
const CLIP = 16;
const GREY = 128;
const MOST_PIXELS = 4096 * 2304; // a clip of such pictures is 600 MB
const STRONG = 24; // pixels of motion that are shown in full colour

let file, pictures;
const model = Model.load(new URL("model/", here), new URL("runtime/", here));
model.catch(() => {}); // said when a file is opened

const answers = {
  /** A file's facts, without its bytes. */
  async open({ bytes }) {
    const found = await readFile(new Uint8Array(bytes));
    const { facts } = await model;
    (await model).check(found.header);
    const { width, height } = found.header;
    if (width * height > MOST_PIXELS) throw new Problem(`pictures of ${width}x${height} are too large for this page`);
    file = found;
    pictures = new Pictures(found);
    const clips = found.clips.map(({ latent, ...clip }) => clip);
    const { header, frames, seconds, sound, damage } = found;
    return { header, clips, frames, seconds, sound, damage, size: bytes.byteLength, decoders: facts.decoders };
  },

  /** A clip's frames by what is shown: RGBA each. A damaged one shows key frames, and `problem` says why. */
  async decode({ clip: number, decoder }) {
    const clip = file.clips[number];
    await (await model).session(decoder); // one that can't be started is no damage
    const began = performance.now();
    let problem = null, parts;
    try {
      parts = await decodeClip(clip, decoder);
    } catch (error) {
      if (!(error instanceof Problem)) throw error;
      problem = error.message;
      parts = await conceal(clip);
    }
    const label = (await model).label;
    return { clip: number, decoder, ...parts, problem, label, milliseconds: performance.now() - began };
  },
};

async function decodeClip(clip, decoder) {
  const { header } = file;
  const loaded = await model;
  if (clip.damage.length) throw new Problem(clip.damage[0]);
  const needs = await loaded.needs(decoder);
  const own = await about(clip.index, async () => {
    const found = [];
    for (const frame of clip.pictures) found.push(await referenceAt(frame, clip, false));
    return found;
  });
  // a clip that shows what was there before has no pictures of its own: every decoder starts from those beside it
  const { before, after, lost } = (needs.second && header.references === 2) || (needs.own && !own.length)
    ? await referencesBeside(clip) : { before: [], after: [], lost: [] };
  const references = [...before, ...own, ...after];
  if (needs.own && !references.length) {
    throw new Problem(`clip ${clip.index + 1}: no picture is left that it could be decoded from`);
  }
  const latent = await about(clip.index, () => loaded.latentOf(clip, header));
  const flow = flowOf(latent.values, latent.shape, loaded.facts.motion);
  const frame = flow.length / CLIP;
  const real = Array.from({ length: clip.frames }, (_, i) => clip.lead + i);
  const close = (place) => (own.length ? own : references).reduce((best, one) => (Math.abs(one.place - place) < Math.abs(best.place - place) ? one : best));
  const still = references.length ? null : await nearestOrGrey(clip.start);
  return {
    lost,
    decoded: await loaded.decode(decoder, latent, references, clip, header),
    keyframe: real.map((place) => still ?? close(place).picture),
    flow: real.map((place) => colourOf(flow.subarray(place * frame, (place + 1) * frame), STRONG)),
  };
}

async function referenceAt(frame, clip, beside) {
  return { picture: await pictures.get(frame), place: frame - clip.start + clip.lead, beside };
}

/** The pictures beside a clip, {before, after}, one at most each. One that is damaged is done without, and said in `lost`. */
async function referencesBeside(clip) {
  const { before, after, lost } = picturesBeside(file.clips, clip.index);
  const get = async (frame) => {
    try {
      return frame === null ? [] : [await referenceAt(frame, clip, true)];
    } catch (error) {
      if (!(error instanceof Problem)) throw error;
      lost.push(error.message);
      return [];
    }
  };
  return { before: await get(before), after: await get(after), lost };
}

/** Does something, and says of a problem which clip has it. */
async function about(index, action) {
  try {
    return await action();
  } catch (error) {
    if (!(error instanceof Problem)) throw error;
    throw new Problem(`clip ${index + 1}: ${error.message}`);
  }
}

async function nearestOrGrey(frame) {
  const { width, height } = file.header;
  return (await pictures.nearest(frame)) ?? new Uint8ClampedArray(4 * width * height).fill(GREY);
}

/** What is shown in a damaged clip's place: the nearest key frame, or grey where the file has none. */
async function conceal(clip) {
  const { width, height } = file.header;
  const middle = clip.pictures[0] ?? clip.start + ((clip.frames - 1) >> 1);
  const still = new Array(clip.frames).fill(await nearestOrGrey(middle));
  const nothing = new Uint8ClampedArray(16 * Math.ceil(width / CELL) * Math.ceil(height / CELL)).fill(255);
  return { lost: [], decoded: still, keyframe: still, flow: new Array(clip.frames).fill(nothing) };
}

self.onmessage = async ({ data: { id, ask, ...rest } }) => {
  try {
    self.postMessage({ id, answer: await answers[ask](rest) });
  } catch (error) {
    self.postMessage({ id, problem: error instanceof Problem ? error.message : `unexpected ${error}` });
  }
};
