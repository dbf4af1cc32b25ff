// Names are only ever set as text. What the server knows is asked for; what is not saved yet lives here.
const COLOURS = ["#e69f00", "#56b4e9", "#3fc79a", "#f0e442", "#8fb4ff", "#f58f63", "#dd9bd0", "#b7c0c8", "#a4d65e", "#ffa5ba"];
const STEPS_S = [0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800];
const SETTINGS = ["min_confidence", "hop", "top_k"];
const LANE_REM = 1.5, MOST_ZOOM = 64;
const $ = id => document.getElementById(id);
const known = new Map();  // recordings by id, as the server tells them, with their rows' verdicts
const audio = $("audio");
let begun, current = null, zoom = 1, active = null, stopAt = Infinity, busy = 0;

function make(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

function clock(seconds, digits = 1) {
  const unit = 10 ** digits, all = Math.round(seconds * unit), minutes = Math.floor(all / unit / 60);
  return `${minutes}:${((all - minutes * 60 * unit) / unit).toFixed(digits).padStart(digits ? digits + 3 : 2, "0")}`;
}

const percent = share => `${Math.round(100 * share)} %`;
const counted = (n, thing) => `${n} ${thing}${n === 1 ? "" : "s"}`;
const spanOf = row => `${clock(row.start_s)} to ${clock(row.end_s)}`;

async function ask(path, options) {
  let answer;
  try {
    answer = await fetch(path, options);
  } catch {
    throw new Error("The server does not answer. Start it again, then reload this page.");
  }
  const told = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new Error(told.problem || `The server refused this (${answer.status}).`);
  return told;
}

function asked() {
  return new URLSearchParams(SETTINGS.map(name => [name, $(name).value]));
}

function complain(text) {
  $("problem").textContent = text;
}

function progress(text, share) {
  $("status").textContent = text;
  $("progress").hidden = share === undefined;
  if (share !== undefined) $("progress").value = share;
}

// ---- recordings come in

async function take(files) {
  if (!files.length) return;
  complain("");
  const problems = [];
  let first = true;
  busy++;
  for (const file of files) {
    try {
      await ready;  // a file may be dropped before the settings have come
      if (file.size > begun.max_bytes) throw new Error(begun.too_large);
      const told = await upload(file);
      keep(told);
      if (first) await select(told.id);
      first = false;
      await watch(told.id);
    } catch (error) {
      problems.push(`${file.name}: ${error.message}`);
    }
  }
  busy--;
  if (problems.length) progress("");
  complain(problems.join(" "));
}

function upload(file) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest(), words = asked();
    words.set("name", file.name);
    request.open("POST", `recordings?${words}`);
    request.setRequestHeader("Content-Type", "application/octet-stream");
    request.responseType = "json";
    request.upload.onprogress = event => progress(`Uploading ${file.name}`, event.lengthComputable ? event.loaded / event.total : 0);
    request.onload = () => request.status === 201 ? resolve(request.response) : reject(new Error(request.response?.problem || `The server refused it (${request.status}).`));
    request.onerror = () => reject(new Error("The upload was cut off. Look at the server's terminal, then try again."));
    progress(`Uploading ${file.name}`, 0);
    request.send(file);
  });
}

async function watch(id) {
  for (;;) {
    const told = await ask(`recordings/${id}`);
    if (told.state === "failed") {
      keep(told);
      throw new Error(told.problem);
    }
    if (told.state === "done") {
      keep(told);
      progress(`${told.name}: ${summary(told)}`);
      if (current === id || current === null) await select(id);
      return;
    }
    const heard = told.duration_s ? Math.min(1, told.heard_s / told.duration_s) : 0;
    progress(told.state === "waiting" ? `${told.name} waits for its turn` : `Listening to ${told.name}`, heard);
    await new Promise(resolve => setTimeout(resolve, 250));
  }
}

function keep(told) {
  const before = known.get(told.id);
  if (before?.dirty && before.version === told.version) return;
  known.set(told.id, { ...told, dirty: false });
  if (before?.dirty) carryOver(before, known.get(told.id));
  listed();
}

// What was not saved stays, where the same was detected again.
function carryOver(before, told) {
  const key = row => `${row.start_s} ${row.end_s} ${row.predicted}`;
  const judged = new Map(before.rows.filter(row => row.verdict).map(row => [key(row), row]));
  for (const row of told.rows) {
    const earlier = judged.get(key(row));
    if (!earlier || !judged.delete(key(row))) continue;
    told.dirty = true;
    Object.assign(row, { verdict: earlier.verdict, species: earlier.species });
  }
  if (judged.size) complain(`${told.name} was listened to with other settings; what was not saved of ${counted(judged.size, "row")} is gone.`);
}

