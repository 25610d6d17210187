"use strict";
// The page of rtpose report. Times are seconds since a run's first record; 3D is metres, y up, z towards the camera.

const data = JSON.parse(document.getElementById("data").textContent);
const $ = id => document.getElementById(id);
const make = (tag, parent, text = "", name = "") => {
  const element = document.createElement(tag);
  element.textContent = text;
  element.className = name;
  parent.append(element);
  return element;
};
const bytes = text => Uint8Array.from(atob(text), c => c.charCodeAt(0));
const floats = text => new Float32Array(bytes(text).buffer);
const clamp = (value, low, high) => Math.min(Math.max(value, low), high);
const css = (colour, alpha = 1) => `rgba(${colour.join()},${alpha})`;
const state = { time: 0, playing: false };
let duration = 0;

// ---- data ----

class Run {
  constructor(given) {
    Object.assign(this, given);
    this.times = new Float64Array(bytes(given.times).buffer);
    this.last = this.times[this.times.length - 1];
    if (given.mesh) {
      const { parents, faces, index, weights } = given.mesh;
      this.mesh = { parents, faces: new Uint32Array(bytes(faces).buffer), index: bytes(index), weights: floats(weights) };
    }
    this.people = given.people.map(person => new Person(person, this));
    this.chosen = this.people.reduce((a, b) => (b.body && (!a || !a.body || b.rows.length > a.rows.length) ? b : a), this.people[0]);
  }
  // The record that is shown at this time: the last that is not after it.
  row(time) {
    let low = 0, high = this.times.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.times[middle] <= time + 1e-4) low = middle + 1; else high = middle;
    }
    return Math.max(0, low - 1);
  }
}

class Person {
  constructor(given, run) {
    Object.assign(this, given);
    this.run = run;
    this.rows = new Int32Array(bytes(given.rows).buffer);
    this.keypoints = floats(given.keypoints);
    this.status = bytes(given.status);
    this.at = places(this.rows, run.times.length);
    if (given.body) {
      const body = given.body;
      this.body = { rows: new Int32Array(bytes(body.rows).buffer) };
      for (const name of ["turns", "pelvis", "offsets", "inverse", "vertices"]) this.body[name] = floats(body[name]);
      this.body.at = places(this.body.rows, run.times.length);
      for (const one of Object.values(given.measures.series)) {
        one.values = floats(one.values);
        one.sd = floats(one.sd);
      }
    }
    const counts = [0, 0, 0];
    for (const status of this.status) counts[status]++;
    this.shares = counts.map(count => count / Math.max(1, this.status.length));
  }
}

function places(rows, count) {
  const at = new Int32Array(count).fill(-1);
  rows.forEach((row, i) => { at[row] = i; });
  return at;
}

// ---- the body: forward kinematics and linear blend skinning, as rtpose.body.model ----

function turn(q, i) {
  const x = q[i], y = q[i + 1], z = q[i + 2], w = q[i + 3];
  return [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w),
    2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w),
    2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)];
}

function times3(a, b) {
  const c = new Array(9);
  for (let i = 0; i < 3; i++) for (let j = 0; j < 3; j++)
    c[3 * i + j] = a[3 * i] * b[j] + a[3 * i + 1] * b[3 + j] + a[3 * i + 2] * b[6 + j];
  return c;
}

const apply = (m, x, y, z) => [0, 3, 6].map(i => m[i] * x + m[i + 1] * y + m[i + 2] * z);

