// The page: it shows what the stream of the agent says.
import { byId, count, el, when } from "./dom.js";
import * as search from "./search.js";
import * as sessions from "./sessions.js";
import * as topology from "./topology.js";

const again = 5000; // milliseconds until a stream that was refused is opened again
const eventsShown = 200;
let stream = null;
let timer = 0;
let rack = "";

// open opens the stream of what the page shows now. A hidden page has none: it would
// keep the agent gathering without a reader.
function open() {
  clearTimeout(timer);
  stream?.close();
  stream = null;
  if (document.hidden) return;
  const mine = new EventSource(`api/live?${new URLSearchParams({ filter: byId("filter").value.trim(), rack })}`);
  stream = mine;
  const show = (name, update) => mine.addEventListener(name, (e) => update(JSON.parse(e.data)));
  show("status", status);
  show("sessions", sessions.update);
  show("topology", topology.update);
  show("changes", changes);
  mine.addEventListener("open", () => connection("good", "live"));
  mine.addEventListener("error", () => {
    if (mine !== stream) return;
    connection("bad", "no connection to the agent");
    if (mine.readyState === EventSource.CLOSED) timer = setTimeout(open, again);
  });
}

function connection(tone, text) {
  const place = byId("connection");
  place.className = `badge ${tone}`;
  place.textContent = text;
}

function status(s) {
  byId("node").textContent = s.node;
  document.title = `${s.node}: onlink looking glass`;
  const fact = (name, value, tone = "") => el("div", {}, el("dt", {}, name), el("dd", { class: tone }, value));
  const failed = s.failed + s.unresolved;
  byId("facts").replaceChildren(
    fact("state", s.inSync ? "in sync" : "syncing", s.inSync ? "good" : "warn"),
    ...(s.drain === "serving" ? [] : [fact("drain", s.drain, "warn")]),
    fact("sessions", `${s.established} of ${s.sessions}`, s.established < s.sessions ? "bad" : "good"),
    fact("routes", `${s.unicast} (${s.tunnelled} by tunnel)`),
    ...(failed ? [fact("not in the kernel", String(failed), "bad")] : []),
    fact("pod addresses", `${s.used} of ${s.size} in ${count(s.blocks, "block")}`),
    fact("AS", String(s.asn)), fact("address", s.address + (s.address6 ? ` ${s.address6}` : "")), fact("version", s.version), fact("started", when(s.started)),
  );
  byId("problems").hidden = s.problems.length === 0;
  const more = s.moreProblems ? [el("li", {}, count(s.moreProblems, "more problem"))] : [];
  byId("problem-list").replaceChildren(...s.problems.map((p) => el("li", { class: "bad" }, p)), ...more);
}

function changes(v) {
  const list = byId("event-list");
  if (v.more) list.prepend(el("li", {}, count(v.more, "more change")));
  for (const c of v.changes) {
    const text = c.from === "" ? "is new: " + c.to : c.to === "" ? "is gone" : `${c.from} → ${c.to}`;
    list.prepend(el("li", {}, when(c.at), ` ${c.name} (${c.address}) `, el("span", { class: c.to === "Established" ? "good" : "bad" }, text), c.why ? `: ${c.why}` : ""));
  }
  while (list.children.length > eventsShown) list.lastChild.remove();
}

search.start();
topology.begin({
  rack(id) {
    rack = id;
    open();
  },
  node: search.explain,
});
let typing = 0;
byId("filter").addEventListener("input", () => {
  clearTimeout(typing);
  typing = setTimeout(open, 300);
});
byId("filter-form").addEventListener("submit", (e) => {
  e.preventDefault();
  clearTimeout(typing);
  open();
});
document.addEventListener("visibilitychange", open);
window.addEventListener("pagehide", () => stream?.close());
open();
