// Lines over time, as SVG. They only repeat what stands beside them as text, so screen readers pass them over.

import { drawing, element, mark, say } from "./dom.js";

const LONGEST = 900; // seconds
const SHORTEST = 60; // a new history fills the width after a minute
const GAP = 10; // seconds without a moment that a line bridges
const STEPS = 120; // places from left to right

export const FORMATS = {
  busy: (value) => `${Math.round(value * 100)}%`,
  rate: (value) => (value < 9.95 ? value.toFixed(1) : Math.round(value).toString()),
  latency: (value) => (value >= 1 ? `${value.toFixed(1)} s` : `${(value * 1000).toFixed(value < 0.00995 ? 1 : 0)} ms`),
  queue: (value) => Math.round(value).toString(),
  memory: (value) => `${(value / 1048576).toFixed(0)} MiB`,
  offload: (value) => Math.round(value).toString(),
};
export const LINES = {
  rate: ["rate"], latency: ["p99", "p50"], busy: ["busy"], queue: ["queue"], memory: ["memory"], offload: ["offload"],
};
const LEAST = { rate: 1, latency: 0.001, busy: 1, queue: 4, memory: 1, offload: 4 }; // the height at least

/** A chart of a key of `LINES`; `height` in units of its picture. */
export class Chart {
  constructor(key, height) {
    this.key = key;
    this.height = height;
    this.paths = LINES[key].map((name) => drawing("path", { class: `line ${name}` }));
    this.area = drawing("path", { class: "area" });
    this.top = element("span", { class: "top-label" });
    this.span = element("span", { class: "span-label" });
    this.picture = drawing(
      "svg", { viewBox: `0 0 ${STEPS} ${height}`, preserveAspectRatio: "none" }, this.area, ...this.paths,
    );
    this.node = element("div", { class: "chart", "aria-hidden": "true" }, this.picture, this.top, this.span);
  }

  /** Draws `past`: { times, series }. */
  draw(past) {
    if (past.times.length < 2) return;
    const now = past.times.at(-1);
    const span = Math.min(LONGEST, Math.max(SHORTEST, now - past.times[0]));
    const lines = LINES[this.key].map((name) => thinned(past.times, past.series[name], now, span));
    const most = Math.max(LEAST[this.key], ...lines.flat().filter((value) => value !== null));
    lines.forEach((values, index) => mark(this.paths[index], "d", this.path(values, most)));
    mark(this.area, "d", this.filled(lines[0], most));
    say(this.top, FORMATS[this.key](most));
    say(this.span, span <= SHORTEST ? "1 min" : `${Math.round(span / 60)} min`);
  }

  path(values, most) {
    let text = "";
    let isOn = false;
    values.forEach((value, step) => {
      if (value === null) isOn = false;
      else {
        const isAlone = !isOn && (values[step + 1] ?? null) === null;
        text += `${isOn ? "L" : "M"}${step} ${this.y(value, most)}${isAlone ? "h.6" : ""}`;
        isOn = true;
      }
    });
    return text;
  }

  filled(values, most) {
    let text = "";
    let begin = null;
    for (let step = 0; step <= values.length; step++) {
      const value = values[step] ?? null;
      if (value !== null && begin === null) {
        begin = step;
        text += `M${step} ${this.height}`;
      }
      if (value !== null) text += `L${step} ${this.y(value, most)}`;
      else if (begin !== null) {
        text += `L${step - 1} ${this.height}Z`;
        begin = null;
      }
    }
    return text;
  }

  y(value, most) {
    return (this.height - 1 - (value / most) * (this.height - 3)).toFixed(2);
  }
}

/** Returns the highest value at each step; a step shorter than the distance of two moments takes the one before. */
function thinned(times, values, now, span) {
  const steps = new Array(STEPS + 1).fill(null);
  let last = null;
  times.forEach((time, index) => {
    const step = Math.round(STEPS - ((now - time) / span) * STEPS);
    const value = values[index];
    if (step < 0) return;
    if (value !== null && last !== null && step - last.step > 1 && time - last.time < GAP) {
      for (let between = last.step + 1; between < step; between++) {
        steps[between] = last.value + ((value - last.value) * (between - last.step)) / (step - last.step);
      }
    }
    if (value !== null) steps[step] = Math.max(steps[step] ?? 0, value);
    last = value === null ? null : { step, time, value };
  });
  return steps;
}

/** Numbers by time, as /history.json has them; moments are added at the end. */
export class Past {
  constructor(times = [], series = {}) {
    this.times = [...times];
    this.series = series;
  }

  /** Adds a moment; `values` in the order of `NAMES`. */
  add(time, values) {
    if (this.times.length && time <= this.times.at(-1)) return;
    NAMES.forEach((name, index) => {
      const numbers = (this.series[name] ??= new Array(this.times.length).fill(null));
      numbers.push(values[index]);
      if (numbers.length > LONGEST) numbers.shift();
    });
    this.times.push(time);
    if (this.times.length > LONGEST) this.times.shift();
  }
}
const NAMES = ["busy", "rate", "p50", "p99", "queue", "memory", "offload"];