// The vertices of one frame's body, or null where there is none.
function vertices(person, row) {
  const body = person.body, i = body ? body.at[row] : -1;
  if (i < 0) return null;
  const { parents, index, weights } = person.run.mesh;
  const world = [], place = [], moves = [];
  for (let j = 0; j < parents.length; j++) {
    const own = turn(body.turns, (i * parents.length + j) * 4), p = parents[j];
    const offset = body.offsets.subarray(3 * j, 3 * j + 3);
    world[j] = p < 0 ? own : times3(world[p], own);
    place[j] = p < 0 ? [...body.pelvis.subarray(3 * i, 3 * i + 3)] : apply(world[p], ...offset).map((v, k) => v + place[p][k]);
    const inverse = body.inverse.subarray(12 * j, 12 * j + 12), move = [];
    for (let a = 0; a < 3; a++) for (let b = 0; b < 4; b++)
      move[4 * a + b] = world[j][3 * a] * inverse[b] + world[j][3 * a + 1] * inverse[4 + b] + world[j][3 * a + 2] * inverse[8 + b]
        + (b === 3 ? place[j][a] : 0);
    moves[j] = move;
  }
  const rest = body.vertices, out = new Float32Array(rest.length);
  for (let v = 0; v < rest.length / 3; v++) {
    const x = rest[3 * v], y = rest[3 * v + 1], z = rest[3 * v + 2];
    for (let k = 0; k < 4; k++) {
      const weight = weights[4 * v + k], m = moves[index[4 * v + k]];
      if (weight > 0) for (let a = 0; a < 3; a++)
        out[3 * v + a] += weight * (m[4 * a] * x + m[4 * a + 1] * y + m[4 * a + 2] * z + m[4 * a + 3]);
    }
  }
  return out;
}

function normals(points, faces) {
  const out = new Float32Array(points.length);
  for (let f = 0; f < faces.length; f += 3) {
    const [a, b, c] = [3 * faces[f], 3 * faces[f + 1], 3 * faces[f + 2]];
    const u = [0, 1, 2].map(k => points[b + k] - points[a + k]), v = [0, 1, 2].map(k => points[c + k] - points[a + k]);
    const n = [u[1] * v[2] - u[2] * v[1], u[2] * v[0] - u[0] * v[2], u[0] * v[1] - u[1] * v[0]];
    for (const corner of [a, b, c]) for (let k = 0; k < 3; k++) out[corner + k] += n[k];
  }
  return out;
}

// ---- the 3D view ----

const VERTEX = `#version 300 es
in vec3 place; in vec3 normal; uniform mat4 view; uniform mat4 lens; out vec3 facing; out float away;
void main() { vec4 seen = view * vec4(place, 1.0); facing = normal; away = -seen.z; gl_Position = lens * seen; }`;
const FRAGMENT = `#version 300 es
precision mediump float; in vec3 facing; in float away; uniform vec3 colour; uniform float lit; out vec4 pixel;
void main() {
  float light = 1.0;
  if (lit > 0.5) { vec3 n = normalize(facing); light = 0.38 + 0.5 * max(0.0, dot(n, normalize(vec3(0.4, 0.8, 0.5)))) + 0.12 * n.y; }
  pixel = vec4(colour * light, 1.0);
}`;

