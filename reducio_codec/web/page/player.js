// The page: opens files, shows frames, and keeps the worker a few clips ahead.

import { Timeline } from "./timeline.js";

const AHEAD = 6; // clips that are decoded before they are shown, the shown one included
const KEPT_BYTES = 2 ** 29; // of decoded clips, but four at least
const FLOW_CELL = 16; // pixels
const part = (id) => document.getElementById(id);

let worker = null; // one for each file, so that a file can't harm the next
let asked = new Map();
let questions = 0;
let file = null;
let opened = 0;
let clips = new Map(); // what the worker made of them, by number
let busy = false;
let frame = 0;
let playing = false;
let shownAt = 0;
let decoding = { frames: 0, milliseconds: 0, label: "" };
let shownTimes = [];
const timeline = new Timeline(part("timeline"), show);

const kilobytes = (bytes) => (bytes < 10000 ? `${bytes.toLocaleString("en")} bytes` : `${(bytes / 1000).toLocaleString("en", { maximumFractionDigits: bytes < 1e5 ? 1 : 0 })} kB`);
const few = (value) => value.toLocaleString("en", { maximumSignificantDigits: 3, useGrouping: value >= 1000 });
const kilobits = (bits) => `${few(bits / 1000)} kbit/s`;
const view = () => document.querySelector("[name=view]:checked").value;

// ---------------------------------------------------------------------- files

function ask(question, rest, transfer = []) {
  return new Promise((resolve, reject) => {
    asked.set(++questions, { resolve, reject });
    worker.postMessage({ id: questions, ask: question, ...rest }, transfer);
  });
}

function startWorker() {
  worker?.terminate();
  asked = new Map();
  worker = new Worker(new URL("worker.js", import.meta.url), { type: "module" });
  const waiting = asked;
  worker.onmessage = ({ data: { id, answer, problem } }) => {
    const { resolve, reject } = waiting.get(id);
    waiting.delete(id);
    if (problem === undefined) resolve(answer);
    else reject(new Error(problem));
  };
  worker.onerror = (event) => {
    for (const { reject } of waiting.values()) reject(new Error(event.message || "the page's worker can't be started"));
  };
}

/** Show a file, or say in one line why not. */
async function open(name, read) {
  const own = ++opened;
  playing = false;
  file = null;
  clips = new Map();
  busy = false;
  decoding = { frames: 0, milliseconds: 0, label: "" };
  part("name").textContent = name;
  document.title = `${name} – reducio player`;
  say("");
  startWorker();
  try {
    const bytes = await read();
    const found = await ask("open", { bytes }, [bytes]);
    if (own !== opened) return;
    file = found;
  } catch (error) {
    if (own === opened) {
      say(`${name}: ${error.message}`);
      part("player").hidden = true;
      part("drop").hidden = false;
    }
    return;
  }
  timeline.set(file);
  describe();
  part("drop").hidden = true;
  part("player").hidden = false;
  show(0);
}

function say(line) {
  part("line").textContent = line;
  part("line").hidden = !line;
}

/** One line about all that is damaged, as far as it is known. */
function sayDamage() {
  const found = [...clips.values()].map((clip) => clip.problem).filter(Boolean);
  const lost = [...clips.values()].flatMap((clip) => clip.lost);
  const all = [...new Set([...file.clips.flatMap((clip) => clip.damage), ...found, ...lost, ...file.damage])];
  if (!all.length) return;
  const more = all.length > 1 ? `, and ${all.length - 1} more` : "";
  const shown = found.length || file.clips.some((clip) => clip.damage.length) ? "; the nearest key frame is shown there" : "";
  say(`The file is damaged: ${all[0]}${more}${shown}.`);
}

