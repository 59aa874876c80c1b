// The table of sessions. Rows are changed in place, so that the focus and the details
// that are open stay.
import { ask, byId, count, el, show, when } from "./dom.js";

const body = document.querySelector("#session-table tbody");
const rows = new Map(); // by address

function update(view) {
  const focus = document.activeElement;
  const seen = new Set();
  let after = null;
  for (const s of view.rows) {
    seen.add(s.address);
    const row = rows.get(s.address) || make(s);
    rows.set(s.address, row);
    if (row.text !== JSON.stringify(s)) write(row, s);
    after = place(row, after);
  }
  for (const [address, row] of rows) {
    if (seen.has(address)) continue;
    row.line.remove();
    row.detail.remove();
    rows.delete(address);
  }
  if (focus !== document.activeElement && focus.isConnected) focus.focus({ preventScroll: true });
  const hidden = view.found - view.rows.length;
  byId("sessions-count").textContent = `${count(view.found, "session")} of ${view.all}` + (hidden > 0 ? `; the first ${view.rows.length} are shown, use the filter for others` : "");
}

// place puts a row and its details behind a node, and returns the last of the two.
function place(row, after) {
  const next = after ? after.nextSibling : body.firstChild;
  if (next !== row.line) body.insertBefore(row.line, next);
  if (row.line.nextSibling !== row.detail) body.insertBefore(row.detail, row.line.nextSibling);
  return row.detail;
}

function make(s) {
  const row = { address: s.address };
  row.name = el("button", { class: "plain", "aria-expanded": "false", on: { click: () => toggle(row) } });
  row.line = el("tr", { "data-peer": s.address });
  row.place = el("div");
  row.detail = el("tr", { hidden: true }, el("td", { colspan: "10", class: "long" }, row.place));
  return row;
}

function write(row, s) {
  const fresh = row.state !== undefined && row.state !== s.state;
  row.text = JSON.stringify(s);
  row.name.textContent = s.name || s.address;
  const number = (n) => el("td", { class: "number" }, n < 0 ? "not counted" : String(n));
  const state = el("td", { class: s.up ? (s.problem ? "warn" : "good") : s.gone ? "soft" : "bad" }, s.state + (s.gone ? ", gone" : "") + (s.bfd ? `, BFD ${s.bfd}` : ""));
  row.line.replaceChildren(
    el("td", {}, row.name), el("td", {}, s.address), el("td", {}, String(s.asn)), el("td", {}, s.role), state, el("td", {}, when(s.since)),
    number(s.received), number(s.accepted), number(s.advertised), el("td", { class: "long" }, s.lastError, s.errorAt ? " (" : "", when(s.errorAt), s.errorAt ? ")" : ""),
  );
  if (fresh) {
    row.line.classList.remove("changed");
    void row.line.offsetWidth; // begins the animation again
    row.line.classList.add("changed");
    if (!row.detail.hidden) load(row);
  }
  row.state = s.state;
}

function toggle(row) {
  row.detail.hidden = !row.detail.hidden;
  row.name.setAttribute("aria-expanded", String(!row.detail.hidden));
  if (!row.detail.hidden) load(row);
}

function load(row) {
  return show(row.place, async () => {
    const detail = await ask("session", { address: row.address });
    return [el("dl", { class: "lines" }, ...detail.lines.flatMap(([name, text]) => [el("dt", {}, name), el("dd", {}, text)]))];
  });
}

export { update };