class Space {
  constructor(run, canvas) {
    this.run = run;
    this.canvas = canvas;
    this.angle = [0.35, 0.15];
    this.distance = 4.2;
    this.gl = canvas.getContext("webgl2", { antialias: true, preserveDrawingBuffer: true });
    if (this.gl) this.prepare();
    this.floors = new Map(run.people.filter(p => p.body).map(p => [p, this.lowest(p)]));
    this.middle = [0, 0, -4];
    this.listen();
  }
  // Nobody knows where the floor is: it is drawn under the soles of the chosen person, as they mostly are.
  get floor() {
    return this.floors.get(this.run.chosen) ?? -1;
  }
  lowest(person) {
    const step = Math.max(1, Math.floor(person.body.rows.length / 20)), found = [];
    for (let i = 0; i < person.body.rows.length; i += step) {
      const points = vertices(person, person.body.rows[i]);
      let low = Infinity;
      for (let k = 1; k < points.length; k += 3) low = Math.min(low, points[k]);
      found.push(low);
    }
    return found.sort((a, b) => a - b)[Math.floor(found.length / 2)];
  }
  prepare() {
    const gl = this.gl, program = gl.createProgram();
    for (const [kind, text] of [[gl.VERTEX_SHADER, VERTEX], [gl.FRAGMENT_SHADER, FRAGMENT]]) {
      const shader = gl.createShader(kind);
      gl.shaderSource(shader, text);
      gl.compileShader(shader);
      if (!gl.getShaderParameter(shader, gl.COMPILE_STATUS)) throw new Error(gl.getShaderInfoLog(shader));
      gl.attachShader(program, shader);
    }
    gl.linkProgram(program);
    gl.useProgram(program);
    gl.enable(gl.DEPTH_TEST);
    this.where = Object.fromEntries(["view", "lens", "colour", "lit"].map(name => [name, gl.getUniformLocation(program, name)]));
    this.buffers = Object.fromEntries(["place", "normal"].map(name => {
      const place = gl.getAttribLocation(program, name);
      gl.enableVertexAttribArray(place);
      return [name, { place, buffer: gl.createBuffer() }];
    }));
    this.elements = gl.createBuffer();
    gl.bindBuffer(gl.ELEMENT_ARRAY_BUFFER, this.elements);
    if (this.run.mesh) gl.bufferData(gl.ELEMENT_ARRAY_BUFFER, this.run.mesh.faces, gl.STATIC_DRAW);
  }
  listen() {
    const canvas = this.canvas;
    let from = null;
    canvas.addEventListener("pointerdown", e => { from = [e.clientX, e.clientY]; canvas.setPointerCapture(e.pointerId); });
    canvas.addEventListener("pointerup", () => { from = null; });
    canvas.addEventListener("pointermove", e => {
      if (!from) return;
      this.angle = [this.angle[0] - (e.clientX - from[0]) * 0.01, clamp(this.angle[1] + (e.clientY - from[1]) * 0.01, -1.5, 1.5)];
      from = [e.clientX, e.clientY];
      for (const other of spaces) other.angle = this.angle;
      draw();
    });
    canvas.addEventListener("wheel", e => {
      e.preventDefault();
      for (const other of spaces) other.distance = clamp(other.distance * Math.exp(e.deltaY * 0.001), 0.6, 40);
      draw();
    }, { passive: false });
    canvas.addEventListener("dblclick", () => { for (const other of spaces) [other.angle, other.distance] = [[0.35, 0.15], 4.2]; draw(); });
  }
  draw(row) {
    const gl = this.gl, canvas = this.canvas;
    if (!gl) return;
    [canvas.width, canvas.height] = [canvas.clientWidth * devicePixelRatio, canvas.clientHeight * devicePixelRatio];
    gl.viewport(0, 0, canvas.width, canvas.height);
    gl.clearColor(0.93, 0.94, 0.96, 1);
    gl.clear(gl.COLOR_BUFFER_BIT | gl.DEPTH_BUFFER_BIT);
    const chosen = this.run.chosen, i = chosen && chosen.body ? chosen.body.at[row] : -1;
    if (i >= 0 && ($("follow").checked || !this.met)) {
      const [x, , z] = chosen.body.pelvis.subarray(3 * i, 3 * i + 3);
      this.middle = [x, this.floor + 0.95, z];
      this.met = true;
    }
    gl.uniformMatrix4fv(this.where.view, false, this.view());
    gl.uniformMatrix4fv(this.where.lens, false, lens(canvas.width / canvas.height));
    this.grid();
    for (const person of this.run.people) {
      const points = vertices(person, row);
      if (!points) continue;
      this.fill("place", points);
      this.fill("normal", normals(points, this.run.mesh.faces));
      gl.uniform3fv(this.where.colour, person.colour.map(c => (0.35 + 0.65 * c / 255)));
      gl.uniform1f(this.where.lit, 1);
      gl.drawElements(gl.TRIANGLES, this.run.mesh.faces.length, gl.UNSIGNED_INT, 0);
    }
  }
  fill(name, values) {
    const gl = this.gl, { place, buffer } = this.buffers[name];
    gl.bindBuffer(gl.ARRAY_BUFFER, buffer);
    gl.bufferData(gl.ARRAY_BUFFER, values, gl.DYNAMIC_DRAW);
    gl.vertexAttribPointer(place, 3, gl.FLOAT, false, 0, 0);
  }
  // Lines every half metre, about where one looks.
  grid() {
    const gl = this.gl, lines = [], reach = 4;
    const [x0, z0] = [Math.round(this.middle[0] * 2) / 2, Math.round(this.middle[2] * 2) / 2];
    for (let k = -reach; k <= reach; k += 0.5) {
      lines.push(x0 + k, this.floor, z0 - reach, x0 + k, this.floor, z0 + reach);
      lines.push(x0 - reach, this.floor, z0 + k, x0 + reach, this.floor, z0 + k);
    }
    this.fill("place", new Float32Array(lines));
    this.fill("normal", new Float32Array(lines));
    gl.uniform3f(this.where.colour, 0.78, 0.8, 0.84);
    gl.uniform1f(this.where.lit, 0);
    gl.drawArrays(gl.LINES, 0, lines.length / 3);
  }
  // Column by column: turned about the vertical, then about the level axis, then moved away.
  view() {
    const [a, b] = this.angle, [ca, sa, cb, sb] = [Math.cos(a), Math.sin(a), Math.cos(b), Math.sin(b)];
    const r = [ca, 0, -sa, sb * sa, cb, sb * ca, cb * sa, -sb, cb * ca], m = this.middle;
    const t = [0, 3, 6].map(i => -(r[i] * m[0] + r[i + 1] * m[1] + r[i + 2] * m[2]));
    return [r[0], r[3], r[6], 0, r[1], r[4], r[7], 0, r[2], r[5], r[8], 0, t[0], t[1], t[2] - this.distance, 1];
  }
}

