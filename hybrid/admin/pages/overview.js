// The services: totals with their lines, and the table of workers.

import { act, button } from "./actions.js";
import { Chart } from "./charts.js";
import { drawing, element, keyed, mark, say } from "./dom.js";

const CELLS = [
  ["name", "Worker"], ["state", "State"], ["busy", "Busy"], ["rate", "Req/s"], ["in_flight", "In flight"],
  ["connections", "Conns"], ["queue", "Queue"], ["lag", "Lag p99"], ["memory", "Memory"], ["restarts", "Restarts"],
  ["up", "Up"], ["pid", "PID"],
];
const NUMBERS = CELLS.slice(3).map(([cell]) => cell);
const PHASES = { serving: "good", failed: "bad" };

/** Shows the services of a snapshot in `parent`; `past(name)`: the history of one. */
export function showServices(parent, snapshot, past) {
  keyed(parent, snapshot.services, (service) => service.name, (service) => new Service(service, snapshot.actions).node,
    (node, service) => node.service.update(service, past(service.name)));
}

class Service {
  constructor(service, mayAct) {
    this.name = service.name;
    this.phase = element("span", { class: "chip" });
    this.about = element("ul", { class: "about" });
    this.failure = element("p", { class: "failure" });
    this.output = element("output", { class: "result" });
    this.workers = element("span", { class: "count" });
    this.tiles = element("dl", { class: "tiles" });
    this.rows = element("tbody");
    this.empty = element("p", { class: "empty", text: "No workers." });
    this.table = table(service.name, this.rows);
    const head = element("header", { class: "head" },
      element("h2", { text: service.name }), this.phase, this.about, ...this.controls(mayAct && !service.sidecar));
    this.node = element("section", { class: "service card", "aria-label": `Service ${service.name}` },
      head, this.failure, this.tiles, this.table, this.empty);
    this.node.service = this;
  }

  controls(mayAct) {
    if (!mayAct) return [];
    const { name, output } = this;
    const scale = (by) => () => act("scale", { service: name, by }, output);
    return [
      element("div", { class: "controls", role: "group", "aria-label": `Change ${name}` },
        this.output,
        button("−", { title: `One worker less for ${name}`, confirm: "− confirm", act: scale(-1) }),
        this.workers,
        button("+", { title: `One worker more for ${name}`, act: scale(1) }),
        button("Reload", {
          title: `Reload ${name}`, confirm: "Confirm reload", act: () => act("reload", { service: name }, output),
        })),
    ];
  }

  update(service, past) {
    say(this.phase, service.phase);
    mark(this.phase, "data-tone", PHASES[service.phase] ?? "warning");
    keyed(this.about, service.about.map((text, key) => ({ text, key })), (one) => one.key,
      () => element("li"), (node, one) => say(node, one.text));
    this.failure.hidden = !service.failure;
    say(this.failure, service.failure);
    say(this.workers, `${service.wanted} worker${service.wanted === 1 ? "" : "s"}`);
    this.tiles.hidden = !service.tiles.length;
    keyed(this.tiles, service.tiles, (tile) => tile.key, (tile) => new Tile(tile.key).node,
      (node, tile) => node.tile.update(tile, past));
    this.table.hidden = !service.workers.length;
    this.empty.hidden = service.workers.length > 0;
    keyed(this.rows, numbered(service.workers), (worker) => worker.key, () => new Row().node,
      (node, worker) => node.row.update(worker));
  }
}

/** Gives each worker a key: its slot, and its place among those of the slot, of which one replaces the other. */
function numbered(workers) {
  const seen = new Map();
  return workers.map((worker) => {
    const place = seen.get(worker.slot) ?? 0;
    seen.set(worker.slot, place + 1);
    return { ...worker, key: `${worker.slot}.${place}` };
  });
}

function table(name, rows) {
  const heads = CELLS.map(([cell, title]) => element("th", { scope: "col", "data-cell": cell, text: title }));
  return element("table", { class: "workers" },
    element("caption", { class: "unseen", text: `Workers of ${name}` }),
    element("thead", {}, element("tr", {}, ...heads)), rows);
}

class Tile {
  constructor(key) {
    this.title = element("dt");
    this.text = element("span", { class: "value" });
    this.more = element("span", { class: "more" });
    this.chart = new Chart(key, 32);
    this.node = element("div", { class: "tile", "data-key": key },
      this.title, element("dd", {}, this.text, this.more), this.chart.node);
    this.node.tile = this;
  }

  update(tile, past) {
    say(this.title, tile.title);
    say(this.text, tile.text);
    say(this.more, tile.more);
    if (past) this.chart.draw(past);
  }
}

class Row {
  constructor() {
    this.link = element("a");
    this.state = element("span", { class: "state" });
    this.detail = element("span", { class: "detail" });
    this.where = element("code", { class: "where" });
    this.bar = new Bar();
    this.busy = element("span");
    this.numbers = NUMBERS.map((cell) => element("td", { "data-cell": cell }));
    this.node = element("tr", {},
      element("th", { scope: "row", "data-cell": "name" }, this.link),
      element("td", { "data-cell": "state" }, this.state, " ", this.detail, this.where),
      element("td", { "data-cell": "busy" }, this.bar.node, this.busy), ...this.numbers);
    this.node.row = this;
    this.was = null;
  }

  update(worker) {
    const is = `${worker.state} ${worker.pid}`;
    if (this.was !== null && this.was !== is) this.flash();
    this.was = is;
    mark(this.node, "data-state", worker.state);
    mark(this.link, "href", `#/${encodeURIComponent(worker.name.slice(0, worker.name.lastIndexOf("/")))}/${worker.slot}`);
    say(this.link, worker.name);
    say(this.state, worker.state);
    say(this.detail, worker.detail);
    say(this.where, worker.where);
    this.where.hidden = !worker.where;
    this.bar.set(worker.busy);
    say(this.busy, worker.busy_text);
    worker.cells.forEach((text, index) => say(this.numbers[index], text));
  }

  flash() {
    this.node.classList.remove("changed");
    void this.node.offsetWidth; // begins the animation anew
    this.node.classList.add("changed");
  }
}

/** How busy a worker is, as a bar. */
export class Bar {
  constructor() {
    this.fill = drawing("rect", { class: "fill", width: 0, height: 6 });
    this.node = drawing("svg", { class: "bar", viewBox: "0 0 100 6", preserveAspectRatio: "none", "aria-hidden": "true" },
      drawing("rect", { class: "track", width: 100, height: 6 }), this.fill);
  }

  set(busy) {
    const share = Math.min(Math.max(busy ?? 0, 0), 1);
    mark(this.fill, "width", String(Math.round(share * 100)));
    mark(this.fill, "class", share >= 0.9 ? "fill full" : "fill");
  }
}
