// Key frames, decoded by the browser: AV1 by WebCodecs, which takes a file's bytes as they are, the rest as pictures.

import { Problem } from "./bytes.js";

const KEPT_BYTES = 2 ** 28;
const KEPT = 4; // so many at least
const AHEAD = 16; // pictures of a sequence that are decoded together

/** The pictures of a file by frame, RGBA. The last ones are kept. */
export class Pictures {
  constructor(file) {
    this.file = file;
    this.frames = [...file.sequences.keys()].sort((a, b) => a - b); // those that may decode
    this.kept = new Map();
  }

  /** The picture of a frame, Uint8ClampedArray (height, width, 4). */
  async get(frame) {
    if (!this.frames.includes(frame)) throw new Problem(`frame ${frame + 1}: its picture is damaged or missing`);
    if (!this.kept.has(frame)) await this.decode(frame);
    const picture = this.kept.get(frame);
    this.keep(frame, picture);
    return picture;
  }

  /** The picture nearest to a frame, of two as near the earlier; null if no picture of the file decodes. */
  async nearest(frame) {
    while (this.frames.length) {
      const found = this.frames.reduce((best, other) => (Math.abs(other - frame) < Math.abs(best - frame) ? other : best));
      try {
        return await this.get(found);
      } catch (error) {
        if (!(error instanceof Problem)) throw error; // otherwise it is forgotten by now
      }
    }
    return null;
  }

  async decode(frame) {
    const { group, place } = this.file.sequences.get(frame);
    let problem;
    for (const last of [Math.min(place + AHEAD, group.frames.length), place + 1]) {
      try {
        await this.decodeSome(group, place, last);
      } catch (error) {
        if (!(error instanceof Problem)) throw error;
        problem = error; // a browser gives up everything, what is intact before the damage, too
      }
      if (this.kept.has(frame)) return;
    }
    const lost = new Set(group.frames.slice(place)); // and what follows it in its sequence
    this.frames = this.frames.filter((other) => !lost.has(other));
    throw new Problem(`frame ${frame + 1}: ${problem.message}`);
  }

  async decodeSome(group, place, last) {
    const { width, height, keyframe_codec: codec } = this.file.header;
    if (codec === "avif") {
      const samples = group.samples.slice(0, last);
      await decodeAv1(samples, { width, height, from: place }, (number, picture) => this.keep(group.frames[number], picture));
    } else {
      this.keep(group.frames[place], await decodePicture(group.samples[place], { width, height, codec }));
    }
  }

  keep(frame, picture) {
    this.kept.delete(frame);
    this.kept.set(frame, picture); // the last one of the map's order
    const most = Math.max(KEPT, AHEAD, Math.floor(KEPT_BYTES / picture.length));
    while (this.kept.size > most) this.kept.delete(this.kept.keys().next().value);
  }
}

/** Pictures of a sequence from `from` on, each given to `take(number, RGBA)`. */
async function decodeAv1(samples, { width, height, from }, take) {
  if (!("VideoDecoder" in globalThis)) {
    throw new Error("this browser can't decode AV1 here: it has no WebCodecs, or the page's address isn't https or this machine");
  }
  let failed = null;
  let done = Promise.resolve();
  let count = 0;
  const decoder = new VideoDecoder({
    output: (picture) => {
      const number = count++;
      done = done.then(() => (number < from ? null : toRgba(picture, width, height)))
        .then((rgba) => rgba && !failed && take(number, rgba))
        .catch((error) => (failed ??= error))
        .finally(() => picture.close());
    },
    error: (error) => (failed ??= error),
  });
  try {
    decoder.configure({ codec: "av01.1.16M.08", codedWidth: width, codedHeight: height });
    samples.forEach((data, timestamp) => {
      if (decoder.state === "configured") decoder.decode(new EncodedVideoChunk({ type: timestamp ? "delta" : "key", timestamp, data }));
    });
    if (decoder.state === "configured") await decoder.flush();
  } catch (error) {
    failed ??= error;
  }
  await done;
  if (decoder.state !== "closed") decoder.close();
  if (failed) throw new Problem(`a key frame is damaged: ${failed.message}`);
  if (count < samples.length) throw new Problem("a key frame is damaged: it holds no picture");
}

/** A decoded 4:4:4 picture, full range, BT.601: to RGBA with libyuv's whole numbers, as libavif and so the package has it. */
async function toRgba(picture, width, height) {
  const { width: wide, height: high } = picture.visibleRect;
  if (wide !== width || high !== height) throw new Problem(`it is ${wide}x${high} pixels; the file says ${width}x${height}`);
  if (picture.format !== "I444") throw new Problem(`this browser gives it as ${picture.format} instead of I444`);
  const data = new Uint8Array(picture.allocationSize());
  const [luma, blue, red] = await picture.copyTo(data);
  const rgba = new Uint8ClampedArray(4 * width * height);
  for (let row = 0, to = 0; row < height; row++) {
    for (let column = 0; column < width; column++, to += 4) {
      const y = ((data[luma.offset + row * luma.stride + column] * 0x0101 * 16320) >>> 16) + 32;
      const u = data[blue.offset + row * blue.stride + column] - 128;
      const v = data[red.offset + row * red.stride + column] - 128;
      rgba[to] = (y + 90 * v) >> 6;
      rgba[to + 1] = (y - 22 * u - 46 * v) >> 6;
      rgba[to + 2] = (y + 113 * u) >> 6;
      rgba[to + 3] = 255;
    }
  }
  return rgba;
}

async function decodePicture(data, { width, height, codec }) {
  let picture;
  try {
    const blob = new Blob([data], { type: `image/${codec}` });
    picture = await createImageBitmap(blob, { colorSpaceConversion: "none", premultiplyAlpha: "none" });
  } catch (error) {
    throw new Problem(`a key frame is damaged: ${error.message}`);
  }
  if (picture.width !== width || picture.height !== height) {
    throw new Problem(`a key frame is ${picture.width}x${picture.height} pixels; the file says ${width}x${height}`);
  }
  const canvas = new OffscreenCanvas(width, height);
  const context = canvas.getContext("2d", { alpha: false });
  context.drawImage(picture, 0, 0);
  picture.close();
  return context.getImageData(0, 0, width, height).data;
}