function summary(told) {
  const species = new Set(told.rows.map(row => row.predicted)).size;
  const count = told.rows.length;
  return count ? `${counted(count, "detection")} of ${species} species` : "nothing detected";
}

function listed() {
  $("nav").hidden = !known.size;
  $("heard").replaceChildren(...[...known.values()].map(one => {
    const button = make("button", { type: "button", textContent: one.name + (one.dirty ? " (not saved)" : one.state === "failed" ? " (failed)" : "") });
    button.title = one.name;
    if (one.id === current) button.setAttribute("aria-current", "true");
    button.addEventListener("click", () => select(one.id).catch(error => complain(error.message)));
    return make("li", {}, button);
  }));
}

// ---- one recording

async function select(id) {
  if (!known.get(id)?.rows) keep(await ask(`recordings/${id}`));
  const told = known.get(id);
  if (told.state === "failed") complain(`${told.name}: ${told.problem}`);
  const shown = `${id} ${told.version}`, other = $("recording").dataset.shown !== shown;
  current = id;
  listed();
  $("again").disabled = !told.version;
  $("recording").hidden = !told.version;
  if (!told.version || !other) return;
  $("recording").dataset.shown = shown;
  active = null;
  stopAt = Infinity;
  zoom = 1;
  for (const name of SETTINGS) $(name).value = told.settings[name];
  $("name").textContent = told.name;
  $("partly").hidden = !told.problem;
  $("partly").textContent = told.problem ? `This recording ${told.problem}; the first ${clock(told.duration_s)} were heard.` : "";
  const sound = `recordings/${id}/sound`;
  if (audio.getAttribute("src") !== sound) audio.src = sound;
  $("picture").src = `recordings/${id}/picture?${told.version}`;
  $("picture").alt = `Spectrogram of ${told.name}`;
  for (const kind of ["csv", "raven", "audacity"]) $(kind).href = `recordings/${id}/table/${kind}`;
  $("count").textContent = told.rows.length ? summary(told) : "Nothing was detected. Try a lower confidence.";
  $("saved").textContent = "";
  colour(told);
  lay(told);
  scale();
  $("rows").replaceChildren(...told.rows.map(tableRow));
  told.rows.forEach((row, n) => refresh(n));
  unsaved(told.dirty);
}

function colour(told) {
  const seconds = new Map();
  for (const row of told.rows) seconds.set(row.predicted, (seconds.get(row.predicted) || 0) + row.end_s - row.start_s);
  const order = [...seconds.keys()].sort((a, b) => seconds.get(b) - seconds.get(a));
  for (const row of told.rows) row.colour = COLOURS[order.indexOf(row.predicted) % COLOURS.length];
}

function lay(told) {
  const total = told.duration_s, ends = [], bars = [], bands = [];
  told.rows.forEach((row, n) => {
    let lane = ends.findIndex(end => end <= row.start_s + 1e-6);
    if (lane < 0) lane = ends.length;
    ends[lane] = row.end_s;
    const bar = make("button", { type: "button", className: "bar", tabIndex: -1 }), band = make("div", { className: "band" });
    for (const part of [bar, band]) {
      part.style.setProperty("--colour", row.colour);
      part.style.left = `${100 * row.start_s / total}%`;
      part.style.width = `${100 * (row.end_s - row.start_s) / total}%`;
    }
    bar.style.top = `${lane * LANE_REM}rem`;
    bar.addEventListener("click", () => { hear(n); $("rows").children[n].scrollIntoView({ block: "nearest" }); });
    bars.push(bar);
    bands.push(band);
  });
  $("lanes").style.height = `${ends.length * LANE_REM}rem`;
  $("lanes").replaceChildren(...bars);
  $("bands").replaceChildren(...bands);
  $("picture").style.width = `${100 * told.picture_s / total}%`;
  const view = $("view").offsetTop, high = told.high_hz / 1000, step = [1, 2, 4, 5, 10, 20, 50].find(khz => high / khz <= 6) || 100;
  const marks = [];
  for (let khz = 0; khz <= high - step / 3; khz += step) {
    const mark = make("span", { textContent: khz ? `${khz} kHz` : "0" });
    mark.style.top = `${view + $("view").offsetHeight * (1 - khz / high)}px`;
    marks.push(mark);
  }
  $("hertz").replaceChildren(...marks);
}