function lens(aspect) {
  const near = 0.05, far = 100, f = 1 / Math.tan(0.35);
  return [f / Math.max(1, aspect), 0, 0, 0, 0, f * Math.min(1, aspect), 0, 0,
    0, 0, (far + near) / (near - far), -1, 0, 0, 2 * far * near / (near - far), 0];
}

// ---- the video and the skeletons over it ----

class Film {
  constructor(run, box) {
    this.run = run;
    this.box = box;
    box.style.aspectRatio = `${run.size[0]} / ${run.size[1]}`;
    if (run.video) {
      this.video = make("video", box);
      Object.assign(this.video, { muted: true, playsInline: true, preload: "auto" });
      this.video.src = URL.createObjectURL(new Blob([bytes(run.video)], { type: "video/mp4" }));
      this.video.addEventListener("seeked", draw);
      this.video.addEventListener("loadeddata", () => { this.seek(); draw(); });
    }
    this.over = make("canvas", box, "", "over");
    if (run.note) make("div", box, run.note, "note");
  }
  // In the middle of the record's time, so that rounding does not show the picture before it.
  seek() {
    const row = this.run.row(state.time), times = this.run.times;
    const next = row + 1 < times.length ? times[row + 1] : times[row] + 1 / this.run.rate;
    if (this.video && this.video.readyState > 0) this.video.currentTime = (times[row] + next) / 2;
  }
  draw(row) {
    const canvas = this.over, [w, h] = this.run.size, pen = canvas.getContext("2d");
    [canvas.width, canvas.height] = [this.box.clientWidth * devicePixelRatio, this.box.clientHeight * devicePixelRatio];
    const scale = Math.min(canvas.width / w, canvas.height / h);
    pen.setTransform(scale, 0, 0, scale, (canvas.width - w * scale) / 2 + scale / 2, (canvas.height - h * scale) / 2 + scale / 2);
    if (!$("drawn").checked) return;
    for (const person of this.run.people) if (person.at[row] >= 0) this.skeleton(pen, person, person.at[row], 1 / scale);
  }
  skeleton(pen, person, i, unit) {
    const at = j => person.keypoints.subarray((17 * i + j) * 3, (17 * i + j) * 3 + 3), sure = j => at(j)[2] >= 0.3;
    pen.lineWidth = 2.5 * unit * devicePixelRatio;
    pen.strokeStyle = css(person.colour, 0.9);
    for (const [a, b] of data.limbs) if (sure(a) && sure(b)) {
      pen.beginPath(); pen.moveTo(at(a)[0], at(a)[1]); pen.lineTo(at(b)[0], at(b)[1]); pen.stroke();
    }
    const r = 3 * unit * devicePixelRatio;
    for (let j = 0; j < 17; j++) {
      const [x, y] = at(j), status = person.status[17 * i + j];
      if (!sure(j)) continue;
      pen.beginPath();
      if (status === data.status.predicted) { pen.moveTo(x - 2 * r, y - 2 * r); pen.lineTo(x + 2 * r, y + 2 * r); pen.moveTo(x + 2 * r, y - 2 * r); pen.lineTo(x - 2 * r, y + 2 * r); pen.stroke(); continue; }
      pen.fillStyle = css(person.colour); pen.arc(x, y, r, 0, 7); pen.fill();
      if (status === data.status.corrected) { pen.save(); pen.strokeStyle = "#fff"; pen.beginPath(); pen.arc(x, y, 2 * r, 0, 7); pen.stroke(); pen.restore(); }
    }
    const [x0, y0] = [at(0)[0], at(0)[1]];
    pen.font = `bold ${15 * unit * devicePixelRatio}px sans-serif`;
    pen.fillStyle = css(person.colour);
    pen.fillText(person.id, x0 + 4 * r, y0 - 5 * r);
  }
}

