// Galleries: where they have tiles, of which level and date, and the tiles themselves.

import { address, ask, badge, bytes, count, day, el, field, select, table } from "./common.js";
import * as map from "./map.js";

const NEAR = 3; // from so many zooms below a level on its single tiles are shown

export async function galleries(context) {
  const list = await ask("/api/galleries");
  map.showGalleries(list);
  map.fitGalleries(list);
  for (const g of list) {
    if (!g.extent) continue;
    const [w, s, e, n] = g.extent;
    map.add(L.rectangle([[s, w], [n, e]], { pane: "shapes", color: "#ffb000", weight: 2, fill: false, interactive: false }));
  }
  context.show(
    el("h1", {}, "Galleries"),
    el("p", { class: "soft" }, list.length ? "Georeferenced tiles that images are searched in." : "There is none yet: rsloc-db ingest adds one."),
    el("div", { class: "cards" }, list.map((g) => el("a", { class: "card", href: `#/galleries/${encodeURIComponent(g.name)}` },
      el("h2", {}, el("span", {}, g.name), badge(g.status)),
      el("div", {}, `${count(g.tiles)} tiles, level ${g.levels.join(", ")}`),
      el("div", { class: "soft small" }, g.first_date ? dates(g) : "dates unknown", " · ", bytes(g.size_bytes), g.attribution ? ` · ${g.attribution}` : "")))),
  );
}

const dates = (g) => !g.first_date ? "unknown" : day(g.first_date) === day(g.last_date) ? day(g.first_date) : `${day(g.first_date)} to ${day(g.last_date)}`;

export async function gallery(context, name) {
  const found = await ask(`/${address("api", "galleries", name)}`);
  if (!context.isHere()) return;
  map.showGalleries([found]);
  map.fitGalleries([found]);
  const state = { level: String(Math.max(...found.levels, 0)), since: "", until: "" };
  const list = el("div");
  const drawing = redraw(found, state, list, context);
  map.map.on("moveend", drawing);
  context.onLeave(() => map.map.off("moveend", drawing));
  const pick = (key, control) => { control.addEventListener("change", () => { state[key] = control.value; drawing(true); }); return control; };
  context.show(
    el("p", { class: "small" }, el("a", { href: "#/galleries" }, "Galleries")),
    el("h1", {}, found.name, " ", badge(found.status)),
    found.attribution && el("p", { class: "soft" }, found.attribution),
    el("dl", { class: "facts" }, [
      ["Tiles", `${count(found.tiles)} in ${count(found.cells)} cells`], ["Levels", found.levels.join(", ")], ["Dates", dates(found)], ["Grid", found.grid.replace("_", " ")],
      ["Images", `${found.images}, ${bytes(found.size_bytes)}`], ["Skipped", `${count(found.failures)} broken tiles`],
      ["Searched by", [...new Set(found.embeddings.map((e) => e.model))].join(", ") || "nothing yet"],
    ].flatMap(([key, value]) => [el("dt", {}, key), el("dd", {}, value)])),
    years(found),
    el("div", { class: "fields" },
      field("Level", pick("level", select(found.levels.map((level) => [String(level), String(level)]), state.level))),
      field("From", pick("since", el("input", { type: "date" }))),
      field("To", pick("until", el("input", { type: "date" })))),
    list,
  );
  await drawing(true);
}

function years(found) {
  const known = found.years.filter((y) => y.year != null);
  if (!known.length) return null;
  const total = new Map();
  for (const { year, tiles } of known) total.set(year, (total.get(year) ?? 0) + tiles);
  const most = Math.max(...total.values());
  const [first, last] = [Math.min(...total.keys()), Math.max(...total.keys())];
  const all = Array.from({ length: last - first + 1 }, (_, i) => first + i);
  const short = all.length > 8;
  return el("section", {}, el("h2", {}, "Tiles by year"),
    el("div", { class: "bars" }, all.map((year) => { const tiles = total.get(year) ?? 0; const bar = el("div", { title: `${year}: ${count(tiles)} tiles`, class: tiles ? null : "none" }); bar.style.height = `${100 * tiles / most}%`; return bar; })),
    el("div", { class: "years" }, all.map((year) => el("span", {}, short ? `’${String(year).slice(2)}` : String(year)))));
}

// Blocks of tiles from afar; the tiles themselves, with their dates, from near.
function redraw(found, state, list, context) {
  let shapes = null;
  let asked = 0;
  let detail = null;
  return async (force) => {
    const near = map.map.getZoom() >= Number(state.level) - NEAR;
    if (force !== true && !near && detail === false) return;
    const mine = ++asked;
    const path = `/${address("api", "galleries", found.name)}`;
    const features = near ? await tilesHere(path, state) : (await ask(`${path}/coverage?level=${state.level}`)).features;
    if (mine !== asked || !context.isHere()) return;
    detail = near;
    shapes?.remove();
    shapes = map.add(map.outlines(features, { color: near ? "#7fd1ff" : "#ffb000", weight: 1 }, near ? (f) => showTiles(list, features.filter((o) => sameCell(o, f))) : null));
    list.replaceChildren(near
      ? el("p", { class: "soft" }, `${count(features.length)} tiles in view${features.length >= 500 ? " or more" : ""}; click one to see its images.`)
      : el("p", { class: "soft" }, `${count(features.length)} blocks of up to 16 × 16 cells. Zoom in to see single tiles and their dates.`));
  };
}

async function tilesHere(path, state) {
  const b = map.map.getBounds();
  const box = [Math.max(b.getWest(), -180), Math.max(b.getSouth(), -90), Math.min(b.getEast(), 180), Math.min(b.getNorth(), 90)];
  const asked = new URLSearchParams({ level: state.level, bbox: box.join(",") });
  for (const key of ["since", "until"]) if (state[key]) asked.set(key, state[key]);
  return (await ask(`${path}/tiles?${asked}`)).features;
}

const sameCell = (a, b) => ["level", "tile_column", "tile_row"].every((key) => a.properties[key] === b.properties[key]);

function showTiles(list, features) {
  const { level, tile_column: x, tile_row: y } = features[0].properties;
  list.replaceChildren(el("h2", {}, `Tile ${level}_${x}_${y}`), el("div", { class: "tiles" }, features.map((f) => el("figure", {},
    el("img", { src: `/api/tiles/${f.id}/image`, alt: `Tile ${level}_${x}_${y}`, loading: "lazy" }),
    el("figcaption", {}, day(f.properties.captured_at) ?? "date unknown")))));
}
