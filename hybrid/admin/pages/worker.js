// The page of one worker: its history, the requests in progress, and where it is just now.

import { act, button } from "./actions.js";
import { Chart, Past } from "./charts.js";
import { ask, element, say } from "./dom.js";

const CHARTS = [
  ["rate", "Requests/s"], ["latency", "Latency p50 / p99"], ["busy", "Busy"], ["queue", "Queue"], ["memory", "Memory"],
];
const EVERY = 3000; // milliseconds between two looks at a stalled worker

/** A worker on the page; `close` when another one is shown. */
export class WorkerPage {
  constructor(service, slot, mayAct) {
    this.service = service;
    this.slot = slot;
    this.past = new Past();
    this.isOpen = true;
    this.isAsking = false;
    this.askedAt = 0;
    this.state = element("span", { class: "state" });
    this.where = element("code", { class: "where" });
    this.facts = element("dl", { class: "facts" });
    this.charts = CHARTS.map(([key]) => new Chart(key, 64));
    this.values = CHARTS.map(() => element("span", { class: "value" }));
    this.output = element("output", { class: "result" });
    this.stacks = element("div", { class: "stacks" },
      element("p", { class: "empty", text: "A look holds the loop up for some milliseconds." }));
    this.title = element("h2", { text: `${service}/${slot}`, tabindex: "-1" });
    this.node = this.build(mayAct);
    this.load();
  }

  build(mayAct) {
    const name = `${this.service}/${this.slot}`;
    const restart = button("Restart", {
      title: `Restart ${name}`, confirm: "Confirm restart",
      act: () => act("restart", { service: this.service, slot: this.slot }, this.output),
    });
    const look = button("Show stacks", { title: `Show stacks of ${name}`, act: () => this.look() });
    this.row = element("div", { class: "head" }, this.title, this.state, this.where,
      element("div", { class: "controls" }, this.output, ...(mayAct ? [restart] : [])));
    return element("div", {},
      element("p", { class: "back" }, element("a", { href: "#", text: "← All services" })),
      element("section", { class: "card", "aria-label": `Worker ${name}` }, this.row, this.facts,
        element("dl", { class: "tiles large" }, ...CHARTS.map(([key, title], index) =>
          element("div", { class: "tile", "data-key": key }, element("dt", { text: title }),
            element("dd", {}, this.values[index]), this.charts[index].node)))),
      element("section", { class: "card", "aria-label": "What it does" },
        element("div", { class: "head" }, element("h2", { text: "What it does just now" }),
          element("div", { class: "controls" }, look)),
        this.stacks));
  }

  close() {
    this.isOpen = false;
  }

  async load() {
    try {
      const found = await ask(`history.json?service=${encodeURIComponent(this.service)}&slot=${this.slot}`);
      this.past = new Past(found.times, found.series[this.service]);
    } catch {
      this.past = new Past(); // too many workers for a history of each: it begins now
    }
    if (this.isOpen) this.draw();
  }

  /** Shows a snapshot. */
  update(snapshot) {
    const service = snapshot.services.find((one) => one.name === this.service);
    const worker = service?.workers.find((one) => one.slot === this.slot);
    if (!worker) {
      say(this.state, "no such worker");
      this.row.dataset.state = "gone";
      return;
    }
    this.row.dataset.state = worker.state;
    say(this.state, `${worker.state} ${worker.detail}`.trim());
    say(this.where, worker.where);
    this.where.hidden = !worker.where;
    const [rate, inFlight, connections, queue, lag, memory, restarts, up, pid] = worker.cells;
    this.show({ pid, up, restarts, connections, "in flight": inFlight, "lag p99": lag });
    const latency = worker.now[3] === null ? "-" : `${time(worker.now[2])} / ${time(worker.now[3])}`;
    [rate, latency, worker.busy_text, queue, memory].forEach((text, index) => say(this.values[index], text));
    this.past.add(snapshot.at, worker.now);
    this.draw();
    if (worker.state === "stalled" && Date.now() - this.askedAt > EVERY) this.look();
  }

  draw() {
    for (const chart of this.charts) chart.draw(this.past);
  }

  show(facts) {
    const shown = Object.entries(facts).map(([key, value]) =>
      element("div", {}, element("dt", { text: key }), element("dd", { text: value })));
    this.facts.replaceChildren(...shown);
  }

  async look() {
    if (this.isAsking) return;
    this.isAsking = true;
    this.askedAt = Date.now();
    try {
      const found = await ask(`stacks.json?service=${encodeURIComponent(this.service)}&slot=${this.slot}`);
      if (this.isOpen) this.stacks.replaceChildren(...found.workers.flatMap(described));
    } catch (error) {
      if (this.isOpen) this.stacks.replaceChildren(element("p", { class: "failure", text: error.message }));
    } finally {
      this.isAsking = false;
    }
  }
}

function time(seconds) {
  return seconds >= 1 ? `${seconds.toFixed(1)} s` : `${(seconds * 1000).toFixed(seconds < 0.00995 ? 1 : 0)} ms`;
}

function described(worker) {
  const how = worker.source === "signal" ? "Its loop does not turn: it was asked by a signal." : "Its loop has answered.";
  return [
    element("p", { class: "hint", text: worker.error ?? `${how} At ${new Date().toLocaleTimeString()}.` }),
    requests(worker.requests ?? [], worker.source),
    ...frames("Thread", worker.threads ?? [], (one) => one.name + (one.is_loop ? " (the loop)" : "")),
    ...frames("Greenlet", worker.greenlets ?? [], (one) => one.name ?? ""),
    ...frames("Task", worker.tasks ?? [], (one) => one.name + (one.waits_for ? `, waits for ${one.waits_for}` : "")),
  ];
}

function requests(found, source) {
  if (!found.length) {
    const text = source === "signal" ? "Its requests are not known meanwhile." : "No requests in progress.";
    return element("p", { class: "empty", text });
  }
  const rows = found.map((one) => element("tr", {}, element("td", { text: one.method }),
    element("td", { class: "path", text: one.path }), element("td", { class: "number", text: `${one.seconds.toFixed(1)} s` })));
  return element("table", { class: "requests" },
    element("caption", { text: "Requests in progress" }),
    element("thead", {}, element("tr", {}, ...["Method", "Path", "For"].map((text) => element("th", { scope: "col", text })))),
    element("tbody", {}, ...rows));
}

/** True for a frame of hybrid, of Python or of a package: the application's own ones stand out. */
function isForeign(frame) {
  return frame.ours || /[/]lib[/]python3|site-packages/.test(frame.file);
}

function frames(kind, found, title) {
  return found.map((one) => element("section", { class: "stack" },
    element("h3", {}, element("span", { class: "kind", text: kind }), ` ${title(one)}`),
    one.frames?.length
      ? element("ol", {}, ...one.frames.map((frame) => element("li", { class: isForeign(frame) ? "foreign" : null },
        element("code", { text: `${frame.file}:${frame.line} in ${frame.function}` }))))
      : element("p", { class: "empty", text: "No frames." })));
}
