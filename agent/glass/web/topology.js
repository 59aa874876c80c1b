// The drawing of the network: on the left this node between its reflectors and ToRs, on
// the right the other nodes in their racks, or, where there are many, the racks alone.
import { byId, count, el, svg } from "./dom.js";

const nodesWithEdges = 24; // that are drawn one by one
const nodesOfRack = 60; // that are drawn of a chosen rack, closer together
const left = { x: 64, width: 240, height: 42, gap: 12 };
const start = 400; // of the right side
const box = { width: 176, height: 70, gap: 14 };
const words = { direct: "direct", routed: "through gateways", tunnel: "tunnel", mixed: "direct and tunnel", none: "no route in the kernel", failed: "the kernel refuses a route", idle: "announces nothing" };

let view = null;
let chosen = ""; // rack
let on = { rack() {}, node() {} };

// begin sets what happens when a rack is chosen, or a node.
function begin(handlers) {
  on = handlers;
  byId("all-racks").addEventListener("click", () => choose(""));
  window.addEventListener("resize", () => view && draw());
}

function choose(rack) {
  chosen = rack;
  on.rack(rack);
}

function update(v) {
  view = v;
  draw();
  fillTable();
}

// bad is the class of what is out of order, for a node or the session of a peer.
const bad = (n) => (n.down ? " down" : n.stale ? " stale" : "");

function draw() {
  const racks = view.racks.filter((r) => r.nodes > 0 && (!chosen || r.id === chosen));
  const members = racks.reduce((sum, r) => sum + r.members.length, 0);
  const single = chosen !== "" || (racks.every((r) => r.more === 0) && members <= nodesWithEdges);
  const width = Math.max(680, byId("drawing").clientWidth);
  const edges = svg("g");
  const things = svg("g");

  const above = view.routers.filter((r) => r.kind !== "tor");
  const below = view.routers.filter((r) => r.kind === "tor");
  const step = left.height + left.gap;
  const right = single ? chips(racks, things, width) : boxes(racks, things, width);
  const column = (above.length + 1 + below.length) * step + 2 * left.gap;
  const height = Math.max(column, right.height) + 16;
  let y = 8 + (height - 16 - column) / 2;
  const place = (r) => {
    router(r, y, things);
    const at = y + left.height / 2;
    y += step;
    return { r, at };
  };
  const routers = above.map(place);
  y += left.gap;
  const self = y + left.height / 2;
  things.append(card(left.x, y, left.width, left.height, "self", `${view.self.name} (this node)`, view.self.address + (view.self.reflector ? ", reflector" : "")));
  y += step + left.gap;
  routers.push(...below.map(place));

  for (const { r, at } of routers) {
    const d = `M${left.x} ${self}C${left.x - 50} ${self} ${left.x - 50} ${at} ${left.x} ${at}`;
    edges.append(svg("path", { d, class: `session${r.up ? "" : " down"}` }));
  }
  const from = left.x + left.width;
  for (const e of right.edges) {
    edges.append(svg("path", { d: `M${from} ${self}C${from + 70} ${self} ${e.x - 90} ${e.y} ${e.x} ${e.y}`, class: e.kind, opacity: e.faint ? 0.55 : undefined }));
  }

  const focus = document.activeElement?.dataset?.key;
  const drawing = svg("svg", { viewBox: `0 0 ${width} ${height}`, role: "group", "aria-label": "Drawing of the network; the table below it has the same" }, edges, things);
  byId("drawing").replaceChildren(drawing);
  if (focus) drawing.querySelector(`[data-key="${CSS.escape(focus)}"]`)?.focus({ preventScroll: true });
  summarize();
}

function summarize() {
  const racks = view.racks.filter((r) => r.nodes > 0);
  const stale = racks.reduce((sum, r) => sum + r.stale, 0);
  const parts = [`${count(view.nodes, "other node")} in ${count(racks.length + view.moreRacks, "rack")}`];
  if (chosen) parts.push(`rack ${chosen} is shown`);
  if (stale) parts.push(`${stale} with stale routes`);
  if (view.moreRouters) parts.push(`${count(view.moreRouters, "more peer")} not drawn`);
  if (view.moreRacks) parts.push(`${count(view.moreRacks, "more rack")} not drawn`);
  if (racks.some((r) => r.assumed)) parts.push("the size of some racks is assumed, because no route says it");
  byId("topology-summary").textContent = parts.join("; ") + ".";
  byId("all-racks").hidden = !chosen;
}

// card is a box with a title and, where there is one, a line below it.
function card(x, y, width, height, kind, title, line = "") {
  return svg("g", {}, svg("title", {}, line ? `${title}\n${line}` : title), svg("rect", { x, y, width, height, rx: 6, class: kind }),
    svg("text", { x: x + 10, y: y + 17 }, cut(title, width)), svg("text", { x: x + 10, y: y + 32, class: "soft" }, cut(line, width)));
}

// cut shortens a text to a width.
function cut(text, width) {
  const most = Math.floor((width - 20) / 6.4);
  return text.length > most ? text.slice(0, most - 1) + "…" : text;
}

