// The player of report.html: draws skeletons on two canvases and keeps plots and slider in step.
// Plain canvas for the 3D view, as software WebGL takes a tenth of a second for every frame.
"use strict";
(() => {
const data = JSON.parse(document.getElementById("data").textContent);
const element = (id) => document.getElementById(id);

// Numbers come as base64 of little-endian bytes; 16-bit ones count steps, -32768 is unknown.
function unpack(packed) {
  const bytes = Uint8Array.from(atob(packed.bdata), (c) => c.charCodeAt(0)).buffer;
  if (packed.dtype === "f8") return new Float64Array(bytes);
  if (packed.dtype === "i8") return new BigInt64Array(bytes);
  if (packed.dtype === "i4") return new Int32Array(bytes);
  if (packed.dtype === "u1") return new Uint8Array(bytes);
  const steps = new Int16Array(bytes);
  return Float32Array.from(steps, (v) => (v === -32768 ? NaN : v * packed.step));
}
const people = (list) => list.map((track) => ({
  ...track,
  frames: unpack(track.frames), joints: unpack(track.joints), root: unpack(track.root),
  flat: unpack(track.flat), confidence: unpack(track.confidence),
  match: track.match ? unpack(track.match) : null,
}));
const time = unpack(data.time);  // s since the first frame, long pauses shortened
const stamps = unpack(data.stamps);  // ns
const outcome = unpack(data.outcome);
const tracks = people(data.tracks), truth = people(data.truth);
const views = data.views.map((view) => ({...view, error: unpack(view.error), confidence: unpack(view.confidence)}));
const COUNT = time.length, J = data.joints.length;
const css = ([r, g, b]) => `rgb(${r},${g},${b})`;
const DARK = "#202226", TRUTH = "#cfd4d8", MISS = "#ff5d73", GREY = [128, 128, 128];

let frame = 0, view = 0, playing = false, yaw = 0, pitch = 0, zoom = 1;

// The last row of a track at or before a frame, unless it is too old to be held any longer.
function rowAt(track, at) {
  let low = 0, high = track.frames.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (track.frames[middle] <= at) low = middle + 1; else high = middle;
  }
  if (low === 0) return null;
  const row = low - 1, age = time[at] - time[track.frames[row]];
  return age <= data.hold ? {row, age, fresh: track.frames[row] === at} : null;
}
const exact = (track, at) => { const found = rowAt(track, at); return found && found.fresh ? found.row : -1; };

// An upright picture has more room beside the skeletons than below them.
element("panes").classList.toggle("portrait", data.height > data.width);

// ---- drawing --------------------------------------------------------------------------------
function prepare(canvas) {
  const ratio = window.devicePixelRatio || 1;
  const width = canvas.clientWidth, height = canvas.clientHeight;
  if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(height * ratio);
  }
  const ctx = canvas.getContext("2d");
  ctx.setTransform(ratio, 0, 0, ratio, 0, 0);
  ctx.clearRect(0, 0, width, height);
  ctx.lineCap = "round";
  return {ctx, width, height};
}
function line(ctx, a, b, width, colour) {
  ctx.lineWidth = width;
  ctx.strokeStyle = colour;
  ctx.beginPath();
  ctx.moveTo(a[0], a[1]);
  ctx.lineTo(b[0], b[1]);
  ctx.stroke();
}
const drawable = (p) => Math.abs(p[0]) < 2e4 && Math.abs(p[1]) < 2e4;  // false for NaN