function scale() {
  const total = known.get(current).duration_s;
  $("track").style.width = `${100 * zoom}%`;
  const wanted = total / (8 * zoom), step = STEPS_S.find(s => s >= wanted) || 3600, marks = [];
  for (let s = 0; s < total - step / 4; s += step) {
    const mark = make("span", { textContent: step < 1 ? clock(s, 1) : clock(s, 0) });
    mark.style.left = `${100 * s / total}%`;
    marks.push(mark);
  }
  $("times").replaceChildren(...marks);
  $("out").disabled = zoom <= 1;
  $("in").disabled = zoom >= MOST_ZOOM || total / zoom < 2;
  move();
}

function zoomed(factor) {
  const box = $("scroll"), middle = (box.scrollLeft + box.clientWidth / 2) / box.scrollWidth;
  zoom *= factor;
  scale();
  box.scrollLeft = middle * box.scrollWidth - box.clientWidth / 2;
}

function tableRow(row, n) {
  const when = spanOf(row), play = make("button", { type: "button", className: "play" });
  play.setAttribute("aria-label", `Play ${when}`);
  play.addEventListener("click", () => hear(n));
  const key = make("span", { className: "key" });
  key.style.setProperty("--colour", row.colour);
  const heard = make("th", { scope: "row" }, key, make("span", { className: "species", textContent: row.predicted || "by hand" }));
  const sure = make("td");
  if (row.confidence !== null) {
    const fill = make("i");
    fill.style.width = `${100 * row.confidence}%`;
    sure.append(percent(row.confidence), make("span", { className: "sure" }, fill));
    if (row.p_right !== null) sure.append(make("div", { textContent: `right: ${percent(row.p_right)}` }));
  }
  const label = make("input", { type: "text", value: row.species || row.predicted, autocomplete: "off", spellcheck: false, maxLength: 500 });
  label.setAttribute("list", "classes");
  label.setAttribute("aria-label", `Species from ${when}, several with ; between`);
  label.addEventListener("change", () => {
    const name = label.value.trim();
    if (!name || name === row.predicted) judge(n, name ? "confirmed" : "", name);
    else judge(n, "corrected", name);
  });
  const yes = make("button", { type: "button", className: "yes", textContent: "Confirm" });
  yes.setAttribute("aria-label", `Confirm ${row.predicted}, ${when}`);
  yes.disabled = !row.predicted;
  yes.addEventListener("click", () => judge(n, row.verdict === "confirmed" ? "" : "confirmed", row.predicted));
  const no = make("button", { type: "button", className: "no", textContent: "No bird" });
  no.setAttribute("aria-label", `No bird, ${when}`);
  no.addEventListener("click", () => judge(n, row.verdict === "no bird" ? "" : "no bird", ""));
  return make("tr", {}, make("td", {}, play), make("td", { textContent: when.replace(" to ", "–") }), heard, sure, make("td", {}, make("div", { className: "pick" }, label, yes, no)), make("td", { className: "said" }));
}

function judge(n, verdict, species) {
  const told = known.get(current), row = told.rows[n];
  row.verdict = verdict;
  row.species = verdict === "confirmed" || verdict === "corrected" ? species : "";
  refresh(n);
  unsaved(true);
}

function refresh(n) {
  const row = known.get(current).rows[n], line = $("rows").children[n], none = row.verdict === "no bird";
  const name = row.species || row.predicted, bar = $("lanes").children[n], said = line.querySelector(".said");
  line.querySelector("input").value = name;
  line.querySelector(".yes").setAttribute("aria-pressed", String(row.verdict === "confirmed"));
  line.querySelector(".no").setAttribute("aria-pressed", String(none));
  said.textContent = row.verdict || "not checked";
  said.className = `said ${row.verdict.replace(" ", "-")}`;
  bar.textContent = name;
  bar.title = `${name}, ${spanOf(row)}${row.confidence === null ? "" : `, ${percent(row.confidence)}`}`;
  bar.setAttribute("aria-label", `Play ${bar.title}`);
  for (const part of [line, bar, $("bands").children[n]]) {
    part.classList.toggle("none", none);
    part.classList.toggle("on", n === active);
  }
}

function unsaved(dirty) {
  const told = known.get(current);
  const changed = told.dirty !== dirty;
  told.dirty = dirty;
  $("save").disabled = !dirty;
  $("again").disabled = dirty;
  $("again").title = dirty ? "Save the corrections first" : "";
  if (dirty) $("saved").textContent = "Not saved yet";
  if (changed) listed();
}