// ---- curves ----

const CURVES = [["knee flexion", "knee_flexion"], ["hip flexion", "hip_flexion"], ["hip abduction", "hip_abduction"],
  ["elbow flexion", "elbow_flexion"], ["shoulder elevation", "shoulder_elevation"], ["trunk", null, ["trunk_flexion", "trunk_lean_right"]],
  ["speed of the body", null, ["body_speed"]], ["speed of the wrists", "wrist_speed"], ["speed of the ankles, and contacts", "ankle_speed"]];
const COLOURS = [[37, 99, 235], [217, 119, 6]];

class Chart {
  constructor(title, names) {
    this.title = title;
    this.names = names;
    this.canvas = make("canvas", $("charts"));
    this.canvas.dataset.title = title;
    seekable(this.canvas);
  }
  lines() {
    return runs.flatMap((run, k) => {
      const measures = run.chosen && run.chosen.measures;
      return this.names.filter(name => measures && measures.series[name]).map((name, c) => {
        const one = measures.series[name];
        return { ...one, times: [...run.chosen.body.rows].map(row => run.times[row]), rows: run.chosen.body.rows, run, colour: COLOURS[c], dashed: k > 0 };
      });
    });
  }
  // What does not change with time is drawn once and kept.
  prepare() {
    const canvas = this.canvas, lines = this.lines();
    [canvas.width, canvas.height] = [canvas.clientWidth * devicePixelRatio, canvas.clientHeight * devicePixelRatio];
    const sheet = this.sheet = document.createElement("canvas"), pen = sheet.getContext("2d");
    [sheet.width, sheet.height] = [canvas.width, canvas.height];
    pen.scale(devicePixelRatio, devicePixelRatio);
    const [w, h] = [canvas.clientWidth, canvas.clientHeight], all = lines.flatMap(line => [...line.values].filter(Number.isFinite));
    const angle = lines.length > 0 && lines[0].unit === "deg";
    let [low, high] = all.reduce(([a, b], v) => [Math.min(a, v), Math.max(b, v)], angle ? [Infinity, -Infinity] : [0, 0]);
    if (!(high - low > 1e-6)) [low, high] = [(low || 0) - 1, (high || 0) + 1];
    const room = 0.08 * (high - low), y = v => h - 16 - (v - low + room) / (high - low + 2 * room) * (h - 38);
    const x = time => across(time, w);
    pen.font = "12px system-ui, sans-serif";
    pen.fillStyle = "#1c2430";
    pen.fillText(this.title + (lines.length ? ` [${lines[0].unit}]` : ": no bodies"), LEFT + 5, 15);
    pen.fillStyle = pen.strokeStyle = "#98a0ac";
    for (const v of [low, (low + high) / 2, high]) {
      pen.globalAlpha = 0.35; pen.beginPath(); pen.moveTo(LEFT, y(v)); pen.lineTo(w - RIGHT, y(v)); pen.stroke(); pen.globalAlpha = 1;
      pen.fillText(v.toFixed(high - low < 10 ? 1 : 0), 4, y(v) + 4);
    }
    pen.textAlign = "center";
    for (const k of [0, 0.25, 0.5, 0.75, 0.97]) pen.fillText((k * duration).toFixed(1), x(k * duration), h - 3);
    pen.textAlign = "left";
    for (const line of lines) this.line(pen, line, x, y);
    if (this.title.includes("contacts")) this.contacts(pen, x, h);
  }
  line(pen, { values, sd, times, rows, colour, dashed }, x, y) {
    const pieces = [];
    values.forEach((value, i) => {
      if (!Number.isFinite(value)) return;
      const last = pieces[pieces.length - 1];
      if (last && rows[i] - rows[last[last.length - 1]] === 1) last.push(i); else pieces.push([i]);
    });
    for (const piece of pieces) {
      pen.fillStyle = css(colour, 0.12);
      pen.save(); pen.beginPath(); pen.rect(LEFT, 18, 1e4, this.canvas.clientHeight - 34); pen.clip(); pen.beginPath();
      for (const i of piece) pen.lineTo(x(times[i]), y(values[i] + sd[i]));
      for (const i of [...piece].reverse()) pen.lineTo(x(times[i]), y(values[i] - sd[i]));
      pen.fill(); pen.restore();
      pen.strokeStyle = css(colour);
      pen.lineWidth = 1.6;
      pen.setLineDash(dashed ? [5, 3] : []);
      pen.beginPath();
      for (const i of piece) pen.lineTo(x(times[i]), y(values[i]));
      pen.stroke();
      pen.setLineDash([]);
    }
  }
  contacts(pen, x, h) {
    runs.forEach((run, k) => ["left", "right"].forEach((side, c) => {
      const feet = run.chosen && run.chosen.measures ? run.chosen.measures.contacts[side] : [];
      pen.fillStyle = css(COLOURS[c], k ? 0.4 : 0.8);
      for (const [begin, end] of feet) pen.fillRect(x(begin - run.start), h - 18 - 4 * c - 9 * k, x(end - run.start) - x(begin - run.start), 3);
    }));
  }
  draw() {
    const pen = this.canvas.getContext("2d");
    pen.clearRect(0, 0, this.canvas.width, this.canvas.height);
    pen.drawImage(this.sheet, 0, 0);
    cursor(this.canvas, pen);
    const lines = this.lines();
    const said = lines.map(({ values, sd, run, colour }) => {
      const i = run.chosen.body.at[run.row(state.time)], known = i >= 0 && Number.isFinite(values[i]);
      return [known ? values[i].toFixed(1) + (lines.length > 2 ? "" : ` ± ${sd[i].toFixed(1)}`) : "-", colour];
    });
    pen.save();
    pen.scale(devicePixelRatio, devicePixelRatio);
    pen.font = "12px system-ui, sans-serif";
    pen.textAlign = "right";
    let right = this.canvas.clientWidth - 8;
    for (const [text, colour] of said.reverse()) { pen.fillStyle = css(colour); pen.fillText(text, right, 15); right -= pen.measureText(text).width + 10; }
    pen.restore();
  }
}

