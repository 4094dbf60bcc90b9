// The demonstration's page: requests /who repeatedly and counts the responses of each worker.
"use strict";

const PAUSE = 250; // milliseconds between two requests
const byId = (id) => document.getElementById(id);
const workers = []; // sorted; for each worker process seen: its row, its meter and its number of responses
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
  share.setAttribute("aria-label", "share of all responses");
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
    byId("state").textContent = text; // a screen reader reads it out, so only set it if it changes
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
      say("No response. Trying again.");
    }
  }
  setTimeout(poll, document.hidden ? 4 * PAUSE : PAUSE);
}

byId("pause").addEventListener("click", () => {
  paused = !paused;
  byId("pause").textContent = paused ? "Resume" : "Pause";
});

byId("slow").addEventListener("click", async () => {
  const [button, answer] = [byId("slow"), byId("slow-answer")];
  const [before, start] = [total, performance.now()];
  button.disabled = true;
  answer.textContent = "waiting …";
  try {
    const who = await ask("slow");
    const seconds = ((performance.now() - start) / 1000).toFixed(1);
    answer.textContent = `${nameOf(who)} answered after ${seconds} s; meanwhile ${total - before} other requests were answered.`;
  } catch {
    answer.textContent = "No response.";
  }
  button.disabled = false;
});

new EventSource("events").addEventListener("message", (event) => {
  const told = JSON.parse(event.data);
  byId("clock").textContent = told.time;
  byId("clock-worker").textContent = `from ${nameOf(told)}, process ${told.pid}`;
});

let socket = null; // the WebSocket, after the first message

function connect() {
  const address = new URL("ws", document.baseURI);
  address.protocol = address.protocol.replace("http", "ws");
  const made = new WebSocket(address);
  made.addEventListener("message", (event) => {
    byId("echo-answer").textContent = `Received: ${event.data}`;
  });
  made.addEventListener("close", (event) => {
    byId("echo-answer").textContent = `Closed (${event.code}); the next message connects again.`;
    socket = null;
  });
  return made;
}

byId("echo").addEventListener("submit", (event) => {
  event.preventDefault();
  const words = byId("words").value;
  socket ??= connect();
  if (socket.readyState === WebSocket.CONNECTING) {
    socket.addEventListener("open", () => socket.send(words), { once: true });
  } else {
    socket.send(words);
  }
  byId("words").value = "";
});

byId("workers").replaceChildren();
poll();
