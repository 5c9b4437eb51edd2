// Runs: the list, one of them with its queries, and two side by side.

import { ask, badge, count, el, field, lonlat, metres, moment, seconds, select, sure, table, verdictWords } from "./common.js";
import * as map from "./map.js";

const PAGE = 50;
const VERDICTS = ["accepted", "ambiguous", "not_here", "failed", "pending"];
const OUTCOMES = ["right", "rightly refused", "missed", "misplaced", "false place", "failed", "unlabelled"];
const ORDERS = [["name", "name"], ["-confidence", "confidence, high first"], ["confidence", "confidence, low first"], ["-error_m", "error, large first"], ["error_m", "error, small first"], ["-total_s", "time, long first"]];
const DOWNLOADS = ["localizations", "ellipses", "places", "cliques", "votes", "matches", "truth", "errors", "coverage"];

export async function runs(context) {
  const [list, galleries] = await Promise.all([ask("/api/runs"), ask("/api/galleries")]);
  map.showGalleries(galleries.filter((g) => g.status === "ready"));
  map.fitGalleries(galleries);
  const picked = new Set();
  const button = el("button", { disabled: true, onclick: () => { location.hash = `#/compare/${[...picked].sort((a, b) => a - b).join("/")}`; } }, "Compare two");
  const pick = (run) => {
    const box = el("input", { type: "checkbox", "aria-label": `Compare run ${run.run}`, onchange: () => {
      if (box.checked) picked.add(run.run);
      else picked.delete(run.run);
      button.disabled = picked.size !== 2;
    } });
    return box;
  };
  context.show(
    el("h1", {}, "Runs"),
    el("p", { class: "soft" }, list.length ? "What was localized, newest first. Tick two to compare them." : "There is no run yet: drop an image, or rsloc-db localize."),
    list.length > 1 && el("div", { class: "row" }, button),
    list.length > 0 && table([
      { title: "", cell: pick },
      { title: "Run", cell: (r) => el("a", { href: `#/runs/${r.run}` }, String(r.run)) },
      { title: "Queries of", class: "name", cell: (r) => r.query_set },
      { title: "Began", class: "nowrap", cell: (r) => moment(r.created_at) },
      { title: "Gallery", cell: (r) => r.galleries.join(", ") },
      { title: "Done", number: true, cell: (r) => `${count(r.queries - r.pending)} of ${count(r.queries)}` },
      { title: "Found", number: true, cell: (r) => count(r.accepted) },
      { title: "Failed", number: true, cell: (r) => count(r.failed) },
    ], list),
  );
}

export async function run(context, number) {
  const [found, galleries, answers] = await Promise.all([ask(`/api/runs/${number}`), ask("/api/galleries"), ask(`/api/runs/${number}/localizations`)]);
  if (!context.isHere()) return;
  const searched = galleries.filter((g) => found.galleries.includes(g.name));
  map.showGalleries(searched);
  const footprints = map.add(map.outlines(answers.features, { weight: 2.5, each: (f) => ({ color: map.COLOURS[f.properties.verdict] }) }, async (f) => {
    const alike = await ask(`/api/runs/${number}/queries?limit=1000&name=${encodeURIComponent(f.properties.name)}`);
    const query = alike.queries.find((q) => q.name === f.properties.name && q.query_set === f.properties.query_set);
    if (query) location.hash = `#/runs/${number}/${query.id}`;
  }));
  if (footprints.getBounds().isValid()) map.fit(footprints.getBounds(), 0.05);
  else map.fitGalleries(searched);
  map.setLegend([["found", map.COLOURS.accepted], ["several places fit", map.COLOURS.ambiguous]]);
  const body = el("div");
  const state = { verdict: "", outcome: "", name: "", order: "name", offset: 0 };
  const reload = async () => {
    const asked = new URLSearchParams({ order: state.order, limit: PAGE, offset: state.offset });
    for (const key of ["verdict", "outcome", "name"]) if (state[key]) asked.set(key, state[key]);
    const page = await ask(`/api/runs/${number}/queries?${asked}`);
    body.replaceChildren(...queries(number, page, state, reload));
  };
  await reload();
  const change = (key) => (value) => { Object.assign(state, { [key]: value, offset: 0 }); reload(); };
  const name = el("input", { type: "search", placeholder: "part of the name", oninput: () => change("name")(name.value) });
  context.show(
    el("p", { class: "small" }, el("a", { href: "#/runs" }, "Runs")),
    el("h1", {}, `Run ${number}: ${found.query_set}`),
    el("p", { class: "soft" }, `${moment(found.created_at)} · ${found.galleries.join(", ") || "galleries that are gone"} · model ${found.model} · ${found.code_version}`),
    figures(found),
    el("div", { class: "fields" },
      field("Verdict", select([["", "all"], ...VERDICTS.map((v) => [v, verdictWords(v).toLowerCase()])], "", change("verdict"))),
      field("By the truth", select([["", "all"], ...OUTCOMES.map((o) => [o, o])], "", change("outcome"))),
      field("Name", name),
      field("Order", select(ORDERS, "name", change("order")))),
    body,
    downloads(number),
    el("details", {}, el("summary", {}, "Settings"), el("pre", {}, JSON.stringify(found.settings, null, 1))),
  );
}

function figures(found) {
  const f = found.figures;
  const share = (a, b) => b ? `${a} of ${b}` : null;
  const shown = [
    ["found", count(f.accepted)], ["several fit", count(f.ambiguous)], ["not here", count(f.not_here)], ["failed", count(f.failed)],
    ["median error", f.median_center_error_m == null ? null : metres(f.median_center_error_m)],
    ["false places", share(f.false_places, f.absent)], ["misplaced", share(f.misplaced, f.present)], ["pending", f.pending ? count(f.pending) : null],
  ];
  return el("div", { class: "figures" }, shown.filter(([, value]) => value != null).map(([title, value]) => el("div", {}, el("b", {}, value), el("span", {}, title))));
}