// points: J of [x, y, depth] on the canvas. Far bones first, each on a dark outline.
function skeleton(ctx, points, confidence, width, alpha) {
  const trust = (j) => 0.25 + 0.75 * Math.min(Math.max(confidence[j] || 0, 0), 1);
  const mix = (side, weight) => css(data.colours[side].map((c, i) => Math.round(weight * c + (1 - weight) * GREY[i])));
  const bones = data.bones.filter(([a, b]) => drawable(points[a]) && drawable(points[b]))
    .map(([a, b, side]) => ({a, b, side, depth: points[a][2] + points[b][2]}))
    .sort((p, q) => q.depth - p.depth);
  ctx.globalAlpha = alpha;
  for (const {a, b, side} of bones) {
    line(ctx, points[a], points[b], width + 2.5, DARK);
    line(ctx, points[a], points[b], width, mix(side, Math.min(trust(a), trust(b))));
  }
  points.forEach((p, j) => {
    if (!drawable(p)) return;
    ctx.beginPath();
    ctx.arc(p[0], p[1], width * 0.85, 0, 2 * Math.PI);
    ctx.fillStyle = mix(data.sides[j], trust(j));
    ctx.fill();
    ctx.lineWidth = 1;
    ctx.strokeStyle = DARK;
    ctx.stroke();
  });
  ctx.globalAlpha = 1;
}
function ghost(ctx, points) {
  ctx.setLineDash([5, 5]);
  for (const [a, b] of data.bones)
    if (drawable(points[a]) && drawable(points[b])) line(ctx, points[a], points[b], 2, TRUTH);
  ctx.setLineDash([]);
}
function misses(ctx, points, wanted) {
  for (let j = 0; j < J; j++)
    if (drawable(points[j]) && drawable(wanted[j])) line(ctx, points[j], wanted[j], 1.3, MISS);
}

// A point in metres to the canvas: turned about the centre, then seen from 6 m.
function projector(width, height) {
  const room = element("place").value === "room";
  const centre = room ? data.centre : [data.middle, 0, 0];
  const span = room ? data.span : data.reach;  // metres to be in view
  const distance = Math.max(6, 1.5 * span), scale = distance * Math.min(height, width) / span * zoom;
  const cy = Math.cos(yaw), sy = Math.sin(yaw), cp = Math.cos(pitch), sp = Math.sin(pitch);
  return (x, y, z) => {
    x -= centre[0]; y -= centre[1]; z -= centre[2];
    const x1 = cy * x + sy * z, z1 = -sy * x + cy * z;
    const y2 = cp * y - sp * z1, z2 = sp * y + cp * z1 + distance;
    return z2 < 0.1 ? [NaN, NaN, z2] : [width / 2 + scale * x1 / z2, height / 2 + scale * y2 / z2, z2];
  };
}
// Where a skeleton is drawn: at its root, or on its own spot beside the others.
function origin(track, row) {
  if (element("place").value === "room") {
    const at = track.root.subarray(3 * row, 3 * row + 3);
    if (Number.isFinite(at[0])) return at;
    return [data.centre[0] + track.slot * data.spacing, data.centre[1], data.centre[2]];
  }
  return [track.slot * data.spacing, 0, 0];
}
function placed(project, track, row, at) {
  const points = [];
  for (let j = 0, i = 3 * J * row; j < J; j++, i += 3)
    points.push(project(track.joints[i] + at[0], track.joints[i + 1] + at[1], track.joints[i + 2] + at[2]));
  return points;
}
function grid(ctx, project) {
  const room = element("place").value === "room";
  const centre = room ? data.centre : [data.middle, 0, 0];
  const half = Math.ceil((room ? data.span : data.reach) / 2 / 0.5) * 0.5, y = centre[1] + data.floor;
  for (let s = -half; s <= half + 1e-6; s += 0.5)
    for (const [a, b] of [[[s, -half], [s, half]], [[-half, s], [half, s]]]) {
      const p = project(centre[0] + a[0], y, centre[2] + a[1]), q = project(centre[0] + b[0], y, centre[2] + b[1]);
      if (drawable(p) && drawable(q)) line(ctx, p, q, 1, "#3b3f46");
    }
}

const chosen = () => views[view].tracks.map((i) => tracks[i]);
function matchOf(track, row) {
  const person = track.match ? track.match[row] : -1;
  if (person < 0) return null;
  const other = truth[person], at = exact(other, track.frames[row]);
  return at < 0 ? null : {other, row: at};
}
let shown = [];  // joints on the 3D canvas, for the tooltip