const LEFT = 36, RIGHT = 8;
const across = (time, width) => LEFT + (duration ? time / duration : 0) * (width - LEFT - RIGHT);

function cursor(canvas, pen) {
  const x = across(state.time, canvas.clientWidth) * devicePixelRatio;
  pen.fillStyle = "#d4183d";
  pen.fillRect(x - 0.75 * devicePixelRatio, 0, 1.5 * devicePixelRatio, canvas.height);
}

function seekable(canvas) {
  const go = e => seek((e.offsetX - LEFT) / (canvas.clientWidth - LEFT - RIGHT) * duration);
  canvas.addEventListener("pointerdown", go);
  canvas.addEventListener("pointermove", e => { if (e.buttons) go(e); });
}

// ---- identities ----

class Identities {
  constructor(run) {
    this.run = run;
    const box = make("div", $("identities"), "", "who");
    make("b", box, run.name);
    this.canvas = make("canvas", box);
    this.canvas.style.height = `${16 + 24 * run.people.length}px`;
    seekable(this.canvas);
    make("div", box, "A bar for each person: there with a body (full), without one (pale); below it the keypoints that were corrected (yellow)"
      + " and predicted (red).", "hint");
    this.table(box);
  }
  table(box) {
    const table = make("table", box), figures = [["cadence", "cadence"], ["body_speed_mean", "mean speed"], ["left_contact_time", "contact, left"],
      ["right_contact_time", "contact, right"], ["contact_time_symmetry", "symmetry"]];
    const head = make("tr", table);
    for (const name of ["person", "from", "to", "frames", "with a body", "corrected", "predicted", ...figures.map(f => f[1])]) make("th", head, name);
    for (const person of this.run.people) {
      const row = make("tr", table, "", "person"), share = v => `${(100 * v).toFixed(1)} %`, times = this.run.times;
      make("span", make("td", row), "", "dot").style.background = css(person.colour);
      row.firstChild.append(String(person.id));
      for (const text of [`${times[person.rows[0]].toFixed(2)} s`, `${times[person.rows[person.rows.length - 1]].toFixed(2)} s`,
        `${person.rows.length}`, share(person.body ? person.body.rows.length / person.rows.length : 0),
        share(person.shares[data.status.corrected]), share(person.shares[data.status.predicted])]) make("td", row, text);
      for (const [name] of figures) {
        const figure = person.measures && person.measures.figures[name];
        const known = figure && figure[0] !== null && figure[1] !== null;
        make("td", row, known ? `${figure[0].toFixed(2)} ± ${figure[1].toFixed(2)} ${figure[2]}` : "-");
      }
      row.addEventListener("click", () => choose(this.run, person));
      person.line = row;
    }
  }
  prepare() {
    const canvas = this.canvas, { times, people, rate } = this.run;
    [canvas.width, canvas.height] = [canvas.clientWidth * devicePixelRatio, canvas.clientHeight * devicePixelRatio];
    const sheet = this.sheet = document.createElement("canvas"), pen = sheet.getContext("2d");
    [sheet.width, sheet.height] = [canvas.width, canvas.height];
    pen.scale(devicePixelRatio, devicePixelRatio);
    pen.font = "12px system-ui, sans-serif";
    const w = canvas.clientWidth, step = Math.max(1, across(1 / rate, w) - LEFT);
    people.forEach((person, k) => {
      const y = 8 + 24 * k;
      pen.fillStyle = "#1c2430";
      pen.fillText(person.id, 8, y + 12);
      person.rows.forEach((row, i) => {
        const x = across(times[row], w), status = person.status.subarray(17 * i, 17 * i + 17);
        const wide = row + 1 < times.length && person.at[row + 1] >= 0 ? across(times[row + 1], w) - x + 0.5 : step;
        pen.fillStyle = css(person.colour, person.body && person.body.at[row] >= 0 ? 1 : 0.35);
        pen.fillRect(x, y, wide, 11);
        const count = wanted => status.reduce((n, one) => n + (one === wanted), 0) / 17;
        pen.fillStyle = "#e0a800"; pen.fillRect(x, y + 12, wide, 4 * Math.sqrt(count(data.status.corrected)));
        pen.fillStyle = "#d4183d"; pen.fillRect(x, y + 16, wide, 4 * Math.sqrt(count(data.status.predicted)));
      });
    });
  }
  draw() {
    const pen = this.canvas.getContext("2d");
    pen.clearRect(0, 0, this.canvas.width, this.canvas.height);
    pen.drawImage(this.sheet, 0, 0);
    cursor(this.canvas, pen);
    for (const person of this.run.people) person.line.classList.toggle("chosen", person === this.run.chosen);
  }
}