function queries(number, page, state, reload) {
  const turn = (by) => () => { state.offset += by; reload(); };
  const judged = page.queries.some((q) => q.outcome !== "unlabelled");
  const columns = [
    { title: "Query", class: "name", cell: (q) => el("a", { href: `#/runs/${number}/${q.id}` }, q.name) },
    { title: "Verdict", cell: (q) => badge(q.verdict, verdictWords(q.verdict)) },
    { title: "Confidence", number: true, cell: (q) => sure(q.confidence) },
    { title: "95 %", number: true, cell: (q) => metres(q.ellipse_a_m) },
    judged && { title: "Error", number: true, cell: (q) => metres(q.error_m) },
    judged && { title: "By the truth", cell: (q) => badge(q.outcome) },
    { title: "Time", number: true, cell: (q) => seconds(q.total_s) },
  ].filter(Boolean);
  return [
    page.queries.length ? table(columns, page.queries) : el("p", { class: "soft" }, "No query is like that."),
    page.matched > PAGE && el("div", { class: "row" },
      el("button", { disabled: state.offset === 0, onclick: turn(-PAGE) }, "Before"),
      el("span", { class: "soft" }, `${count(state.offset + 1)} to ${count(state.offset + page.queries.length)} of ${count(page.matched)}`),
      el("button", { disabled: state.offset + PAGE >= page.matched, onclick: turn(PAGE) }, "After")),
  ].filter(Boolean);
}

function downloads(number) {
  const layer = select(DOWNLOADS.map((name) => [name, name]));
  const save = (format) => el("button", { onclick: () => { location.href = `/api/runs/${number}/download?format=${format}${format === "gpkg" ? "" : `&layer=${layer.value}`}`; } }, { geojson: "GeoJSON", csv: "CSV", gpkg: "GeoPackage, all layers" }[format]);
  return el("section", {}, el("h2", {}, "Take it away"), el("div", { class: "row" }, layer, save("geojson"), save("csv"), save("gpkg")));
}

export async function compare(context, a, b) {
  const [rows, first, second, galleries] = await Promise.all([ask(`/api/runs/${a}/comparison/${b}`), ask(`/api/runs/${a}`), ask(`/api/runs/${b}`), ask("/api/galleries")]);
  if (!context.isHere()) return;
  const searched = galleries.filter((g) => first.galleries.includes(g.name) || second.galleries.includes(g.name));
  map.showGalleries(searched);
  map.fitGalleries(searched);
  const both = rows.filter((r) => r.lon_a_deg != null && r.lon_b_deg != null);
  const lines = both.map((r) => ({ type: "Feature", properties: {}, geometry: { type: "LineString", coordinates: [[r.lon_a_deg, r.lat_a_deg], [r.lon_b_deg, r.lat_b_deg]] } }));
  map.add(map.outlines(lines, { color: "#ffffff", weight: 2 }));
  map.add(map.spots(rows.filter((r) => r.lon_a_deg != null).map((r) => [r.lon_a_deg, r.lat_a_deg]), { fillColor: "#4aa3ff", radius: 8 }));
  map.add(map.spots(rows.filter((r) => r.lon_b_deg != null).map((r) => [r.lon_b_deg, r.lat_b_deg]), { fillColor: "#ffb000", radius: 5 }));
  map.setLegend([[`run ${a}`, "#4aa3ff", "spot"], [`run ${b}`, "#ffb000", "spot"], ["moved", "#8b97a3"]]);
  const counts = (outcome) => rows.filter((r) => r.outcome === outcome).length;
  const go = (r) => {
    const at = [r.lat_b_deg ?? r.lat_a_deg, r.lon_b_deg ?? r.lon_a_deg];
    return at[0] == null ? r.name : el("button", { class: "link", onclick: () => map.map.setView(at, Math.max(map.map.getZoom(), map.map.getMaxZoom() - 6)) }, r.name);
  };
  const verdict = (run, word) => (r) => r[word] ? el("a", { href: `#/runs/${run}/${r.id}` }, badge(r[word], verdictWords(r[word]))) : "–";
  context.show(
    el("p", { class: "small" }, el("a", { href: "#/runs" }, "Runs")),
    el("h1", {}, `Run ${b} against run ${a}`),
    el("p", { class: "soft" }, `${first.query_set} (${first.code_version}) and ${second.query_set} (${second.code_version})`),
    el("div", { class: "figures" }, [["gained", counts("gained")], ["lost", counts("lost")], ["other verdict", counts("other verdict")], ["in both", rows.filter((r) => r.verdict_a && r.verdict_b).length]]
      .map(([title, n]) => el("div", {}, el("b", {}, count(n)), el("span", {}, title)))),
    table([
      { title: "Query", class: "name", cell: go },
      { title: `Run ${a}`, cell: verdict(a, "verdict_a") },
      { title: `Run ${b}`, cell: verdict(b, "verdict_b") },
      { title: "Moved", number: true, cell: (r) => metres(r.moved_m) },
      { title: `Error in ${a}`, number: true, cell: (r) => metres(r.error_a_m) },
      { title: `in ${b}`, number: true, cell: (r) => metres(r.error_b_m) },
      { title: "", cell: (r) => ["gained", "lost"].includes(r.outcome) ? badge(r.outcome) : "" },
    ], rows),
  );
}
