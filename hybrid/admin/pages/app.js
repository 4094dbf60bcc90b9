// The dashboard: takes the snapshots of /live, once a second, and shows them.

import { Past } from "./charts.js";
import { ask, byId, element, keyed, mark, say } from "./dom.js";
import { showServices } from "./overview.js";
import { WorkerPage } from "./worker.js";

const AGAIN = 2000; // milliseconds until a stream that was refused is tried again
const TABLES = 10000; // between two looks at the blockers and the labels
const MOST_EVENTS = 200;
const MOST_LABELS = 10; // rows of the table
const MOST_BLOCKERS = 20;

const pasts = new Map(); // service -> its history
let newest = null; // the last snapshot
let events = [];
let lastEvent = 0; // number
let isLoading = false; // the events
let page = null; // the worker that is shown
let stream = null; // none while the page is hidden
let tablesAt = 0;

// --- the stream

/** Connects while the page can be seen: a browser has six connections to a server for all its tabs together. */
function connect() {
  if (document.hidden || (stream && stream.readyState !== EventSource.CLOSED)) return;
  const mine = new EventSource("live");
  stream = mine;
  mine.addEventListener("open", begin);
  mine.addEventListener("message", (message) => show(JSON.parse(message.data)));
  mine.addEventListener("error", () => {
    setConnected(false);
    if (mine.readyState === EventSource.CLOSED) setTimeout(connect, AGAIN);
  });
}

function showOrHide() {
  if (document.hidden) stream?.close();
  else connect();
}

/** Another process may answer now: its numbers of events begin anew. */
async function begin() {
  setConnected(true);
  events = [];
  lastEvent = 0;
  try {
    const found = await ask("history.json");
    for (const [name, series] of Object.entries(found.series)) pasts.set(name, new Past(found.times, series));
    if (newest) show(newest);
  } catch {
    // the lines begin now
  }
}

function setConnected(isConnected) {
  byId("link").hidden = isConnected;
  if (document.body.classList.contains("stale") === isConnected) {
    document.body.classList.toggle("stale", !isConnected);
    if (!isConnected) announce("Disconnected");
  }
}

function show(snapshot) {
  for (const service of snapshot.services) {
    if (!pasts.has(service.name)) pasts.set(service.name, new Past());
    pasts.get(service.name).add(snapshot.at, service.now);
  }
  const isFirst = newest === null;
  newest = snapshot;
  showHead(snapshot);
  if (isFirst && location.hash.startsWith("#/")) route();
  if (page) page.update(snapshot);
  else showServices(byId("services"), snapshot, (name) => pasts.get(name));
  showConfiguration(snapshot);
  if (snapshot.event !== lastEvent) loadEvents();
  if (Date.now() - tablesAt > TABLES) loadTables();
}

function showHead(snapshot) {
  say(byId("name"), snapshot.name);
  const chip = byId("state").firstElementChild;
  say(chip, `${snapshot.phase}, ${snapshot.ready ? "ready" : "not ready"}`);
  mark(chip, "data-tone", snapshot.ready ? "good" : "bad");
  keyed(byId("facts"), snapshot.facts, ([key]) => key,
    ([key]) => element("div", {}, element("dt", { text: key }), element("dd")),
    (node, [, value]) => say(node.lastElementChild, value));
  byId("reasons").hidden = snapshot.ready;
  keyed(byId("reasons"), snapshot.reasons, (text) => text, (text) => element("li", { text }), () => {});
}

// --- events, blockers, labels, configuration

async function loadEvents() {
  if (isLoading) return;
  isLoading = true;
  try {
    const isFirst = lastEvent === 0;
    const found = await ask(`events.json?after=${lastEvent}`);
    lastEvent = found.newest;
    events = [...found.events, ...events].slice(0, MOST_EVENTS);
    showEvents();
    const important = found.events.filter((event) => event.important);
    if (!isFirst && important.length) announce(important.map((event) => event.text).reverse().join(". "));
    if (!isFirst) tablesAt = 0;
  } catch {
    // the next snapshot asks again
  } finally {
    isLoading = false;
  }
}