function describe() {
  const { header, size, frames, clips: all, seconds, sound, decoders } = file;
  const duration = seconds[frames];
  const sum = (kind) => all.reduce((total, clip) => total + clip.bytes[kind], 0);
  const share = (bytes) => `${kilobytes(bytes)} (${Math.round((100 * bytes) / size)}%)`;
  const facts = {
    Picture: `${header.width}x${header.height}`,
    Length: `${frames} frames in ${all.length} clips, ${few(duration)}\u00a0s`,
    "Frame rate": `${few(frames / duration)} frames/s`,
    File: `${kilobytes(size)}, ${kilobits((8 * size) / duration)}`,
    "Key frames": `${share(sum("pictures"))}, ${header.keyframe_codec.toUpperCase()}`,
    Motion: share(sum("latent")),
    Model: `${header.model} ${header.version}`,
    Sound: sound ? "there is some; this page doesn't play it" : "none",
  };
  part("facts").replaceChildren(...Object.entries(facts).map(([name, value]) => {
    const group = document.createElement("div");
    for (const [kind, text] of [["dt", name], ["dd", value]]) {
      group.append(Object.assign(document.createElement(kind), { textContent: text }));
    }
    return group;
  }));
  part("decoder").replaceChildren(...decoders.map((name) => new Option(name)));
  part("decoder").disabled = decoders.length < 2;
  part("scale").textContent = `highest ${kilobits(timeline.highest)}`;
  part("place").max = frames - 1;
  const canvas = part("picture"), [wide, high] = header.sample_aspect_ratio;
  Object.assign(canvas, { width: header.width, height: header.height });
  canvas.style.aspectRatio = (header.width * wide) / (header.height * high);
  const large = Math.max(1, Math.round(384 / Math.max(header.width, header.height))); // tiny pictures, a few times as large
  canvas.style.width = `${(header.width * wide * large) / high}px`;
}

// ---------------------------------------------------------------------- decoding

function clipAt(number) {
  let low = 0;
  for (let high = file.clips.length; high - low > 1; ) {
    const middle = (low + high) >> 1;
    if (file.clips[middle].start <= number) low = middle;
    else high = middle;
  }
  return low;
}

/** Clips from the shown one on, in the order in which they will be. */
function coming() {
  const now = clipAt(frame), count = file.clips.length;
  const numbers = Array.from({ length: Math.min(AHEAD, most() - 1, count) }, (_, i) => now + i);
  return part("loop").checked ? numbers.map((number) => number % count) : numbers.filter((number) => number < count);
}

async function decodeAhead() {
  const number = file && !busy ? coming().find((one) => !clips.has(one)) : undefined;
  if (number === undefined) return;
  const own = opened, decoder = part("decoder").value;
  busy = true;
  try {
    const done = await ask("decode", { clip: number, decoder });
    if (own !== opened) return;
    if (decoder === part("decoder").value) {
      clips.set(number, done);
      forget();
      if (!done.problem) {
        decoding = { frames: decoding.frames + file.clips[number].frames, milliseconds: decoding.milliseconds + done.milliseconds, label: done.label };
      }
      sayDamage();
    }
    busy = false;
    draw();
    decodeAhead();
  } catch (error) {
    if (own !== opened) return;
    pause(); // busy stays: another try would end the same way
    say(error.message);
  }
}

/** How many decoded clips are kept. */
function most() {
  return Math.max(4, Math.floor(KEPT_BYTES / (file.header.width * file.header.height * 4 * 16)));
}

/** Let clips go that aren't coming, once there are too many. */
function forget() {
  const needed = coming();
  for (const number of clips.keys()) {
    if (clips.size <= most()) return;
    if (!needed.includes(number)) clips.delete(number);
  }
}

// ---------------------------------------------------------------------- showing

function show(number) {
  if (!file) return;
  frame = Math.min(Math.max(0, number), file.frames - 1);
  shownAt = performance.now();
  draw();
  decodeAhead();
}

function draw() {
  if (!file) return;
  const number = clipAt(frame), clip = file.clips[number], done = clips.get(number);
  part("busy").hidden = Boolean(done);
  if (done) paint(done[view()][frame - clip.start]);
  part("place").value = frame;
  part("place").setAttribute("aria-valuetext", `frame ${frame + 1} of ${file.frames}`);
  part("at").textContent = `frame ${frame + 1} of ${file.frames} · ${file.seconds[frame].toFixed(2)} s`;
  const { pictures, latent } = clip.bytes;
  part("clip").textContent =
    `Clip ${number + 1} of ${file.clips.length}, frames ${clip.start + 1} to ${clip.start + clip.frames}: ` +
    `${kilobytes(pictures + latent)} = ${kilobytes(pictures)} key frame + ${kilobytes(latent)} motion, ${kilobits(Timeline.rate(file, clip))}`;
  part("note").textContent = note();
  timeline.draw(frame, (index) => clips.has(index));
}

