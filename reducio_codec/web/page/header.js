// The header of an .rdc file: what it says of itself, with defaults filled in and checked.

import { Problem, crc32, inflateWithDictionary, varint } from "./bytes.js";

const MAGIC = [0x89, 0x52, 0x44, 0x43, 0x0d, 0x0a, 0x1a, 0x0a];
const VERSION = 1;
const MAX_HEADER = 1 << 16;
const DICTIONARY = new TextEncoder().encode(
  '"sample_aspect_ratio":[4,3]"rate":[30000,1001]"latent":[16,4]"references":2"version":2,"keyframe_codec":"png"jpeg"webp"' +
    '"start":0"frame_duration":512"frame_duration":1001,"time_base":[1,90000]"time_base":[1,1000]"time_base":[1,15360]' +
    '"time_base":[1,16384],"time_base":[1,12288],{"model":"reducio-lite","latent_space":"0123456789abcdef",' +
    '"width":1920,"height":1080,"width":1280,"height":720,"width":256,"height":256,"time_base":[1,30],' +
    '"frame_duration":1,"step":512}',
);

const DEFAULTS = {
  version: 1, frame_duration: 0, rate: [0, 1], start: 0, keyframe_codec: "avif", latent: [16, 4], references: 1,
  colour: "bt709", sample_aspect_ratio: [1, 1],
};

const whole = (low, high) => (value) => Number.isInteger(value) && value >= low && value <= high;
const pair = (first, second) => (value) =>
  Array.isArray(value) && value.length === 2 && first(value[0]) && second(value[1]);
const text = (value) => typeof value === "string" && value.length <= 256;
const among = (...allowed) => (value) => allowed.includes(value);
const part = whole(1, 2 ** 31 - 1);

const ALLOWED = {
  model: text, latent_space: text, version: whole(1, 2 ** 31), width: whole(1, 16384), height: whole(1, 16384),
  time_base: pair(part, part), frame_duration: whole(0, 2 ** 40), rate: pair(whole(0, 2 ** 31 - 1), part),
  start: whole(-(2 ** 60), 2 ** 60), step: whole(16, 16384), keyframe_codec: among("avif", "webp", "jpeg", "png"),
  latent: pair(whole(1, 65536), whole(1, 16)), references: among(1, 2), colour: among("bt709"),
  sample_aspect_ratio: pair(part, part),
};

/** {header, body}: what the header says, and where the records begin. A file that this can't read is a Problem. */
export async function readHeader(bytes) {
  if (!bytes.length) throw new Problem("the file is empty, not an .rdc file");
  if (MAGIC.some((byte, at) => bytes[at] !== byte)) throw new Problem("not an .rdc file");
  if (bytes.length > 8 && bytes[8] !== VERSION) {
    throw new Problem(`the file has format version ${bytes[8]}; this page reads ${VERSION}`);
  }
  const short = new Problem("the file ends inside its header, or the header is damaged");
  let length, at;
  try {
    [length, at] = varint(bytes, 9);
  } catch {
    throw short;
  }
  if (length > MAX_HEADER || at + 4 + length > bytes.length) throw short;
  const stored = new DataView(bytes.buffer, bytes.byteOffset).getUint32(at, true);
  const body = at + 4 + length;
  if (stored !== crc32(bytes, at + 4, body)) throw new Problem("the header is damaged: its checksum doesn't agree");
  return { header: await unpack(bytes.subarray(at + 4, body)), body };
}

async function unpack(packed) {
  let header;
  try {
    const plain = await inflateWithDictionary(packed, DICTIONARY, MAX_HEADER);
    header = { ...DEFAULTS, ...JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(plain)) };
  } catch (error) {
    throw new Problem(`the header is damaged: ${error.message}`);
  }
  for (const [name, allowed] of Object.entries(ALLOWED)) {
    if (!allowed(header[name])) {
      throw new Problem(`the header's ${name} is ${JSON.stringify(header[name])?.slice(0, 60)}, which can't be`);
    }
  }
  return header;
}
