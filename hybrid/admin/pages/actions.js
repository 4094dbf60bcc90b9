// Buttons that change something: the second press does it, and the answer is shown as it comes.

import { element, say } from "./dom.js";

const ARMED = 5000; // milliseconds in which the second press counts

/** Returns a button; `confirm`: its text before the second press, none: the first press acts. */
export function button(label, { title, confirm, act }) {
  const made = element("button", { type: "button", text: label, "aria-label": title ?? label });
  let timer = null;
  const calm = () => {
    clearTimeout(timer);
    timer = null;
    made.classList.remove("armed");
    made.textContent = label;
    made.setAttribute("aria-label", title ?? label);
  };
  made.addEventListener("click", async () => {
    if (confirm && timer === null) {
      made.classList.add("armed");
      made.textContent = confirm;
      made.setAttribute("aria-label", `${confirm}: ${title ?? label}, press again to confirm`);
      timer = setTimeout(calm, ARMED);
      return;
    }
    calm();
    made.setAttribute("aria-disabled", "true"); // `disabled` would lose the focus
    if (made.isBusy) return;
    made.isBusy = true;
    try {
      await act();
    } finally {
      made.isBusy = false;
      made.removeAttribute("aria-disabled");
    }
  });
  made.addEventListener("keydown", (event) => event.key === "Escape" && calm());
  made.addEventListener("blur", calm);
  return made;
}

/** Sends an action and shows its progress and its end in `output`. */
export async function act(name, fields, output) {
  show(output, "plain", `${name}: asked`);
  try {
    const answer = await fetch(`actions/${name}`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify(fields),
    });
    if (!answer.ok) throw new Error((await answer.text()).trim());
    for await (const line of lines(answer.body)) {
      if (line.progress) show(output, "plain", `${name}: ${line.progress.ready} of ${line.progress.of} workers ready`);
      else if (line.error) throw new Error(line.error);
      else show(output, "good", ended(name, line.result));
    }
  } catch (error) {
    show(output, "bad", `${name} failed: ${error.message}`);
  }
}

function show(output, tone, text) {
  output.dataset.tone = tone;
  say(output, text);
}

function ended(name, result) {
  if (name === "scale") return `${result.service} has ${result.workers} worker${result.workers === 1 ? "" : "s"}`;
  if (name === "restart") return `${result.service}/${result.slot} is replaced: pid ${result.pid}`;
  const all = Object.entries(result.services).map(([service, { generation }]) => `${service}: generation ${generation}`);
  return `reloaded, ${all.join(", ")}`;
}

async function* lines(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const parts = (rest + value).split("\n");
    rest = parts.pop();
    for (const part of parts) yield JSON.parse(part);
  }
}
