// The demonstration's page: asks who answers, and counts.
"use strict";

const PAUSE = 250; // milliseconds between two questions
const byId = (id) => document.getElementById(id);
const workers = []; // of each worker process seen: its row, its meter and how often it has answered; in order
let total = 0;
let paused = false;

document.documentElement.classList.add("scripted");

function nameOf(who) {
  return `${who.service}/${who.slot}`;
}

function cell(row, kind, text) {
  const made = document.createElement(kind);
  made.textContent = text;
  row.append(made);
  return made;
}

function addWorker(who, key) {
  const row = document.createElement("tr");
  cell(row, "th", nameOf(who)).scope = "row";
  cell(row, "td", who.pid);
  cell(row, "td", who.generation);
  cell(row, "td", who.loop);
  const share = document.createElement("meter");
  share.setAttribute("aria-label", "share of all answers");
  const number = document.createElement("span");
  cell(row, "td", "").append(share, number);
  const worker = { key, row, share, number, count: 0 };
  const found = workers.findIndex((other) => isBefore(key, other.key));
  const place = found < 0 ? workers.length : found;
  byId("workers").insertBefore(row, workers[place]?.row ?? null);
  workers.splice(place, 0, worker);
  return worker;
}

function isBefore(one, other) {
  const at = one.findIndex((value, index) => value !== other[index]);
  return at >= 0 && one[at] < other[at];
}

function count(who) {
  const key = [who.slot, who.generation, who.pid];
  const worker = workers.find((known) => known.key.join() === key.join()) ?? addWorker(who, key);
  worker.count += 1;
  total += 1;
  for (const each of workers) {
    each.share.max = total;
    each.share.value = each.count;
    each.number.textContent = each.count;
  }
}

function say(text) {
  if (byId("state").textContent !== text) {
    byId("state").textContent = text; // a screen reader reads it out, so only when it is news
  }
}

async function ask(path) {
  const answer = await fetch(path, { cache: "no-store" });
  if (!answer.ok) {
    throw new Error(`${path}: ${answer.status}`);
  }
  return answer.json();
}

async function poll() {
  if (!paused) {
    try {
      count(await ask("who"));
      say("");
    } catch {
      say("Nobody answers. Trying again.");
    }
  }
  setTimeout(poll, document.hidden ? 4 * PAUSE : PAUSE);
}

byId("pause").addEventListener("click", () => {
  paused = !paused;
  byId("pause").textContent = paused ? "Go on" : "Pause";
});

byId("slow").addEventListener("click", async () => {
  const [button, answer] = [byId("slow"), byId("slow-answer")];
  const [before, start] = [total, performance.now()];
  button.disabled = true;
  answer.textContent = "waiting …";
  try {
    const who = await ask("slow");
    const seconds = ((performance.now() - start) / 1000).toFixed(1);
    answer.textContent = `${nameOf(who)} answered after ${seconds} s; meanwhile ${total - before} others were answered.`;
  } catch {
    answer.textContent = "No answer.";
  }
  button.disabled = false;
});

new EventSource("events").addEventListener("message", (event) => {
  const told = JSON.parse(event.data);
  byId("clock").textContent = told.time;
  byId("clock-worker").textContent = `from ${nameOf(told)}, process ${told.pid}`;
});

let line = null; // the WebSocket, once something was said

function connect() {
  const address = new URL("ws", document.baseURI);
  address.protocol = address.protocol.replace("http", "ws");
  const made = new WebSocket(address);
  made.addEventListener("message", (event) => {
    byId("echo-answer").textContent = `The answer: ${event.data}`;
  });
  made.addEventListener("close", (event) => {
    byId("echo-answer").textContent = `Closed (${event.code}); the next words connect again.`;
    line = null;
  });
  return made;
}

byId("echo").addEventListener("submit", (event) => {
  event.preventDefault();
  const words = byId("words").value;
  line ??= connect();
  if (line.readyState === WebSocket.CONNECTING) {
    line.addEventListener("open", () => line.send(words), { once: true });
  } else {
    line.send(words);
  }
  byId("words").value = "";
});

byId("workers").replaceChildren();
poll();
