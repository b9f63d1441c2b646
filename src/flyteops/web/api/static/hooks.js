"use strict";

// Data from callers is shown as text only and never becomes markup of the page.

const REFRESH_EVERY = 5000;

let token = "";
let shown = "";
const opened = new Set();

const byId = (id) => document.getElementById(id);

function element(name, text = "", kind = "") {
  const made = document.createElement(name);
  made.textContent = text;
  made.className = kind;
  return made;
}

async function ask(path, options = {}) {
  const headers = { Accept: "application/json", ...options.headers };
  if (token) headers.Authorization = `Bearer ${token}`;
  const answer = await fetch(path, { ...options, headers });
  const said = await answer.json();
  if (answer.ok) return said;
  byId("entry").hidden = answer.status !== 401;
  throw new Error(said.detail || `The server answers ${answer.status}.`);
}

async function tell(work) {
  try {
    await work();
    byId("message").textContent = "";
  } catch (error) {
    byId("message").textContent = error.message;
  }
}

// The outcome of the event: the steps of flows that ran, and why others did not.
async function decisions(call) {
  const list = element("ul");
  const event = await ask(`/v1/audit/events/${encodeURIComponent(call.eventId)}`);
  for (const each of event.decisions) {
    const line = element("li", `${each.flowName} / ${each.stepId}: `);
    line.append(element("b", each.outcome, each.outcome), ` ${each.detail}`);
    list.append(line);
  }
  if (!event.decisions.length) list.append(element("li", "No flow has a step for this event.", "dim"));
  return list;
}

// A call that its vendor sends again makes no second event; this does.
function resendButton(hook, call) {
  const button = element("button", "Resend", "resend");
  button.addEventListener("click", () => tell(async () => {
    button.disabled = true;
    try {
      const path = `/v1/hooks/${encodeURIComponent(hook.name)}/calls/${encodeURIComponent(call.eventId)}/resend`;
      await ask(path, { method: "POST" });
      await show();
    } finally {
      button.disabled = false;
    }
  }));
  return button;
}

function callView(hook, call) {
  const view = document.createElement("details");
  const head = element("summary", `${new Date(call.receivedAt).toLocaleString()}  ${call.peer || ""} `);
  head.append(element("b", call.outcome, call.outcome), ` ${call.reason || ""}`);
  const headers = Object.entries(call.headers || {}).map(([name, value]) => `${name}: ${value}`);
  const body = element("pre", `${headers.join("\n")}\n\n${call.body || ""}`);
  view.append(head, body);
  if (call.size > (call.body || "").length) view.append(element("p", `The body has ${call.size} bytes in all.`, "dim"));
  if (call.eventId) view.append(element("p", `Event ${call.eventId}`), resendButton(hook, call));
  const key = `${hook.name} ${call.receivedAt} ${call.eventId || ""}`;
  view.addEventListener("toggle", () => tell(async () => {
    if (!view.open) return void opened.delete(key);
    opened.add(key);
    if (call.eventId && !view.querySelector("ul")) view.append(await decisions(call));
  }));
  view.open = opened.has(key);
  return view;
}

function hookView(hook, calls) {
  const view = element("section");
  view.id = `hook-${hook.name}`;
  const test = element("button", "Make a test call");
  test.addEventListener("click", () => tell(async () => {
    const options = { method: "POST", body: '{"test": true}', headers: { "Content-Type": "application/json" } };
    await ask(`/v1/hooks/${encodeURIComponent(hook.name)}/test`, options);
    await show();
  }));
  const about = element("p", `${hook.vendor}, ${hook.scheme} `, "dim");
  about.append(hook.description || "");
  view.append(element("h2", hook.name), element("code", hook.url), about, test);
  view.append(...calls.map((call) => callView(hook, call)));
  if (!calls.length) view.append(element("p", "Nobody has called yet.", "dim"));
  return view;
}

async function show() {
  const { hooks } = await ask("/v1/hooks");
  byId("entry").hidden = true;
  const answers = await Promise.all(hooks.map((hook) => ask(`/v1/hooks/${encodeURIComponent(hook.name)}/calls`)));
  const found = JSON.stringify([hooks, answers]);
  if (found === shown) return; // do not redraw while a user reads or selects text
  shown = found;
  const views = hooks.map((hook, index) => hookView(hook, answers[index].calls));
  if (!views.length) views.push(element("p", "There are no hooks; create one with `flyte hooks create`.", "dim"));
  byId("hooks").replaceChildren(...views);
}

byId("enter").addEventListener("click", () => {
  token = byId("token").value.trim();
  byId("token").value = "";
  tell(show);
});
byId("token").addEventListener("keydown", (event) => event.key === "Enter" && byId("enter").click());

setInterval(() => document.hidden || !byId("entry").hidden || tell(show), REFRESH_EVERY);
tell(show);
