// The motion that every decoder starts from: the latent's linear part, without any network.

const CLIP = 16;

/**
 * The flow of a clip's 16 frames, Float32Array [frame][row][column][x, y] in pixels, on a grid twice as fine as the latent's.
 * `motion` is the model's: {mean, std, weights}, the weights [slot][channel][frame of the slot][x, y][2][2].
 */
export function flowOf(latent, [channels, times, height, width], { mean, std, weights }) {
  const flow = new Float32Array(CLIP * 4 * height * width * 2);
  const each = CLIP / times; // frames of a slot
  for (let slot = 0; slot < times; slot++) {
    for (let channel = 0; channel < channels; channel++) {
      const plane = latent.subarray((channel * times + slot) * height * width, (channel * times + slot + 1) * height * width);
      for (let part = 0; part < each * 8; part++) {
        const weight = weights[(slot * channels + channel) * each * 8 + part];
        const frame = slot * each + (part >> 3), axis = (part >> 2) & 1, dy = (part >> 1) & 1, dx = part & 1;
        for (let y = 0, from = 0; y < height; y++) {
          let to = (((frame * 2 * height + 2 * y + dy) * 2 * width + dx) << 1) + axis;
          for (let x = 0; x < width; x++, to += 4) flow[to] += weight * (plane[from++] * std[channel] + mean[channel]);
        }
      }
    }
  }
  return flow;
}

/** Flow as colours, RGBA: the hue is the direction, the strength how far, up to `most` pixels. */
export function colourOf(flow, most) {
  const rgba = new Uint8ClampedArray(flow.length * 2);
  for (let from = 0, to = 0; from < flow.length; from += 2, to += 4) {
    const x = flow[from], y = flow[from + 1];
    const strength = Math.min(1, Math.hypot(x, y) / most), angle = Math.atan2(y, x);
    for (let colour = 0; colour < 3; colour++) {
      const share = 0.5 + 0.5 * Math.cos(angle - (2 * Math.PI * colour) / 3);
      rgba[to + colour] = 255 * (1 - strength * (1 - share));
    }
    rgba[to + 3] = 255;
  }
  return rgba;
}