function note() {
  const lines = [];
  if (decoding.frames) lines.push(`Decodes ${few((1000 * decoding.frames) / decoding.milliseconds)} frames/s (${decoding.label}).`);
  if (playing && shownTimes.length > 1) {
    lines.push(`Shows ${few((1000 * (shownTimes.length - 1)) / (shownTimes.at(-1) - shownTimes[0]))} frames/s.`);
  }
  if (view() === "flow") lines.push("Flow: where each place comes from in the key frame; the hue is the direction, full colour 24 pixels.");
  if (view() === "keyframe") lines.push("The key frame that this frame is made from, as the file has it.");
  return lines.join(" ");
}

function paint(rgba) {
  const canvas = part("picture"), pen = canvas.getContext("2d");
  const { width, height } = canvas;
  if (view() !== "flow") {
    pen.putImageData(new ImageData(rgba, width, height), 0, 0);
    return;
  }
  const columns = 2 * Math.ceil(width / (2 * FLOW_CELL)), rows = rgba.length / 4 / columns;
  const small = new OffscreenCanvas(columns, rows);
  small.getContext("2d").putImageData(new ImageData(rgba, columns, rows), 0, 0);
  pen.drawImage(small, 0, 0, width / FLOW_CELL, height / FLOW_CELL, 0, 0, width, height);
}

function pause() {
  playing = false;
  part("play").textContent = "Play";
}

function toggle() {
  if (!file) return;
  if (playing) return pause();
  playing = true;
  shownTimes = [];
  part("play").textContent = "Pause";
  if (frame === file.frames - 1) show(0);
  shownAt = performance.now();
}

/** While it plays: the next frame when it is due. Where its clip isn't decoded yet, time waits. */
function tick(now) {
  requestAnimationFrame(tick);
  if (!playing || !clips.has(clipAt(frame))) return;
  let number = frame, due = shownAt;
  for (;;) {
    const until = due + 1000 * (file.seconds[number + 1] - file.seconds[number]);
    if (now < until) break;
    if (number + 1 === file.frames && !part("loop").checked) {
      pause();
      break;
    }
    const next = (number + 1) % file.frames;
    if (!clips.has(clipAt(next))) break;
    number = next;
    due = now - until > 250 ? now : until; // a page that was away doesn't catch up
  }
  if (number === frame) return;
  show(number);
  shownAt = due;
  shownTimes = [...shownTimes.filter((time) => now - time < 2000), now];
}

// ---------------------------------------------------------------------- what people do

function step(by) {
  pause();
  show(frame + by);
}

part("play").onclick = toggle;
part("back").onclick = () => step(-1);
part("on").onclick = () => step(1);
part("place").oninput = () => show(Number(part("place").value));
part("loop").onchange = () => decodeAhead();
part("views").onchange = draw;
part("decoder").onchange = () => {
  clips = new Map();
  show(frame);
};
part("chosen").onchange = ({ target }) => {
  const [chosen] = target.files;
  if (chosen) open(chosen.name, () => chosen.arrayBuffer());
  target.value = "";
};
document.addEventListener("keydown", (event) => {
  const free = event.target === document.body || event.target.tagName === "CANVAS";
  const actions = { " ": toggle, ArrowLeft: () => step(-1), ArrowRight: () => step(1), Home: () => step(-frame), End: () => step(file.frames) };
  if (!free || !file || !actions[event.key] || event.ctrlKey || event.metaKey || event.altKey) return;
  event.preventDefault();
  actions[event.key]();
});
document.addEventListener("dragover", (event) => {
  event.preventDefault();
  document.body.classList.add("over");
});
document.addEventListener("dragleave", () => document.body.classList.remove("over"));
document.addEventListener("drop", (event) => {
  event.preventDefault();
  document.body.classList.remove("over");
  const [dropped] = event.dataTransfer.files;
  if (dropped) open(dropped.name, () => dropped.arrayBuffer());
});
window.addEventListener("resize", draw);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
requestAnimationFrame(tick);

const given = new URLSearchParams(location.search);
if (given.has("file")) {
  const address = given.get("file");
  open(given.get("name") ?? address.split("/").at(-1), async () => {
    const answer = await fetch(address).catch(() => null);
    if (!answer?.ok) throw new Error("it can't be fetched");
    return answer.arrayBuffer();
  });
}

/** For those who look at the page from outside, as its tests do. */
window.player = {
  open, show, get file() { return file; }, get frame() { return frame; }, get clips() { return clips; }, get playing() { return playing; },
};