function drawSolid() {
  const {ctx, width, height} = prepare(element("solid").querySelector("canvas"));
  const project = projector(width, height);
  grid(ctx, project);
  shown = [];
  const room = element("place").value === "room";
  let held = 0, seen = 0;
  const drawn = new Set();
  for (const track of chosen()) {
    const found = rowAt(track, frame);
    if (!found) continue;
    // A new track on a spot takes it over from one that is only held.
    if (!found.fresh && chosen().some((t) => t !== track && t.slot === track.slot && exact(t, frame) >= 0)) continue;
    const at = origin(track, found.row), points = placed(project, track, found.row, at);
    const match = matchOf(track, found.row);
    if (match && found.fresh) {
      drawn.add(match.other);
      const there = room ? origin(match.other, match.row) : at;
      const wanted = placed(project, match.other, match.row, there);
      ghost(ctx, wanted);
      misses(ctx, points, wanted);
    }
    skeleton(ctx, points, track.confidence.subarray(J * found.row, J * found.row + J),
      Math.max(4, Math.min(width, height) / 70), found.fresh ? 1 : 0.35);
    seen += found.fresh;
    held = found.fresh ? held : Math.max(held, found.age);
    points.forEach((p, j) => shown.push({p, j, track, row: found.row, match: found.fresh ? match : null}));
    if (data.labels && drawable(points[0])) {
      ctx.fillStyle = "#e6e9ec";
      ctx.font = "12px sans-serif";
      const top = Math.min(...points.filter(drawable).map((p) => p[1]));
      ctx.fillText(track.id, points[0][0] - 6, top - 9);
    }
  }
  for (const other of truth) {  // people whom no track has found, or whose track is held
    const row = exact(other, frame);
    if (row < 0 || drawn.has(other)) continue;
    ghost(ctx, placed(project, other, row, origin(other, row)));
  }
  element("solid-note").textContent = (held && !seen ? `held for ${Math.round(1000 * held)} ms · ` : "") +
    "grid 0.5 m, level with the camera · drag to turn, wheel to zoom";
}

function drawFlat() {
  const {ctx, width, height} = prepare(element("flat").querySelector("canvas"));
  const scale = Math.min(width / data.width, height / data.height);
  const x0 = (width - scale * data.width) / 2, y0 = (height - scale * data.height) / 2;
  const points = (track, row) => Array.from({length: J}, (_, j) => {
    const i = 2 * (J * row + j);  // a pixel's centre is half a pixel from the image's corner
    return [x0 + scale * (track.flat[i] + 0.5), y0 + scale * (track.flat[i + 1] + 0.5), 0];
  });
  ctx.strokeStyle = "#50565e";
  ctx.lineWidth = 1;
  ctx.strokeRect(x0, y0, scale * data.width, scale * data.height);
  ctx.save();
  ctx.beginPath();
  ctx.rect(x0, y0, scale * data.width, scale * data.height);
  ctx.clip();
  for (const other of truth) {
    const row = exact(other, frame);
    if (row >= 0) ghost(ctx, points(other, row));
  }
  for (const track of chosen()) {
    const found = rowAt(track, frame);
    if (found && found.fresh)
      skeleton(ctx, points(track, found.row), track.confidence.subarray(J * found.row, J * found.row + J),
        Math.max(2.5, Math.min(width, height) / 90), 1);
  }
  ctx.restore();
  drawPicture();
}
const pictured = Object.keys(data.pictures).map(Number).sort((a, b) => a - b);
let pictureShown = -1;
function drawPicture() {
  if (!pictured.length) return;
  let nearest = pictured[0];
  for (const at of pictured) if (Math.abs(at - frame) <= Math.abs(nearest - frame)) nearest = at; else break;
  if (nearest !== pictureShown) element("picture").src = data.pictures[nearest];
  pictureShown = nearest;
  element("flat-note").textContent = nearest === frame ? "" : `picture of frame ${nearest}`;
}

