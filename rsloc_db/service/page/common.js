// What all views share: asking the service, making elements, and saying numbers.

export class Problem extends Error {}

const TOKEN = "rsloc-token";

async function answerOf(response) {
  if (response.ok) return response.json();
  let detail = response.statusText;
  try {
    detail = (await response.json()).detail;
  } catch { /* no JSON: the status says enough */ }
  const problem = new Problem(detail || `status ${response.status}`);
  problem.status = response.status;
  throw problem;
}

export const ask = async (path) => answerOf(await fetch(path));

export async function write(method, path, body) {
  const token = sessionStorage.getItem(TOKEN);
  const headers = token ? { Authorization: `Bearer ${token}` } : {};
  const response = await fetch(path, { method, body, headers });
  if (response.status === 401 && (await askToken())) return write(method, path, body);
  return answerOf(response);
}

function askToken() {
  const dialog = document.getElementById("ask-token");
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.onclose = () => {
      const given = dialog.querySelector("input").value;
      if (dialog.returnValue === "ok") sessionStorage.setItem(TOKEN, given);
      resolve(dialog.returnValue === "ok");
    };
  });
}

export function el(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else if (value === true) made.setAttribute(key, "");
    else if (value !== false && value != null) made.setAttribute(key, value);
  }
  made.append(...children.flat(2).filter((child) => child != null && child !== false));
  return made;
}

export const metres = (m) => {
  if (m == null) return "–";
  if (m >= 100000) return `${Math.round(m / 1000).toLocaleString("en")} km`;
  if (m >= 1000) return `${(m / 1000).toFixed(1)} km`;
  return `${m >= 100 ? Math.round(m) : m.toFixed(1)} m`;
};

export const lonlat = (lon, lat) => lon == null ? "–"
  : `${Math.abs(lat).toFixed(5)}° ${lat < 0 ? "S" : "N"}, ${Math.abs(lon).toFixed(5)}° ${lon < 0 ? "W" : "E"}`;

export const count = (n) => n == null ? "–" : n.toLocaleString("en");
export const seconds = (s) => s == null ? "–" : `${s < 10 ? s.toFixed(1) : Math.round(s)} s`;
export const bytes = (n) => n >= 1e9 ? `${(n / 1e9).toFixed(1)} GB` : n >= 1e6 ? `${(n / 1e6).toFixed(1)} MB` : `${Math.ceil(n / 1e3)} kB`;
export const day = (text) => text ? text.slice(0, 10) : null;
export const moment = (text) => text ? `${text.slice(0, 10)} ${text.slice(11, 16)}` : "–";
// never rounded up to certain
export const sure = (p) => p == null ? "–" : p > 0.999 ? "over 99.9 %" : p < 0.001 ? "under 0.1 %" : `${(100 * p).toFixed(1)} %`;

const WORDS = { accepted: "Found", ambiguous: "Several places fit", not_here: "Not here", failed: "Failed", pending: "Not done yet" };
export const verdictWords = (verdict) => WORDS[verdict] ?? verdict;
export const badge = (word, text = word) => el("span", { class: `badge ${word.replaceAll(" ", "-")}` }, text.replaceAll("_", " "));
export const address = (...parts) => parts.map(encodeURIComponent).join("/");

export function table(columns, rows) {
  const head = columns.map((c) => el("th", { scope: "col", class: c.number ? "number" : null }, c.title));
  const body = rows.map((row) => el("tr", {}, columns.map((c) => el("td", { class: c.number ? "number" : c.class }, c.cell(row) ?? "–"))));
  return el("div", { class: "table" }, el("table", {}, el("thead", {}, el("tr", {}, head)), el("tbody", {}, body)));
}

export const field = (title, control) => el("label", { class: "field" }, el("span", {}, title), control);

export function select(options, value, change) {
  const made = el("select", change ? { onchange: () => change(made.value) } : {}, options.map(([key, text]) => el("option", { value: key }, text)));
  made.value = value ?? options[0][0];
  return made;
}
