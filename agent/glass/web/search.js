// The two searches: explain an address, and the routes and paths of a prefix.
import { ask, byId, count, el, show, when } from "./dom.js";

const tone = { ok: "good", suspect: "warn", broken: "bad" };

function explanation(r) {
  const out = [el("p", { class: `verdict ${r.reachable ? "good" : "bad"}`, id: "verdict" }, r.reachable ? "Works: " : "Broken: ", r.verdict)];
  if (r.cause) {
    out.push(el("p", {}, "Cause: ", el("code", { id: "cause" }, r.cause), r.node ? `, found by ${r.node}` : "", `. Read docs/troubleshooting.md, section “${r.cause}”.`));
  }
  if (r.fix) out.push(el("p", {}, "Fix: ", r.fix));
  out.push(el("ol", { class: "steps" }, ...r.steps.map(step)));
  return out;
}

function step(s) {
  const detail = el("span", {}, s.detail, s.node ? ` (found by ${s.node})` : "");
  if (s.fix) detail.append(el("br"), el("span", { class: "soft" }, `Fix: ${s.fix}`));
  return el("li", {}, el("span", { class: tone[s.state] || "" }, s.state), el("span", {}, s.name), detail);
}

function table(names, lines) {
  return el("div", { class: "wide" }, el("table", {}, el("thead", {}, el("tr", {}, ...names.map((n) => el("th", { scope: "col" }, n)))), el("tbody", {}, ...lines)));
}

function route(r) {
  const hops = r.hops.map((h) => `${h.tunnel ? "tunnel " : ""}${h.via ? `via ${h.via} ` : ""}dev ${h.device} (${h.reason})`).join(", ");
  const kept = r.installed ? el("td", { class: "good" }, "in the kernel") : el("td", { class: "bad long" }, r.error || "not installed");
  return el("tr", {}, el("td", {}, r.prefix), el("td", {}, r.kind), el("td", {}, r.reason), el("td", { class: "long" }, hops), kept);
}

function path(p) {
  const why = p.reason || (p.state === "best" ? "the best path" : "");
  return el("tr", {},
    el("td", { class: p.state === "rejected" ? "bad" : p.state === "not best" ? "soft" : "good" }, p.state + (p.stale ? ", stale" : "")),
    el("td", {}, p.peerName || p.peer || "this node"), el("td", {}, p.nextHop), el("td", {}, p.asPath || "—"), el("td", { class: "number" }, String(p.localPref)),
    el("td", { class: "number" }, String(p.med)), el("td", {}, p.origin), el("td", { class: "long" }, (p.communities || []).join(" ")), el("td", {}, when(p.since)), el("td", { class: "long" }, why));
}

function routes(v) {
  const out = [];
  if (v.routes.length === 0) out.push(el("p", {}, "No route covers this prefix or is inside it."));
  else out.push(table(["prefix", "kind", "reason", "next hops", "kernel"], v.routes.map(route)));
  if (v.moreRoutes > 0) out.push(el("p", { class: "warn" }, `${count(v.moreRoutes, "more route")}: search for a longer prefix to see them, and the paths.`));
  for (const p of v.prefixes) {
    out.push(el("h3", {}, `Paths to ${p.prefix}`), table(["place", "peer", "next hop", "AS path", "LOCAL_PREF", "MED", "origin", "communities", "since", "why"], p.paths.map(path)));
    if (p.more > 0) out.push(el("p", { class: "warn" }, `${count(p.more, "more path")} are left out.`));
  }
  if (v.morePrefixes > 0) out.push(el("p", { class: "warn" }, `The paths to ${count(v.morePrefixes, "more prefix", "more prefixes")} are left out.`));
  return out;
}

function explain(to) {
  if (to) byId("explain-to").value = to;
  const question = { to: byId("explain-to").value.trim(), from: byId("explain-from").value.trim() };
  return show(byId("explain-answer"), async () => explanation(await ask("explain", question)));
}

function start() {
  byId("explain-form").addEventListener("submit", (e) => {
    e.preventDefault();
    explain();
  });
  byId("routes-form").addEventListener("submit", (e) => {
    e.preventDefault();
    show(byId("routes-answer"), async () => routes(await ask("routes", { prefix: byId("prefix").value.trim() })));
  });
}

export { explain, start };