async function save() {
  complain("");
  const id = current, told = known.get(id);
  const rows = told.rows.map((row, n) => ({ row: n, verdict: row.verdict, species: row.species })).filter(row => row.verdict);
  try {
    const answer = await ask(`recordings/${id}/corrections`, {
      method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ version: told.version, rows }),
    });
    told.rows.forEach((row, n) => Object.assign(row, { verdict: answer.rows[n].verdict, species: answer.rows[n].species }));
    told.dirty = false;
    listed();
    if (current !== id) return;
    told.rows.forEach((row, n) => refresh(n));
    unsaved(false);
    const { labels, no_bird: none, all_labels: all, recordings } = answer.saved;
    $("saved").textContent = `Saved: ${labels} labelled, ${none} without a bird. corrections.csv has ${counted(all, "row")} of ${counted(recordings, "recording")}.`;
  } catch (error) {
    complain(error.message);
  }
}

// ---- hearing

function activate(n) {
  const before = active;
  active = n;
  for (const one of [before, n]) if (one !== null && $("rows").children[one]) refresh(one);
}

function hear(n) {
  const row = known.get(current).rows[n];
  if (n === active && !audio.paused) return audio.pause();
  activate(n);
  stopAt = row.end_s;
  if (audio.paused || audio.currentTime < row.start_s || audio.currentTime >= row.end_s - 0.05) audio.currentTime = row.start_s;
  play();
}

function play() {
  audio.play().catch(error => { if (error.name !== "AbortError") complain("This browser cannot play the recording; detections and corrections work all the same."); });
}

function move() {
  const total = known.get(current)?.duration_s;
  if (total) $("now").style.left = `${100 * Math.min(1, audio.currentTime / total)}%`;
}

function follow() {
  if (audio.currentTime >= stopAt) {
    audio.pause();
    audio.currentTime = stopAt;
    stopAt = Infinity;
  }
  move();
  if (!audio.paused) requestAnimationFrame(follow);
}

function sounding() {
  for (const [n, line] of [...$("rows").children].entries()) {
    const on = n === active && !audio.paused, button = line.querySelector(".play");
    button.classList.toggle("on", on);
    button.setAttribute("aria-label", `${on ? "Pause" : "Play"} ${spanOf(known.get(current).rows[n])}`);
  }
}

audio.addEventListener("play", () => { sounding(); requestAnimationFrame(follow); });
audio.addEventListener("pause", sounding);
audio.addEventListener("timeupdate", () => { if (audio.currentTime >= stopAt) follow(); else move(); });
audio.addEventListener("seeking", () => {
  const row = active === null ? null : known.get(current)?.rows[active];
  if (row && (audio.currentTime < row.start_s - 0.05 || audio.currentTime > row.end_s + 0.05)) {  // the player was moved elsewhere
    stopAt = Infinity;
    activate(null);
    sounding();
  }
  move();
});
$("view").addEventListener("click", event => {
  const box = $("view").getBoundingClientRect();
  stopAt = Infinity;
  activate(null);
  audio.currentTime = known.get(current).duration_s * (event.clientX - box.left) / box.width;
  play();
});

// ---- the rest of the page

$("files").addEventListener("change", () => { const files = [...$("files").files]; $("files").value = ""; take(files); });
for (const kind of ["dragenter", "dragover"]) document.addEventListener(kind, event => { event.preventDefault(); $("drop").classList.add("over"); });
for (const kind of ["dragleave", "drop"]) document.addEventListener(kind, event => { if (kind === "drop" || !event.relatedTarget) $("drop").classList.remove("over"); });
document.addEventListener("drop", event => { event.preventDefault(); take([...event.dataTransfer.files]); });
$("in").addEventListener("click", () => zoomed(2));
$("out").addEventListener("click", () => zoomed(0.5));
$("save").addEventListener("click", save);
$("again").addEventListener("click", async () => {
  complain("");
  const id = current;
  try {
    keep(await ask(`recordings/${id}/again?${asked()}`, { method: "POST" }));
    await watch(id);
  } catch (error) {
    progress("");
    complain(error.message);
  }
});
addEventListener("beforeunload", event => { if (busy || [...known.values()].some(one => one.dirty)) event.preventDefault(); });

const ready = (async () => {
  begun = await ask("session");
  $("classes").replaceChildren(...begun.classes.map(name => make("option", { value: name })));
  for (const name of SETTINGS) $(name).value = begun.settings[name];
  Object.assign($("hop"), { min: begun.least_hop, max: begun.most_hop });
  $("top_k").max = begun.most_species;
  for (const one of begun.recordings) keep(one);
})();
ready.then(async () => {
  const done = begun.recordings.filter(one => one.state === "done");
  if (done.length) await select(done[done.length - 1].id);
  for (const one of begun.recordings) if (["waiting", "listening"].includes(one.state)) await watch(one.id);
}).catch(error => complain(error.message));