function router(r, y, things) {
  const kind = { tor: "ToR", reflector: "reflector", peer: "peer of our AS" }[r.kind];
  const node = card(left.x, y, left.width, left.height, r.up ? "" : "down", r.name || r.address, `${kind}, AS ${r.asn}, ${r.state}`);
  node.dataset.router = r.address;
  node.dataset.up = r.up;
  things.append(node);
}

// active makes a drawn thing a button.
function active(node, key, label, run) {
  node.setAttribute("tabindex", "0");
  node.setAttribute("role", "button");
  node.setAttribute("aria-label", label);
  node.dataset.key = key;
  node.addEventListener("click", run);
  node.addEventListener("keydown", (e) => {
    if (e.key !== "Enter" && e.key !== " ") return;
    e.preventDefault();
    run();
  });
  return node;
}

// chips draws racks with each of their nodes.
function chips(racks, things, width) {
  const out = { edges: [], height: 0 };
  const close = racks.some((r) => r.members.length > nodesWithEdges);
  const chip = close ? { height: 24, gap: 3 } : { height: 40, gap: 8 };
  let y = 8;
  for (const r of racks) {
    const shown = r.members.slice(0, nodesOfRack);
    const height = 26 + shown.length * (chip.height + chip.gap) + 4;
    const hidden = r.nodes - shown.length;
    things.append(svg("rect", { x: start, y, width: width - start - 8, height, rx: 8, class: "rack" }), svg("text", { x: start + 12, y: y + 18, class: "soft" }, `rack ${r.id}${r.here ? ", of this node" : ""}${hidden ? `, ${shown.length} of ${r.nodes} nodes` : ""}`));
    let at = y + 26;
    for (const n of shown) {
      const line = `${words[n.way]}${n.stale ? ", stale" : ""}${n.down ? `, session ${n.session}` : ""} · ${n.blocks.join(" ")}${n.routes > n.blocks.length ? ` and ${n.routes - n.blocks.length} more` : ""}`;
      const title = n.name ? `${n.name} ${n.address}` : n.address;
      const node = close ? card(start + 12, at, width - start - 32, chip.height, n.way + bad(n), `${title} · ${line}`) : card(start + 12, at, width - start - 32, chip.height, n.way + bad(n), title, line);
      node.dataset.node = n.address;
      node.dataset.way = n.way;
      things.append(active(node, `node ${n.address}`, `Node ${n.name} ${n.address}: ${line}. Explain its address.`, () => on.node(n.address)));
      out.edges.push({ x: start + 12, y: at + chip.height / 2, kind: n.way + bad(n) });
      at += chip.height + chip.gap;
    }
    y += height + 12;
  }
  out.height = y;
  return out;
}

// boxes draws racks with the numbers of their nodes.
function boxes(racks, things, width) {
  const out = { edges: [], height: 0 };
  const columns = Math.max(1, Math.floor((width - start) / (box.width + box.gap)));
  racks.forEach((r, i) => {
    const x = start + (i % columns) * (box.width + box.gap);
    const y = 8 + Math.floor(i / columns) * (box.height + box.gap);
    const ways = Object.entries(r.ways).sort((a, b) => b[1] - a[1]);
    const flaw = r.down ? " down" : r.stale ? " stale" : "";
    const text = ways.map(([way, n]) => `${n} ${words[way]}`).join(", ") + (r.stale ? `, ${r.stale} stale` : "") + (r.down ? `, ${r.down} with the session down` : "");
    const node = card(x, y, box.width, box.height, `rack${flaw}`, r.id + (r.here ? " (here)" : ""), `${count(r.nodes, "node")}: ${text}`);
    let from = x + 10;
    for (const [way, n] of ways) {
      const share = ((box.width - 20) * n) / r.nodes;
      node.append(svg("rect", { x: from, y: y + 44, width: Math.max(1, share), height: 14, class: `fill ${way}` }));
      from += share;
    }
    node.dataset.rack = r.id;
    things.append(active(node, `rack ${r.id}`, `Rack ${r.id}: ${count(r.nodes, "node")}, ${text}. Show its nodes.`, () => choose(r.id)));
    out.edges.push({ x, y: y + box.height / 2, kind: ways[0][0] + flaw, faint: true });
    out.height = y + box.height + 8;
  });
  return out;
}

function fillTable() {
  const lines = view.racks.flatMap((r) => r.members.map((n) => el("tr", {},
    el("td", {}, n.name || "—"), el("td", {}, n.address), el("td", {}, r.id), el("td", { class: n.way === "none" || n.way === "failed" ? "bad" : "" }, words[n.way] + (n.stale ? ", stale" : "")),
    el("td", {}, n.devices.join(" ")), el("td", { class: "number" }, String(n.routes)), el("td", { class: "long" }, n.blocks.join(" ")), el("td", { class: n.down ? "bad" : "" }, n.session || "—"))));
  const hidden = view.racks.reduce((sum, r) => sum + r.more, 0);
  if (hidden) lines.push(el("tr", {}, el("td", { colspan: "8", class: "long warn" }, `${count(hidden, "more node")}: choose a rack in the drawing to see its nodes.`)));
  byId("nodes").tBodies[0].replaceChildren(...lines);
}

export { begin, update };
