// The map: the galleries' tiles, the image that was found warped over them, and shapes of the run.

export const COLOURS = { accepted: "#ffb000", ambiguous: "#ff66c4", not_here: "#9aa0a6", failed: "#ff3b30", pending: "#9aa0a6" };
const MAX_LAT = 85.05; // of Web Mercator
const RISE = 5; // zooms beyond a gallery's finest level

const map = L.map("map", { minZoom: 0, worldCopyJump: false, zoomControl: false });
map.setView([20, 0], 2);
map.attributionControl.setPrefix(false);
L.control.zoom({ position: "bottomright" }).addTo(map);
L.control.scale({ imperial: false, position: "bottomleft" }).addTo(map);
for (const [name, order] of [["query", 350], ["shapes", 450], ["spots", 460]]) map.createPane(name).style.zIndex = order;
const canvas = L.canvas({ pane: "shapes", padding: 0.3 });
new ResizeObserver(() => map.invalidateSize()).observe(document.getElementById("map"));

let bases = [];
let layers = [];
let overlay = null;
let shown = "";
const handle = document.getElementById("swipe");
const stage = document.getElementById("stage");
const legend = document.getElementById("legend");
let share = 100;

export { map };

export function showGalleries(galleries) {
  const names = JSON.stringify(galleries.map((g) => g.name));
  if (names === shown) return;
  shown = names;
  bases.forEach((base) => base.remove());
  bases = galleries.filter((g) => g.extent).map((g) => {
    const finest = Math.max(...g.levels);
    return L.tileLayer(`/api/galleries/${encodeURIComponent(g.name)}/map/{z}/{x}/{y}`, {
      maxNativeZoom: finest, maxZoom: finest + RISE, noWrap: true, bounds: boundsOf(g), attribution: g.attribution || g.name, className: "gallery",
    }).addTo(map);
  });
  map.setMaxZoom(Math.max(6, ...galleries.flatMap((g) => g.levels).map((level) => level + RISE)));
}

const boundsOf = ({ extent: [w, s, e, n] }) => [[Math.max(s, -MAX_LAT), w], [Math.min(n, MAX_LAT), e]];

export function fitGalleries(galleries) {
  const boxes = galleries.filter((g) => g.extent).map(({ extent: [w, s, e, n] }) => [[Math.max(s, -70), w], [Math.min(n, 78), e]]);
  if (boxes.length) map.fitBounds(L.latLngBounds(boxes.flat()), { animate: false, padding: [8, 8] });
}

export function clear() {
  layers.forEach((layer) => layer.remove());
  layers = [];
  overlay?.remove();
  overlay = null;
  legend.hidden = true;
  setSwipe(100);
  map.closePopup();
  map.off("moveend.view");
}

export function add(layer, visible = true) {
  layers.push(layer);
  if (visible) layer.addTo(map);
  return layer;
}

// A line with a dark rim, so that it can be read on light and on dark ground.
export function outlines(features, style, click) {
  const rim = { ...style, color: "#101820", weight: (style.weight ?? 2) + 2.5, opacity: 0.55, fill: false, dashArray: null, interactive: false };
  const under = style.rim === false ? [] : [L.geoJSON(features, { pane: "shapes", style: rim, interactive: false, filter: (f) => f.geometry })];
  const group = L.layerGroup([
    ...under,
    L.geoJSON(features, {
      pane: "shapes", filter: (f) => f.geometry, style: (f) => ({ fill: !!click, fillOpacity: 0, ...style, ...(style.each?.(f) ?? {}) }),
      interactive: !!click, onEachFeature: (f, layer) => click && layer.on("click", () => click(f)),
    }),
  ]);
  group.getBounds = () => group.getLayers().at(-1).getBounds();
  return group;
}

export const spots = (points, style) => L.layerGroup(points.map(([lon, lat, text]) => {
  const spot = L.circleMarker([lat, lon], { pane: "spots", radius: 6, weight: 2, color: "#101820", fillOpacity: 1, ...style });
  return text ? spot.bindTooltip(text, { permanent: true, direction: "top", className: "spot-label", offset: [0, -4] }) : spot;
}));

export const cloud = (features, style) => L.geoJSON(features, {
  renderer: canvas, interactive: false, style,
  pointToLayer: (f, at) => L.circleMarker(at, { renderer: canvas, interactive: false, radius: 2.5, stroke: false, ...style }),
});

export function fit(bounds, space = 0.08) {
  if (bounds?.isValid()) map.fitBounds(bounds.pad(space), { animate: false, maxZoom: map.getMaxZoom() - 1 });
}

export function showOverlay(url, box, alt) {
  const bounds = L.latLngBounds([[box.south_deg, box.west_deg], [box.north_deg, box.east_deg]]);
  overlay = L.imageOverlay(url, bounds, { pane: "query", alt, className: "query-image" }).addTo(map);
  return bounds;
}

export const setOpacity = (value) => overlay?.setOpacity(value);

export function setLegend(entries) {
  legend.replaceChildren(...entries.map(([text, colour, kind]) => {
    const row = document.createElement("div");
    const key = document.createElement("span");
    key.className = `key ${kind ?? ""}`;
    key.style[kind === "spot" ? "background" : "borderColor"] = colour;
    row.append(key, text);
    return row;
  }));
  legend.hidden = entries.length === 0;
}

// Everything of the image left of the share of the map's width is shown.
export function setSwipe(value) {
  share = Math.min(100, Math.max(0, value));
  handle.hidden = share >= 100 || !overlay;
  handle.style.left = `${share}%`;
  handle.setAttribute("aria-valuenow", Math.round(share));
  clip();
  const slider = document.getElementById("swipe-share");
  if (slider) slider.value = share;
}

function clip() {
  const pane = map.getPane("query");
  if (share >= 100) {
    pane.style.clip = "";
    return;
  }
  const { x, y } = map.containerPointToLayerPoint([0, 0]);
  const size = map.getSize();
  pane.style.clip = `rect(${y}px, ${x + size.x * share / 100}px, ${y + size.y}px, ${x}px)`;
}

map.on("move zoom resize", clip);
handle.addEventListener("keydown", (event) => {
  const step = { ArrowLeft: -2, ArrowRight: 2, Home: -100, End: 100 }[event.key];
  if (!step) return;
  setSwipe(share + step);
  event.preventDefault();
});
handle.addEventListener("pointerdown", (event) => handle.setPointerCapture(event.pointerId));
handle.addEventListener("pointermove", (event) => {
  if (!handle.hasPointerCapture(event.pointerId)) return;
  const box = stage.getBoundingClientRect();
  // not to its very end, where there would be no handle to drag it back
  setSwipe(Math.min(99, 100 * (event.clientX - box.left) / box.width));
});
