// Helpers for the page. Text goes into text nodes alone: names of peers and errors come
// from the network.

const byId = (id) => document.getElementById(id);

// el makes an HTML element; children are nodes or texts.
function el(name, attributes = {}, ...children) {
  return fill(document.createElement(name), attributes, children);
}

// svg makes an SVG element.
function svg(name, attributes = {}, ...children) {
  return fill(document.createElementNS("http://www.w3.org/2000/svg", name), attributes, children);
}

function fill(node, attributes, children) {
  for (const [key, value] of Object.entries(attributes)) {
    if (key === "on") {
      for (const [event, run] of Object.entries(value)) node.addEventListener(event, run);
    } else if (value !== undefined && value !== false) {
      node.setAttribute(key, value === true ? "" : value);
    }
  }
  node.append(...children.filter((c) => c !== undefined && c !== null));
  return node;
}

// count is a number and its word.
const count = (n, one, many = one + "s") => `${n} ${n === 1 ? one : many}`;

// when shows a time as its distance from now; its title has the time itself.
function when(iso) {
  if (!iso) return "";
  const node = el("time", { datetime: iso, title: new Date(iso).toLocaleString() });
  node.textContent = distance(iso);
  return node;
}

function distance(iso) {
  const s = Math.max(0, Math.round((Date.now() - Date.parse(iso)) / 1000));
  if (s < 60) return `${s} s ago`;
  if (s < 3600) return `${Math.floor(s / 60)} min ago`;
  if (s < 48 * 3600) return `${Math.floor(s / 3600)} h ${Math.floor((s % 3600) / 60)} min ago`;
  return `${Math.floor(s / 86400)} days ago`;
}

// The distances go on.
setInterval(() => {
  for (const node of document.querySelectorAll("time")) {
    const text = distance(node.dateTime);
    if (node.textContent !== text) node.textContent = text;
  }
}, 1000);

// ask fetches an answer of the agent; an error has a text for the reader.
async function ask(path, parameters) {
  const reply = await fetch(`api/${path}?${new URLSearchParams(parameters)}`, { headers: { "Onlink-Glass": "1" }, cache: "no-store" });
  const answer = await reply.json().catch(() => ({ error: `the agent answers with the code ${reply.status}` }));
  if (!reply.ok) throw new Error(answer.error);
  return answer;
}

// show runs a search and puts what it makes, or its error, into a place. A later search
// in the place overtakes an earlier one.
async function show(place, search) {
  const mine = (place.turn = (place.turn || 0) + 1);
  place.setAttribute("aria-busy", "true");
  place.replaceChildren(el("p", { class: "soft" }, "asking the agent …"));
  let made;
  try {
    made = await search();
  } catch (e) {
    made = [el("p", { class: "bad" }, e.message || "the agent does not answer")];
  }
  if (place.turn !== mine) return;
  place.removeAttribute("aria-busy");
  place.replaceChildren(...made);
}

export { ask, byId, count, el, show, svg, when };
