// Pictures larger than a tile, as the package cuts and joins them (clips/tiling.py, clips/padding.py).

export const CELL = 32; // pixels that a position of the latent stands for; sides are padded to multiples of it

export function padded(length) {
  return Math.ceil(length / CELL) * CELL;
}

/** Tiles along an axis: {tile, starts, weights}; weights of the tiles that cover a place add up to 1. */
function planAxis(length, { size, overlap, shrink }) {
  if (length <= size) return { tile: length, starts: [0], weights: [new Float32Array(length).fill(1)] };
  let stride = size - overlap;
  if (shrink) {
    const count = Math.ceil((length - overlap) / stride);
    stride = Math.max(overlap, Math.ceil((length - overlap) / (count * CELL)) * CELL);
  }
  const tile = stride + overlap;
  const starts = [];
  for (let start = 0; start < length - tile; start += stride) starts.push(start);
  starts.push(length - tile);
  const ramp = Float64Array.from({ length: tile }, (_, i) => Math.min(1, Math.min(i + 1, tile - i) / (overlap + 1)));
  const total = new Float64Array(length);
  for (const start of starts) ramp.forEach((weight, i) => (total[start + i] += weight));
  return { tile, starts, weights: starts.map((start) => Float32Array.from(ramp, (weight, i) => weight / total[start + i])) };
}

/** The tiles over a picture of `width x height`, each {top, left, height, width, rows, columns}, the last two its weights. */
export function planTiles(width, height, tiling) {
  const rows = planAxis(padded(height), tiling), columns = planAxis(padded(width), tiling);
  return rows.starts.flatMap((top, i) =>
    columns.starts.map((left, j) => ({
      top, left, height: rows.tile, width: columns.tile, rows: rows.weights[i], columns: columns.weights[j],
    })),
  );
}

/** A tile of RGBA pictures as a model takes it: (R, 3, height, width) in [-1, 1]; beyond the edge the last row or column. */
export function cutPictures(pictures, { width, height }, tile) {
  const plane = tile.width * tile.height;
  const cut = new Float32Array(pictures.length * 3 * plane);
  pictures.forEach((picture, number) => {
    for (let y = 0, to = 3 * number * plane; y < tile.height; y++) {
      const row = Math.min(tile.top + y, height - 1) * width;
      for (let x = 0; x < tile.width; x++, to++) {
        const from = 4 * (row + Math.min(tile.left + x, width - 1));
        for (let colour = 0; colour < 3; colour++) cut[to + colour * plane] = picture[from + colour] / 127.5 - 1;
      }
    }
  });
  return cut;
}

/** A tile of a latent (channels * times, grid height, grid width). */
export function cutLatent(latent, [planes, height, width], tile) {
  const rows = tile.height / CELL, columns = tile.width / CELL;
  const cut = new Float32Array(planes * rows * columns);
  for (let plane = 0, to = 0; plane < planes; plane++) {
    for (let y = 0; y < rows; y++, to += columns) {
      const from = (plane * height + tile.top / CELL + y) * width + tile.left / CELL;
      cut.set(latent.subarray(from, from + columns), to);
    }
  }
  return cut;
}

/** Adds a tile's part to a sum of pictures: (3, tile height, tile width) into (height, width, 3). */
export function addTile(sum, values, { width, height }, tile) {
  const plane = tile.width * tile.height;
  const bottom = Math.min(tile.height, height - tile.top), right = Math.min(tile.width, width - tile.left);
  for (let y = 0; y < bottom; y++) {
    let to = 3 * ((tile.top + y) * width + tile.left);
    for (let x = 0; x < right; x++) {
      const weight = tile.rows[y] * tile.columns[x], from = y * tile.width + x;
      for (let colour = 0; colour < 3; colour++) sum[to++] += weight * values[from + colour * plane];
    }
  }
}

/** (height, width, 3) in [-1, 1] to RGBA. */
export function toRgba(sum) {
  const rgba = new Uint8ClampedArray((sum.length / 3) * 4).fill(255);
  for (let from = 0, to = 0; from < sum.length; to += 4) {
    for (let colour = 0; colour < 3; colour++) rgba[to + colour] = (sum[from++] + 1) * 127.5; // rounded and clipped by the array
  }
  return rgba;
}