// ---- time -----------------------------------------------------------------------------------
const plot = element("time-plot");
function moveCursor() {
  const layout = plot.layout, cursor = element("cursor");
  if (!COUNT || !layout || !layout.xaxis || !layout.xaxis.range) return;
  const [low, high] = layout.xaxis.range, {l, r, t, b} = layout.margin;
  const share = (time[frame] - low) / (high - low);
  cursor.style.display = share < 0 || share > 1 ? "none" : "block";
  cursor.style.left = `${l + share * (plot.clientWidth - l - r)}px`;
  cursor.style.top = `${t}px`;
  cursor.style.height = `${plot.clientHeight - t - b}px`;
}
const number = (value, digits, unit) => Number.isFinite(value) ? value.toFixed(digits) + unit : "–";
function readout() {
  if (!COUNT) {
    element("readout").textContent = "no images";
    return;
  }
  const parts = [
    `${time[frame].toFixed(3)} s`, `frame ${frame} of ${COUNT - 1}`, data.outcomes[outcome[frame]],
    ...(truth.length ? [`error ${number(1000 * views[view].error[frame], 0, " mm")}`] : []),
    `confidence ${number(views[view].confidence[frame], 2, "")}`,
  ];
  element("readout").textContent = parts.join(" · ");
  const stamp = stamps[frame].toString().padStart(10, "0");
  element("stamp").textContent = `stamp ${stamp.slice(0, -9)}.${stamp.slice(-9)}`;
}
let queued = false;
function draw() {
  queued = false;
  drawSolid();
  drawFlat();
  readout();
  moveCursor();
}
function redraw() {
  if (!queued) requestAnimationFrame(draw);
  queued = true;
}
function seek(to) {
  frame = Math.max(Math.min(Math.round(to) || 0, COUNT - 1), 0);
  element("slider").value = frame;
  redraw();
}
function frameAt(seconds) {
  let low = 0, high = COUNT - 1;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (time[middle] < seconds) low = middle + 1; else high = middle;
  }
  return low > 0 && seconds - time[low - 1] < time[low] - seconds ? low - 1 : low;
}
const LONGEST_WAIT = 2;  // s; what pauses longer would seem to hang
let clock = 0, played = 0;
function tick(now) {
  if (!playing) return;
  played += Math.min(now - clock, 250) / 1000 * Number(element("speed").value);
  clock = now;
  if (frame + 1 < COUNT) played = Math.max(played, time[frame + 1] - LONGEST_WAIT);
  let next = frame;
  while (next + 1 < COUNT && time[next + 1] <= played) next++;
  if (next !== frame) seek(next);
  if (next >= COUNT - 1) pause(); else requestAnimationFrame(tick);
}
function pause() {
  playing = false;
  element("play").textContent = "▶ play";
}
function play() {
  if (playing) { pause(); return; }
  if (frame >= COUNT - 1) seek(0);
  playing = true;
  element("play").textContent = "❚❚ pause";
  clock = performance.now();
  played = time[frame];
  requestAnimationFrame(tick);
}
function jump(to) {
  pause();
  seek(to);
}