function showEvents() {
  byId("no-events").hidden = events.length > 0;
  byId("events").hidden = events.length === 0;
  keyed(byId("events"), events, (event) => event.number, (event) => {
    const at = new Date(event.at * 1000);
    const isToday = at.toDateString() === new Date().toDateString();
    const time = element("time", {
      datetime: at.toISOString(), title: at.toLocaleString(),
      text: isToday ? at.toTimeString().slice(0, 8) : at.toISOString().slice(0, 10),
    });
    return element("li", { "data-tone": event.tone }, time, element("span", { text: event.text }));
  }, () => {});
}

function loadTables() {
  tablesAt = Date.now();
  loadBlockers();
  loadLabels();
}

async function loadBlockers() {
  byId("blockers").hidden = false;
  let found = [];
  try {
    found = (await ask("blockers.json")).blockers;
  } catch {
    return;
  }
  byId("no-blockers").hidden = found.length > 0;
  byId("blocker-rows").parentElement.hidden = found.length === 0;
  const worst = found.sort((one, other) => other.stalls - one.stalls).slice(0, MOST_BLOCKERS); // of all services
  byId("blocker-rows").replaceChildren(...worst.map((one) => element("tr", {},
    element("th", { scope: "row" }, element("code", { text: one.where })), element("td", { text: one.service }),
    element("td", { class: "number", text: one.stalls }),
    element("td", { class: "number", text: `${one.seconds.toFixed(1)} s` }))));
}

async function loadLabels() {
  let found = [];
  try {
    found = (await ask("labels.json")).labels;
  } catch {
    return;
  }
  byId("labels").hidden = found.length === 0; // without --accounting there are none
  const sums = new Map();
  const add = (key, seconds) => sums.set(key, (sums.get(key) ?? 0) + seconds);
  for (const one of found) {
    add(`loop ${one.service}`, one.loop_seconds);
    add(`cpu ${one.service}`, one.cpu_seconds);
  }
  const share = (seconds, all) => (all > 0 ? `${Math.round((100 * seconds) / all)}%` : "-");
  byId("label-rows").replaceChildren(...found.slice(0, MOST_LABELS).map((one) => element("tr", {},
    element("th", { scope: "row" }, element("code", { text: one.label })), element("td", { text: one.service }),
    element("td", { class: "number", text: one.requests }),
    element("td", { class: "number", text: share(one.loop_seconds, sums.get(`loop ${one.service}`)) }),
    element("td", { class: "number", text: share(one.cpu_seconds, sums.get(`cpu ${one.service}`)) }))));
}

function showConfiguration(snapshot) {
  keyed(byId("configuration"), snapshot.services, (service) => service.name,
    (service) => element("div", {}, element("h3", { text: service.name }), element("table", {}, element("tbody"))),
    (node, service) => keyed(node.querySelector("tbody"), service.configuration, ([key]) => key,
      ([key]) => element("tr", {}, element("th", { scope: "row", text: key }), element("td")),
      (row, [, value]) => say(row.lastElementChild, value)));
}

function announce(text) {
  byId("announcer").textContent = text;
}

// --- one worker, by the hash: #/web/0

function route() {
  const found = /^#\/([^/]+)\/(\d+)$/.exec(location.hash);
  page?.close();
  page = found && newest ? new WorkerPage(decodeURIComponent(found[1]), Number(found[2]), newest.actions) : null;
  byId("overview").hidden = page !== null;
  byId("worker").hidden = page === null;
  byId("worker").replaceChildren(...(page ? [page.node] : []));
  if (page) {
    page.update(newest);
    scrollTo(0, 0);
    page.title.focus({ preventScroll: true });
  } else if (newest) show(newest);
}

addEventListener("hashchange", route);
document.addEventListener("visibilitychange", showOrHide);
connect();
