// One query of a run: where it was found, on the map, with all that led there; or why it was not.

import { ask, badge, count, el, lonlat, metres, seconds, sure, table, verdictWords } from "./common.js";
import * as map from "./map.js";

const LAYERS = [
  ["localizations", "Outline", "#ffb000", "", true],
  ["ellipses", "95 % ellipse", "#00e5a8", "", true],
  ["places", "Runners-up", "#7fd1ff", "dash", true],
  ["cliques", "Cliques", "#ff66c4", "", false],
  ["votes", "Votes", "#ffe066", "spot", false],
  ["matches", "Matches", "#3ddc97", "spot", false],
  ["errors", "Error", "#ff3b30", "", true],
  ["truth", "True outline", "#ffffff", "dash", true],
];
const SHOWN_CLIQUES = 5;

export async function result(context, run, query) {
  const [found, galleries] = await Promise.all([ask(`/api/runs/${run}/queries/${query}`), ask("/api/galleries")]);
  if (!context.isHere()) return;
  const searched = galleries.filter((g) => found.galleries.includes(g.name));
  map.showGalleries(searched);
  const bounds = found.overlay && map.showOverlay(`/api/runs/${run}/queries/${query}/overlay`, found.overlay, found.name);
  if (bounds) map.fit(bounds);
  else map.fitGalleries(searched);
  const layers = await drawn(run, query, found);
  if (!context.isHere()) return;
  context.show(
    el("p", { class: "small" }, el("a", { href: `#/runs/${run}` }, `Run ${run}`), " / ", found.query_set),
    el("h1", {}, found.name),
    verdict(found),
    facts(found),
    bounds && sliders(),
    toggles(layers),
    !bounds && el("img", { class: "preview", src: `/api/runs/${run}/queries/${query}/image`, alt: "The query image" }),
    places(found),
    cliques(layers.cliques.features),
    timing(found),
    el("div", { class: "row" },
      bounds && el("button", { onclick: () => map.fit(bounds) }, "Show it"),
      el("a", { class: "button", href: `/api/runs/${run}/download?format=geojson`, download: "" }, "GeoJSON of the run"),
      el("a", { class: "button", href: "#/" }, "Another image")),
  );
}

function verdict(found) {
  return el("div", { class: `answer ${found.verdict}`, id: "verdict" },
    el("div", { class: "verdict" }, verdictWords(found.verdict)),
    el("p", {}, `${found.reason.charAt(0).toUpperCase()}${found.reason.slice(1)}.`),
    found.query_set === "uploads" && ["not_here", "failed"].includes(found.verdict) && el("p", { class: "small" },
      "If the size of its pixels is known, or that it is turned, say so: ", el("a", { href: "#/" }, "try again"), "."));
}

function facts(found) {
  const rows = [];
  if (found.confidence != null) {
    const bar = el("span");
    bar.style.width = `${100 * found.confidence}%`;
    rows.push(["Confidence", [sure(found.confidence), el("div", { class: "meter" }, bar)]]);
  }
  if (found.lon_deg != null) {
    const text = `${found.lat_deg.toFixed(6)}, ${found.lon_deg.toFixed(6)}`;
    const copy = el("button", { class: "link small", onclick: () => navigator.clipboard?.writeText(text).then(() => { copy.textContent = "copied"; }) }, "copy");
    rows.push(["Centre", [lonlat(found.lon_deg, found.lat_deg), " ", copy]]);
    rows.push(["95 % ellipse", `${metres(found.ellipse_a_m)} × ${metres(found.ellipse_b_m)}, axis ${Math.round(found.ellipse_azimuth_deg)}° from north`]);
    if (Math.abs(found.turn_deg) > 0.5) rows.push(["Turn", `${found.turn_deg.toFixed(1)}° clockwise from north`]);
    rows.push(["Matches", `${count(found.inliers)} of ${count(found.matches)} blocks agree`]);
  }
  if (found.error_m != null) rows.push(["True error", `${metres(found.error_m)}${found.in_ellipse == null ? "" : found.in_ellipse ? ", inside the ellipse" : ", outside the ellipse"}`]);
  if (found.outcome && !["unlabelled", "pending"].includes(found.outcome)) rows.push(["By the truth", badge(found.outcome)]);
  rows.push(["Searched", found.galleries.join(", ") || "galleries that are gone"]);
  if (found.width_px) rows.push(["Image", `${found.width_px} × ${found.height_px} pixels`]);
  return el("dl", { class: "facts" }, rows.flatMap(([key, value]) => [el("dt", {}, key), el("dd", {}, value)]));
}

function sliders() {
  const opacity = el("input", { type: "range", id: "opacity", min: 0, max: 100, value: 100, oninput: () => map.setOpacity(opacity.value / 100) });
  const swipe = el("input", { type: "range", id: "swipe-share", min: 0, max: 100, value: 100, oninput: () => map.setSwipe(Number(swipe.value)) });
  return el("div", { class: "sliders" }, el("label", { for: "opacity" }, "Opacity"), opacity, el("label", { for: "swipe-share" }, "Swipe"), swipe);
}

