// A model as the page has it: the latent's tables, and decoders as ONNX graphs, run by onnxruntime-web.

import { Problem } from "./bytes.js";
import { LatentDecoder } from "./entropy.js";
import { planReferences } from "./plan.js";
import { CELL, addTile, cutLatent, cutPictures, padded, planTiles, toRgba } from "./tiles.js";


/** What `player.json` in a folder says, and the graphs beside it. */
export class Model {
  static async load(folder, runtime) {
    const answer = await fetch(new URL("player.json", folder)).catch(() => null);
    if (!answer?.ok) throw new Problem("the page's model is missing: there is no model/player.json beside it");
    return new Model(await answer.json(), folder, runtime);
  }

  constructor(facts, folder, runtime) {
    this.facts = facts;
    this.folder = folder;
    this.runtime = runtime;
    this.latents = new LatentDecoder(facts.tables);
    this.sessions = new Map();
  }

  /** Refuse a file that needs another model. */
  check(header) {
    const { name, version, latent_space: space, latent } = this.facts;
    if (header.latent_space !== space) {
      throw new Problem(
        `the file needs model ${header.model} version ${header.version} (latent space ${header.latent_space}); ` +
          `this page has ${name} version ${version} (latent space ${space})`,
      );
    }
    if (String(header.latent) !== String(latent)) {
      throw new Problem(`the file's latent has ${header.latent} channels and times; its model has ${latent}`);
    }
  }

  /** {values, shape}: the latent of a clip, [channel][time][row][column]. */
  latentOf(clip, { width, height, latent: [channels, times] }) {
    const shape = [channels, times, padded(height) / CELL, padded(width) / CELL];
    const symbols = this.latents.decode(clip.latent, shape, clip.step);
    return { values: this.latents.dequantize(symbols, channels, clip.step), shape };
  }

  /** What a decoder makes use of: {own, second}, pictures of the clip itself, and of the clips beside it. */
  async needs(name) {
    const { inputNames } = await this.session(name);
    return { own: inputNames.includes("references"), second: inputNames.includes("between") };
  }

  /** A clip's frames, RGBA; `references` are {picture, place, beside}, RGBA at a place in terms of the model's 16 frames. */
  async decode(name, { values, shape }, references, clip, size) {
    const session = await this.session(name);
    const [channels, times, height, width] = shape;
    const pictures = references.map(({ picture }) => picture);
    const plan = references.length ? planOf(references) : { shown: [] };
    const shown = new Map(plan.shown); // frames that are references themselves
    const sums = Array.from({ length: clip.frames }, () => new Float32Array(size.width * size.height * 3));
    for (const tile of planTiles(size.width, size.height, this.facts.tiling)) {
      const rows = tile.height / CELL, columns = tile.width / CELL;
      const parts = { latent: cutLatent(values, [channels * times, height, width], tile), references: cutPictures(pictures, size, tile) };
      const inputs = this.inputs(session, { ...parts, ...plan }, { count: pictures.length, rows, columns });
      const outputs = await session.run(inputs);
      const volume = 3 * tile.width * tile.height;
      sums.forEach((sum, i) => {
        const frame = clip.lead + i, own = shown.get(frame);
        const [source, at] = own !== undefined && outputs.mended ? [outputs.mended, own] : [outputs.frames, frame];
        addTile(sum, source.data.subarray(at * volume, (at + 1) * volume), size, tile);
      });
      for (const tensor of [...Object.values(inputs), ...Object.values(outputs)]) tensor.dispose();
    }
    return sums.map(toRgba);
  }

  session(name) {
    if (!this.sessions.has(name)) this.sessions.set(name, this.open(name));
    return this.sessions.get(name);
  }

  async open(name) {
    try {
      const card = await globalThis.navigator?.gpu?.requestAdapter().catch(() => null);
      if (card && !card.info?.isFallbackAdapter) {
        const session = await this.openOnCard(name).catch(() => null);
        if (session) return session;
      }
      this.ort = await startRuntime("wasm", this.runtime);
      const threads = this.ort.env.wasm.numThreads;
      this.label = threads > 1 ? `WebAssembly, ${threads} threads` : "WebAssembly";
      return await this.start(name, "wasm");
    } catch (error) {
      throw new Problem(`the decoder ${name} can't be started: ${error.message}`);
    }
  }

  /** A session on the graphics card, if it computes the same as WebAssembly: of some layers some don't. */
  async openOnCard(name) {
    this.ort = await startRuntime("webgpu", this.runtime);
    const slow = await this.start(name, "wasm"), fast = await this.start(name, "webgpu");
    const expected = await this.sample(slow), found = await this.sample(fast);
    await slow.release();
    if (expected.every((value, i) => Math.abs(value - found[i]) < 1 / 255)) { // half a grey level
      this.label = "WebGPU";
      return fast;
    }
    await fast.release();
    return null;
  }

  async start(name, provider) {
    const url = new URL(`${name}.onnx`, this.folder).href;
    return this.ort.InferenceSession.create(url, { executionProviders: [provider] });
  }

  /** What a session makes of a small clip with some motion. */
  async sample(session) {
    const [channels, times] = this.facts.latent, side = 2;
    const wave = (length, step) => Float32Array.from({ length }, (_, i) => 0.9 * Math.sin(step * i));
    const parts = { latent: wave(channels * times * side ** 2, 7), references: wave(2 * 3 * (side * CELL) ** 2, 0.013) };
    const plan = planReferences([3, 12], [false, false]);
    const outputs = await session.run(this.inputs(session, { ...parts, ...plan }, { count: 2, rows: side, columns: side }));
    return Object.values(outputs).flatMap(({ data }) => [...data]);
  }

  /** A session's inputs of those that graphs have (integrations/onnx.py). */
  inputs(session, { latent, references, ...plan }, { count, rows, columns }) {
    const { Tensor } = this.ort;
    const whole = (numbers) => () => new Tensor("int64", BigInt64Array.from(numbers.flat(), BigInt), [numbers, numbers[0]].filter(Array.isArray).map((axis) => axis.length));
    const makers = {
      latent: () => new Tensor("float32", latent, [1, ...this.facts.latent, rows, columns]),
      references: () => new Tensor("float32", references, [count, 3, rows * CELL, columns * CELL]),
      time: () => new Tensor("float32", Float32Array.from(plan.time), [plan.time.length]),
    };
    for (const name of ["near", "between", "far", "pair", "pairs"]) makers[name] = whole(plan[name] ?? []);
    return Object.fromEntries(session.inputNames.map((name) => [name, makers[name]()]));
  }
}

function planOf(references) {
  return planReferences(references.map(({ place }) => place), references.map(({ beside }) => beside));
}

/** onnxruntime-web from the page's own folder, as it is built for `provider`. */
async function startRuntime(provider, folder) {
  let ort;
  try {
    ort = await import(new URL(`ort.${provider}.min.mjs`, folder).href);
  } catch {
    throw new Error("there is no onnxruntime-web in the folder runtime beside the page");
  }
  ort.env.wasm.wasmPaths = folder.href;
  ort.env.wasm.numThreads = globalThis.crossOriginIsolated ? Math.min(8, navigator.hardwareConcurrency) : 1;
  ort.env.logLevel = "error";
  return ort;
}