// ---- the page ----

const runs = data.runs.map(given => new Run(given));
// Two runs begin with the same person, where both have them.
if (runs.length > 1) runs[1].chosen = runs[1].people.find(p => p.body && p.id === runs[0].chosen?.id) ?? runs[1].chosen;
duration = Math.max(...runs.map(run => run.last + 1 / run.rate));
const spaces = [], films = [], selects = [];
for (const run of runs) {
  const card = make("div", $("runs"), "", "run");
  make("h3", card, run.name);
  const camera = run.mode === "live" ? "live" : run.mode;
  make("div", card, `${run.source} · ${run.stored.join(" x ")} px · ${run.times.length} frames, ${run.last.toFixed(2)} s, ${run.rate.toFixed(2)} fps · ${camera}`
    + ` · ${Object.values(run.models).join(", ")}`, "about");
  const label = make("label", card, "person "), select = make("select", label);
  for (const person of run.people) make("option", select, String(person.id));
  if (run.chosen) select.value = run.chosen.id;
  select.addEventListener("change", () => choose(run, run.people.find(p => String(p.id) === select.value)));
  run.select = select;
  const views = make("div", card, "", "views");
  films.push(new Film(run, make("div", views, "", "view film")));
  const box = make("div", views, "", "view"), space = new Space(run, make("canvas", box, "", "space"));
  if (!run.mesh) make("div", box, run.people.length ? "No bodies: this run had no lifter." : "Nobody was found in this run.", "note");
  else if (!space.gl) make("div", box, "This browser has no WebGL 2: bodies cannot be drawn.", "note");
  spaces.push(space);
}
const charts = CURVES.map(([title, both, names]) => new Chart(title, names || [`left_${both}`, `right_${both}`]));
const identities = runs.map(run => new Identities(run));
const everything = [...charts, ...identities];
for (const [text, colour, style] of [["left, or the first", COLOURS[0], "solid"], ["right, or the second", COLOURS[1], "solid"],
  ...(runs.length > 1 ? [[runs[0].name, [60, 60, 60], "solid"], [runs[1].name, [60, 60, 60], "dashed"]] : [])]) {
  Object.assign(make("i", $("legend")).style, { borderColor: css(colour), borderTopStyle: style });
  $("legend").append(text);
}
make("span", $("legend"), "bands: one standard deviation").style.marginLeft = "16px";
for (const run of runs) for (const { time, picture } of run.sheet) {
  const figure = make("figure", $("sheet"));
  make("img", figure).src = `data:image/jpeg;base64,${picture}`;
  make("figcaption", figure, `${runs.length > 1 ? run.name + ", " : ""}${time.toFixed(2)} s`);
  figure.addEventListener("click", () => { seek(time); scrollTo({ top: 0, behavior: "smooth" }); });
}
document.title = `rtpose report: ${runs.map(run => run.name).join(", ")}`;

