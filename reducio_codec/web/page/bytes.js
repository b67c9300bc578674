// Bytes to numbers: variable-length numbers, checksums, and what is deflated. FORMAT.md says how.

/** Damage to a file, or something else that a person should read: one line. */
export class Problem extends Error {}

const CRC = new Uint32Array(256).map((_, byte) => {
  for (let bit = 0; bit < 8; bit++) byte = byte & 1 ? (byte >>> 1) ^ 0xedb88320 : byte >>> 1;
  return byte;
});

/** CRC-32 of bytes `from` to `to`. */
export function crc32(bytes, from, to) {
  let register = 0xffffffff;
  for (let at = from; at < to; at++) register = CRC[(register ^ bytes[at]) & 255] ^ (register >>> 8);
  return ~register >>> 0;
}

/** [value, place behind it]. Above 2^53, which only times in ticks can be, the value is the nearest that a number holds. */
export function varint(bytes, at) {
  let value = 0;
  for (let digit = 0; digit < 9; digit++) {
    if (at >= bytes.length) throw new Problem("a number reaches past the end of its record");
    const byte = bytes[at++];
    value += (byte & 127) * 2 ** (7 * digit);
    if (byte < 128) return [value, at];
  }
  throw new Problem("a number has more than nine bytes");
}

/** The same for 0, -1, 1, -2, 2 ... */
export function signed(bytes, at) {
  const [code, behind] = varint(bytes, at);
  return [code % 2 ? -(code + 1) / 2 : code / 2, behind];
}

/** What was deflated, of at most `limit` bytes; `format` as for DecompressionStream. */
export async function inflate(bytes, format, limit) {
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream(format)).getReader();
  const parts = [];
  let size = 0;
  try {
    for (let part = await stream.read(); !part.done; part = await stream.read()) {
      parts.push(part.value);
      size += part.value.length;
      if (size > limit) throw new RangeError(`more than ${limit} bytes`);
    }
  } catch (error) {
    stream.cancel().catch(() => {});
    throw new Problem(error.message || "what was deflated is damaged");
  }
  return new Uint8Array(await new Blob(parts).arrayBuffer());
}

/** Deflated with a preset dictionary, which browsers don't know: it goes before as a stored block, and off the result. */
export async function inflateWithDictionary(bytes, dictionary, limit) {
  const size = dictionary.length;
  const head = [0, size & 255, size >> 8, ~size & 255, (~size >> 8) & 255];
  const packed = new Uint8Array(head.length + size + bytes.length);
  packed.set(head);
  packed.set(dictionary, head.length);
  packed.set(bytes, head.length + size);
  return (await inflate(packed, "deflate-raw", size + limit)).subarray(size);
}
