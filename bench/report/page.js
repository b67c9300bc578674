"use strict";
/* Each player is one video with its tracks side by side; everything that is seen is cut out of it onto canvases. */

function bytesOf(text) {
  return Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
}

class Player {
  constructor(root) {
    const facts = JSON.parse(root.querySelector("script").textContent);
    this.root = root;
    this.size = facts.size;
    this.rate = facts.rate;
    this.frames = facts.frames;
    this.shown = -1;
    this.video = root.querySelector("video");
    this.video.src = URL.createObjectURL(new Blob([bytesOf(facts.video)], { type: "video/webm" }));
    this.views = [...root.querySelectorAll("canvas[data-track]")];
    this.wipe = root.querySelector("canvas[data-view=wipe]");
    this.difference = root.querySelector("canvas[data-view=difference]");
    this.slider = root.querySelector("[data-do=wipe]");
    this.choice = root.querySelector("[data-do=track]");
    this.place = root.querySelector("[data-do=seek]");
    this.button = root.querySelector("[data-do=play]");
    this.cursor = root.querySelector(".cursor");
    this.counter = root.querySelector("[data-show=frame]");
    for (const canvas of [...this.views, this.wipe, this.difference]) canvas.width = canvas.height = this.size;
    this.button.addEventListener("click", () => (this.video.paused ? this.video.play() : this.video.pause()));
    this.video.addEventListener("play", () => { this.button.textContent = "Pause"; this.follow(); });
    this.video.addEventListener("pause", () => { this.button.textContent = "Play"; });
    for (const event of ["seeked", "loadeddata"]) this.video.addEventListener(event, () => this.draw());
    this.place.addEventListener("input", () => {
      this.video.pause();
      this.video.currentTime = (Number(this.place.value) + 0.5) / this.rate;
    });
    for (const control of [this.slider, this.choice]) control.addEventListener("input", () => this.draw());
  }

  follow() {
    this.draw();
    if (!this.video.paused) {
      if (this.video.requestVideoFrameCallback) this.video.requestVideoFrameCallback(() => this.follow());
      else requestAnimationFrame(() => this.follow());
    }
  }

  cut(canvas, track) {
    canvas.getContext("2d").drawImage(this.video, track * this.size, 0, this.size, this.size, 0, 0, this.size, this.size);
  }

  draw() {
    if (this.video.readyState < 2) return;
    const track = Number(this.choice.value);
    this.shown = Math.min(this.frames - 1, Math.floor(this.video.currentTime * this.rate + 0.01));
    for (const canvas of this.views) this.cut(canvas, Number(canvas.dataset.track));
    this.drawWipe(track);
    this.drawDifference(track);
    if (document.activeElement !== this.place || !this.video.paused) this.place.value = this.shown;
    this.counter.textContent = `frame ${this.shown + 1} of ${this.frames}`;
    this.cursor.setAttribute("transform", `translate(${(this.shown / Math.max(1, this.frames - 1)) * Number(this.cursor.dataset.width)} 0)`);
  }

  drawWipe(track) {
    const edge = Math.round((Number(this.slider.value) / 100) * this.size);
    const pen = this.wipe.getContext("2d");
    this.cut(this.wipe, track);
    if (edge > 0) pen.drawImage(this.video, 0, 0, edge, this.size, 0, 0, edge, this.size);
    pen.fillStyle = "#fff";
    pen.fillRect(edge - 1, 0, 2, this.size);
  }

  drawDifference(track) {
    const canvas = this.difference;
    const pen = canvas.getContext("2d");
    pen.globalCompositeOperation = "copy";
    this.cut(canvas, track);
    pen.globalCompositeOperation = "difference";
    this.cut(canvas, 0);
    pen.globalCompositeOperation = "lighter"; // doubled twice
    pen.drawImage(canvas, 0, 0);
    pen.drawImage(canvas, 0, 0);
    pen.globalCompositeOperation = "source-over";
  }
}

window.players = [...document.querySelectorAll(".player")].map((root) => new Player(root));