function choose(run, person) {
  run.chosen = person;
  run.select.value = person.id;
  prepare();
}

function prepare() {
  for (const one of everything) one.prepare();
  draw();
}

function draw() {
  runs.forEach((run, k) => {
    const row = run.row(state.time);
    films[k].draw(row);
    spaces[k].draw(row);
  });
  for (const one of everything) one.draw();
  $("slider").value = duration ? state.time / duration : 0;
  const first = runs[0], row = first.row(state.time);
  $("clock").textContent = `${(state.time + first.start).toFixed(2)} s · frame ${row + 1} of ${first.times.length}`;
}

function seek(time) {
  state.time = clamp(time, 0, duration);
  for (const film of films) film.seek();
  draw();
}

// While it plays, the first video is the clock; without one the computer's.
let before = 0;
function tick(now) {
  if (!state.playing) return;
  const lead = films.find(film => film.video), speed = Number($("speed").value);
  const lasts = lead && !lead.video.ended && state.time < lead.run.last;
  state.time = lasts ? lead.video.currentTime : state.time + (now - before) / 1000 * speed;
  before = now;
  for (const film of films) if (film.video) {
    film.video.playbackRate = speed;
    if (film !== lead && Math.abs(film.video.currentTime - state.time) > 0.15) film.video.currentTime = state.time;
  }
  if (state.time >= duration) { state.time = duration; play(false); }
  draw();
  requestAnimationFrame(tick);
}

function play(on) {
  if (on && state.time >= duration - 1e-3) seek(0);
  state.playing = on;
  $("play").textContent = on ? "Pause" : "Play";
  for (const { video } of films) if (video) { if (on) video.play().catch(paused); else video.pause(); }
  if (on) requestAnimationFrame(now => { before = now; tick(now); }); else seek(state.time);
}

// A pause that comes before the video has begun is no fault.
function paused(error) {
  if (error.name !== "AbortError") throw error;
}

function stepBy(frames) {
  const run = runs[0];
  seek(run.times[clamp(run.row(state.time) + frames, 0, run.times.length - 1)]);
}

$("play").addEventListener("click", () => play(!state.playing));
$("slider").addEventListener("input", e => seek(Number(e.target.value) * duration));
for (const id of ["drawn", "follow"]) $(id).addEventListener("change", draw);
addEventListener("keydown", e => {
  if (e.target.tagName === "SELECT") return;
  if (e.key === " ") play(!state.playing);
  else if (e.key === "ArrowRight") stepBy(1);
  else if (e.key === "ArrowLeft") stepBy(-1);
  else return;
  e.preventDefault();
});
addEventListener("resize", prepare);
prepare();
// For whoever wants to look at the page by a program.
window.report = { runs, films, spaces, state, seek, play, choose, vertices };
