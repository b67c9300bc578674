// The file's clips side by side: as wide as they last, as high as they cost.

const GAP = 1;

/** Draws a file's clips, and tells `seek(frame)` where somebody points. */
export class Timeline {
  constructor(canvas, seek) {
    this.canvas = canvas;
    this.file = null;
    const point = (event) => {
      if (!this.file || !(event.buttons & 1)) return;
      const box = canvas.getBoundingClientRect();
      seek(this.frameAt((event.clientX - box.left) / box.width));
    };
    canvas.addEventListener("pointerdown", (event) => {
      canvas.setPointerCapture(event.pointerId);
      point(event);
    });
    canvas.addEventListener("pointermove", point);
  }

  /** Bits a second of a clip, without the sound. */
  static rate(file, { start, frames, bytes }) {
    return (8 * (bytes.pictures + bytes.latent)) / (file.seconds[start + frames] - file.seconds[start]);
  }

  set(file) {
    this.file = file;
    this.highest = file.clips.reduce((most, clip) => Math.max(most, Timeline.rate(file, clip)), 1);
  }

  frameAt(share) {
    const { seconds, frames } = this.file;
    const time = share * seconds[frames];
    let low = 0;
    for (let high = frames; high - low > 1; ) {
      const middle = (low + high) >> 1;
      if (seconds[middle] <= time) low = middle;
      else high = middle;
    }
    return low;
  }

  /** @param ready whether a clip, by its number, is decoded */
  draw(frame, ready) {
    const { canvas, file } = this;
    const ratio = window.devicePixelRatio || 1;
    const width = Math.round(canvas.clientWidth * ratio), height = Math.round(canvas.clientHeight * ratio);
    if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
    const pen = canvas.getContext("2d"), style = getComputedStyle(canvas);
    const colour = (name) => style.getPropertyValue(`--${name}`);
    const end = file.seconds[file.frames];
    const across = (number) => (file.seconds[number] / end) * width;
    const low = height - 6 * ratio;
    pen.clearRect(0, 0, width, height);
    for (const clip of file.clips) {
      const left = across(clip.start), right = Math.max(left + 1, across(clip.start + clip.frames) - GAP * ratio);
      const total = clip.bytes.pictures + clip.bytes.latent;
      const high = (Timeline.rate(file, clip) / this.highest) * (low - 6 * ratio);
      const motion = total ? (high * clip.bytes.latent) / total : 0;
      const own = frame >= clip.start && frame < clip.start + clip.frames;
      pen.globalAlpha = own ? 1 : 0.6;
      pen.fillStyle = colour("pictures");
      pen.fillRect(left, low - (high - motion), right - left, high - motion);
      pen.fillStyle = colour("latent");
      pen.fillRect(left, low - high, right - left, motion);
      pen.globalAlpha = 1;
      if (clip.damage.length) {
        pen.fillStyle = colour("bad");
        pen.fillRect(left, 0, right - left, 4 * ratio);
      }
      if (ready(clip.index)) {
        pen.fillStyle = colour("accent");
        pen.fillRect(left, height - 3 * ratio, right - left, 3 * ratio);
      }
    }
    pen.fillStyle = colour("ink");
    pen.fillRect(Math.min(width - 2 * ratio, across(frame)), 0, 2 * ratio, height);
  }
}
