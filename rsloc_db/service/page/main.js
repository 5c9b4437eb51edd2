// Which view an address leads to.

import { el, Problem } from "./common.js";
import * as map from "./map.js";
import { api } from "./view_api.js";
import { find, job } from "./view_find.js";
import { galleries, gallery } from "./view_galleries.js";
import { result } from "./view_result.js";
import { compare, run, runs } from "./view_runs.js";

const ROUTES = [
  [/^$/, find, "#/"],
  [/^jobs\/([0-9a-f]{32})$/, job, "#/"],
  [/^runs$/, runs, "#/runs"],
  [/^runs\/(\d+)$/, run, "#/runs"],
  [/^runs\/(\d+)\/(\d+)$/, result, "#/runs"],
  [/^compare\/(\d+)\/(\d+)$/, compare, "#/runs"],
  [/^galleries$/, galleries, "#/galleries"],
  [/^galleries\/([^/]+)$/, gallery, "#/galleries"],
  [/^api$/, api, "#/api"],
];
const panel = document.getElementById("panel");
let leave = null;
let turn = 0;

async function show() {
  const mine = ++turn;
  leave?.();
  leave = null;
  const path = location.hash.replace(/^#\/?/, "").replace(/\/$/, "");
  const [pattern, view, tab] = ROUTES.find(([route]) => route.test(path)) ?? [/^(.*)$/, lost, ""];
  for (const link of document.querySelectorAll("nav a")) {
    if (link.getAttribute("href") === tab) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  document.body.className = view === api ? "no-map" : view === runs || view === run || view === compare ? "wide" : "";
  map.clear();
  const context = {
    // a view that was left in the middle of asking says nothing any more
    show: (...parts) => { if (mine === turn) panel.replaceChildren(...parts.filter(Boolean)); },
    isHere: () => mine === turn,
    onLeave: (action) => { leave = action; },
    panel,
  };
  context.show(el("p", { class: "soft" }, "Loading …"));
  try {
    await view(context, ...path.match(pattern).slice(1).map(decodeURIComponent));
  } catch (error) {
    if (!(error instanceof Problem)) console.error(error);
    context.show(el("h1", {}, "That did not work"), el("p", { class: "error" }, String(error.message)), el("p", {}, el("a", { href: "#/" }, "To the beginning")));
  }
  panel.scrollTop = 0;
}

function lost(context) {
  context.show(el("h1", {}, "There is nothing here"), el("p", {}, el("a", { href: "#/" }, "To the beginning")));
}

addEventListener("hashchange", show);
show();