async function drawn(run, query, found) {
  const load = (layer, limit) => ask(`/api/runs/${run}/queries/${query}/layers/${layer}?limit=${limit}`);
  const layers = {};
  await Promise.all(LAYERS.map(async ([name, title, colour, kind, visible]) => {
    // votes are many: they are asked for when they are to be seen
    const features = name === "votes" ? null : (await load(name, 2000)).features.filter((f) => f.geometry);
    layers[name] = { name, title, colour, kind, visible, features, load: () => load(name, 10000) };
  }));
  layers.places.features = layers.places.features.filter((f) => !f.properties.chosen || found.lon_deg == null);
  layers.cliques.features = layers.cliques.features.filter((f) => f.properties.rank <= SHOWN_CLIQUES);
  layers.votes.count = found.hits;
  for (const layer of Object.values(layers)) {
    if (layer.features) layer.drawn = map.add(draw(layer), layer.visible);
  }
  return layers;
}

function draw({ name, colour, features }) {
  if (name === "matches") return L.layerGroup([map.cloud(features, { color: "#101820", weight: 1, fillColor: colour, fillOpacity: 0 }), marks(features)]);
  if (name === "votes") return map.cloud(features, { fillColor: colour, fillOpacity: 0.75 });
  if (name === "cliques") return map.outlines(features, { color: colour, weight: 2, rim: false, each: (f) => ({ opacity: 1.1 - f.properties.rank / SHOWN_CLIQUES }) });
  const dash = { places: "2 6", truth: "8 6" }[name];
  return map.outlines(features, { color: colour, weight: { places: 2, truth: 1.5 }[name] ?? 3.5, rim: name !== "truth", dashArray: dash });
}

function marks(features) {
  return L.layerGroup(features.map(({ geometry, properties }) => {
    const [lon, lat] = geometry.coordinates.flat(geometry.type === "MultiLineString" ? 1 : 0).at(-1);
    return L.circleMarker([lat, lon], { pane: "spots", radius: 4, weight: 1, color: "#101820", fillOpacity: 0.95, fillColor: properties.inlier ? "#3ddc97" : "#ff3b30", interactive: false });
  }));
}

function toggles(layers) {
  const kept = Object.values(layers).filter((layer) => layer.features?.length || layer.count);
  if (!kept.length) return null;
  const order = LAYERS.map(([name]) => name);
  kept.sort((a, b) => order.indexOf(a.name) - order.indexOf(b.name));
  return el("fieldset", { class: "layers" }, el("legend", { class: "small soft" }, "On the map"), kept.map((layer) => {
    const box = el("input", { type: "checkbox", id: `layer-${layer.name}`, checked: layer.visible, onchange: async () => {
      if (!layer.drawn) {
        layer.features = (await layer.load()).features;
        layer.drawn = map.add(draw(layer), false);
      }
      if (box.checked) layer.drawn.addTo(map.map);
      else layer.drawn.remove();
    } });
    const key = el("span", { class: `key ${layer.kind}` });
    key.style[layer.kind === "spot" ? "background" : "borderColor"] = layer.colour === "#ffffff" ? "#8b97a3" : layer.colour;
    return el("label", {}, box, key, `${layer.title} (${count(layer.count ?? layer.features.length)})`);
  }));
}

function places(found) {
  if (!found.places.length) return null;
  const go = (p) => el("button", { class: "link", onclick: () => map.map.setView([p.lat_deg, p.lon_deg]) }, lonlat(p.lon_deg, p.lat_deg));
  return el("section", {}, el("h2", {}, found.lon_deg == null ? "Places that were considered" : "Places"), table([
    { title: "#", cell: (p) => String(p.rank) },
    { title: "Centre", cell: go },
    { title: "Evidence", number: true, cell: (p) => p.evidence.toFixed(1) },
    { title: "Correlation", number: true, cell: (p) => p.correlation.toFixed(2) },
    { title: "", cell: (p) => p.chosen ? badge("right", "chosen") : "" },
  ], found.places.slice(0, 8)), el("p", { class: "small soft" }, "Evidence is −log10 of how often chance would do as well; 2 is needed."));
}

function cliques(features) {
  if (!features.length) return null;
  return el("details", {}, el("summary", {}, "Cliques: votes that agree"), table([
    { title: "#", cell: (f) => String(f.properties.rank) },
    { title: "Patches that agree", number: true, cell: (f) => String(f.properties.patches) },
    { title: "Score", number: true, cell: (f) => f.properties.score.toFixed(1) },
  ], features));
}

function timing(found) {
  const rows = Object.entries(found.seconds).filter(([, s]) => s != null);
  if (!rows.length) return null;
  return el("details", {}, el("summary", {}, `Took ${seconds(found.seconds.total)}`), el("dl", { class: "facts" },
    rows.flatMap(([name, s]) => [el("dt", {}, name), el("dd", {}, seconds(s))]),
    el("dt", {}, "patches"), el("dd", {}, count(found.patches)), el("dt", {}, "hits"), el("dd", {}, count(found.hits))));
}