// ---- controls -------------------------------------------------------------------------------
element("slider").max = Math.max(COUNT - 1, 0);
element("slider").addEventListener("input", (event) => jump(event.target.value));
element("play").addEventListener("click", play);
element("back").addEventListener("click", () => jump(frame - 1));
element("on").addEventListener("click", () => jump(frame + 1));
element("speed").addEventListener("change", () => { played = time[frame]; });
document.addEventListener("keydown", (event) => {
  // What has the focus comes first with the keys that it knows, the browser with Alt and the like.
  const focus = event.target.tagName;
  if (focus === "SELECT" || event.altKey || event.ctrlKey || event.metaKey) return;
  if (event.key === " " && focus !== "BUTTON") play();
  else if (event.key === "ArrowLeft" && focus !== "INPUT") jump(frame - 1);
  else if (event.key === "ArrowRight" && focus !== "INPUT") jump(frame + 1);
  else return;
  event.preventDefault();
});
const SIDES = {camera: [0, 0], aslant: [-0.5, 0.22], side: [Math.PI / 2, 0], above: [0, Math.PI / 2]};
function look() {
  [yaw, pitch] = SIDES[element("side").value];
  zoom = 1;
  redraw();
}
element("side").addEventListener("change", look);
element("place").addEventListener("change", redraw);
const solid = element("solid");
solid.addEventListener("pointerdown", (event) => solid.setPointerCapture(event.pointerId));
solid.addEventListener("pointermove", (event) => {
  if (event.buttons) {
    yaw -= event.movementX / 150;
    pitch = Math.min(Math.max(pitch + event.movementY / 150, -Math.PI / 2), Math.PI / 2);
    redraw();
  }
  tooltip(event);
});
solid.addEventListener("pointerleave", () => { element("tip").style.display = "none"; });
solid.addEventListener("wheel", (event) => {
  event.preventDefault();
  zoom = Math.min(Math.max(zoom * Math.exp(-event.deltaY / 600), 0.2), 8);
  redraw();
}, {passive: false});
function tooltip(event) {
  const box = solid.getBoundingClientRect(), x = event.clientX - box.left, y = event.clientY - box.top;
  let best = null, least = 14;
  for (const joint of shown) {
    const distance = Math.hypot(joint.p[0] - x, joint.p[1] - y);
    if (distance < least) [best, least] = [joint, distance];
  }
  const tip = element("tip");
  tip.style.display = best ? "block" : "none";
  if (!best) return;
  const {j, track, row, match} = best;
  let text = `${data.joints[j].replace("_", " ")} · confidence ${number(track.confidence[J * row + j], 2, "")}`;
  if (match) {
    const a = 3 * (J * row + j), b = 3 * (J * match.row + j);
    const miss = Math.hypot(...[0, 1, 2].map((i) => track.joints[a + i] - match.other.joints[b + i]));
    text += ` · error ${number(1000 * miss, 0, " mm")}`;
  }
  tip.textContent = text;
  tip.style.left = `${Math.min(x + 14, box.width - tip.offsetWidth - 4)}px`;
  tip.style.top = `${Math.max(y - 26, 2)}px`;
}
for (const side of ["left", "right", "middle"]) element(`key-${side}`).style.background = css(data.colours[side]);
element("key-middle").style.outline = "1px solid #b4bbc1";

views.forEach(({label}, i) => element("view").add(new Option(label, i)));
element("view").hidden = views.length < 2;
element("view").addEventListener("change", (event) => { view = Number(event.target.value); show(); });
element("place").hidden = !data.rooted;
if (data.rooted && data.labels) element("place").value = "room";
function fromHash() {
  const found = /^#frame=(\d+)$/.exec(location.hash);
  if (found) jump(Number(found[1]));
}
window.addEventListener("hashchange", fromHash);
// The same moment clicked twice does not change the hash.
document.querySelectorAll("a[href^='#frame=']").forEach((link) => link.addEventListener("click", () => jump(Number(link.hash.slice(7)))));
new ResizeObserver(redraw).observe(element("player"));

// ---- plots ----------------------------------------------------------------------------------
const config = {responsive: true, displaylogo: false, modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d"]};
function show() {
  const zoomed = plot.layout && plot.layout.xaxis.range.slice();
  Plotly.react(plot, views[view].figure.data, views[view].figure.layout, config).then(() => {
    if (zoomed) Plotly.relayout(plot, {"xaxis.range": zoomed});
    redraw();
  });
}
show();
plot.on("plotly_click", (event) => jump(frameAt(event.points[0].x)));
for (const name of ["plotly_relayout", "plotly_afterplot"]) plot.on(name, redraw);
if (data.latency) Plotly.newPlot("latency-plot", data.latency.data, data.latency.layout, {...config, displayModeBar: false});

if (!pictured.length) element("flat-note").textContent = "No pictures here: they are children. stsp replay --images puts them in.";
look();
seek(0);
fromHash();
})();
