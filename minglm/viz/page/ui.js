// Reactions to pointing, typing and stepping. Data flows one way: a change makes a new state, derive() makes
// its rows and mask, and every region is drawn from the two.

const LAST = DATA.words.steps.glm.length; // the step after which everything is shown; so does step 0
const SPEEDS = { slow: "0.5", normal: "1", fast: "2" };
const SAMPLING = { ratio: 15, mean: 3, seed: 0 }; // initial values of the sampler's fields

// ---- the state --------------------------------------------------------------------------------------------

// text: tokens; spans, order: as for explain(); step: 0 .. LAST; walk: the cell that the last step has
// reached, or null; pin: a cell [i, j] or null; beside: models; only: differences only; tokenizer: its name;
// answer: the id of a preset whose answer is shown.
const app = {
  data: DATA,
  state: {
    text: ["x"],
    spans: [],
    order: [],
    objective: "token",
    tokenizer: "words",
    step: 0,
    walk: null,
    pin: null,
    beside: ["bert", "gpt", "t5"],
    only: false,
    answer: "",
  },
  derivation: null,
  addressed: [], // {write: () => pairs, read: (parts) => ...}: other regions whose state is in the address
  spoken: null, // an AbortController: it ends what listens or runs in one language
  address: new URLSearchParams(), // with which the page was opened
  why: (i, j) => why(app.derivation, i, j, DATA.words),
  announce: text => (byId("announcer").textContent = text),
  set,
  setText(text, spans = []) {
    return set({ text, spans, order: spans.map((_, k) => k), tokenizer: tokenizerOf(text), ...FINISHED });
  },
  addTokenizer(name, label, cut, join = tokens => tokens.join("")) {
    tokenizers[name] = { label, cut, join };
    drawTokenizers();
  },
};
const DERIVED = ["text", "spans", "order", "objective"]; // the fields that determine a derivation
const FINISHED = { step: LAST, walk: null, pin: null, answer: "" };

// Change part of the state. An invalid change has no effect but a message at `place`, next to what was typed.
// Returns whether the state has changed.
function set(patch, place = "error") {
  try {
    const next = withTyped({ ...app.state, ...patch });
    if (DERIVED.some(name => next[name] !== app.state[name])) app.derivation = derive(next, DATA.words);
    app.state = next;
  } catch (error) {
    complain(error.message, place);
    return false;
  }
  complain("");
  draw();
  keepInAddress();
  return true;
}

// A change of the derivation: show the whole picture again, so that the change is visible.
function edit(patch, place) {
  const { step } = app.state;
  player.docked = false;
  return set({ ...FINISHED, step: step === 0 ? 0 : LAST, ...patch }, place);
}

function editSpans(spans, place) {
  const { spans: oldSpans, order } = app.state;
  return edit({ spans, order: orderAfter(spans, oldSpans, order) }, place);
}

function complain(message, place = "error") {
  const isStale = message !== "" && place === "error";
  document.querySelector("main").classList.toggle("stale", isStale);
  if (isStale) write(byId("length"), tell("stale"));
  for (const line of ["error", "spans-error"].map(byId)) {
    write(line, line.id === place ? message : "");
    line.hidden = line.textContent === "";
  }
  byId("text").setAttribute("aria-invalid", !byId("error").hidden);
}

let compared = []; // what the compared models were drawn from: they have no steps
let later = 0; // the timer of drawing them, 0 if they are up to date: they need not keep up with typing

function draw() {
  drawText();
  drawPlayer();
  drawChips();
  drawOrder();
  drawLanes();
  drawMask();
  const compares = [app.derivation, app.state.beside, app.state.only];
  if (!areSame(compares, compared))
    drawCompareSoon(compared.length && areSame(compares.slice(1), compared.slice(1)));
  compared = compares;
  point("glm", null);
}

function drawCompareSoon(canWait) {
  clearTimeout(later);
  later = canWait ? setTimeout(drawCompareNow, 250) : -1;
  if (!canWait) drawCompareNow();
}

function drawCompareNow() {
  if (!later) return;
  clearTimeout(later);
  later = 0;
  drawCompare();
  link(restingCell(), app.derivation);
}

// Whether a step so far has added entry i of a lane; whether the current step has added it.
function isShown(lane, i) {
  const { step } = app.state;
  return step === 0 || app.derivation.steps.slice(0, step).some(([, , lights]) => lights[lane]?.includes(i));
}

function isLit(lane, i) {
  const { step } = app.state;
  return step > 0 && Boolean(app.derivation.steps[step - 1][2][lane]?.includes(i));
}

// ---- 1 the text -------------------------------------------------------------------------------------------

function startText() {
  const box = byId("text");
  box.addEventListener("input", () => {
    writing.isTyped = true;
    read(app.state.tokenizer || "words");
  });
  drawTokenizers();
  const choice = preset =>
    button(DATA.words.presets[preset.id][0], () => set(stateOfPreset(preset)), { class: "preset" });
  byId("examples").append(...PRESETS.map(choice));
  byId("questions").append(...QUESTIONS.map(choice));

  // Spans stay on their words: a word typed after them moves none, and another text drops them.
  function read(tokenizer) {
    try {
      const text = fitting(tokenizers[tokenizer].cut(box.value));
      const { text: old } = app.state,
        isEdited = text.length === old.length; // one word is being changed
      const stays = ([start, end]) =>
        end <= text.length && (isEdited || areSame(text.slice(start, end), old.slice(start, end)));
      const spans = app.state.spans.filter(stays);
      edit({ text, tokenizer, spans, order: orderAfter(spans, app.state.spans, app.state.order) });
    } catch (error) {
      complain(error.message);
    }
  }

  byId("tokenizers").addEventListener("change", event => read(event.target.value));
}

function drawTokenizers() {
  const { tokenizer } = app.state;
  const radio = name =>
    el(
      "label",
      null,
      el("input", { type: "radio", name: "tokenizer", value: name, checked: name === tokenizer }),
      tell(tokenizers[name].label),
    );
  fill(byId("tokenizers"), el("legend", null, tell("cut")), Object.keys(tokenizers).map(radio));
}

function drawText() {
  const { text, tokenizer, answer } = app.state,
    box = byId("text");
  if (box !== document.activeElement) box.value = (tokenizers[tokenizer] ?? tokenizers.characters).join(text);
  write(byId("length"), count(text.length, "token"));
  for (const radio of document.getElementsByName("tokenizer")) radio.checked = radio.value === tokenizer;
  write(byId("answer"), answerOf(answer));
  byId("answer").hidden = !answer;
}

// ---- 2 the spans ------------------------------------------------------------------------------------------

const run = { from: 0, to: 0, dragging: false }; // the tokens being selected, both ends included
const runOf = () => [Math.min(run.from, run.to), Math.max(run.from, run.to) + 1];

function startChips() {
  const chips = byId("chips");
  const chipOf = event => event.target.closest("[data-i]")?.dataset.i;
  chips.addEventListener("pointerdown", event => {
    if (chipOf(event) !== undefined && event.pointerType !== "touch")
      choose(chipOf(event), chipOf(event), true);
  });
  chips.addEventListener("pointerover", event => {
    if (run.dragging && chipOf(event) !== undefined) choose(run.from, chipOf(event), true);
  });
  const drop = () => {
    if (run.dragging && run.from !== run.to) blankRun();
    run.dragging = false;
  };
  document.addEventListener("pointerup", drop, app.spoken);
  chips.addEventListener("click", event => chipOf(event) !== undefined && blank(Number(chipOf(event))));
  chips.addEventListener("keydown", event => {
    const last = app.state.text.length - 1;
    const to = { ArrowLeft: run.to - 1, ArrowRight: run.to + 1, Home: 0, End: last }[event.key];
    if (to !== undefined) {
      const i = Math.max(0, Math.min(last, to));
      choose(event.shiftKey ? run.from : i, i);
      chips.querySelector(`[data-i="${i}"]`).focus();
    } else if ((event.key === "Enter" || event.key === " ") && run.from !== run.to) {
      blankRun();
    } else if (event.key === "Escape") {
      choose(run.to, run.to);
    } else return;
    event.preventDefault();
  });

  function choose(from, to, dragging = false) {
    Object.assign(run, { from: Number(from), to: Number(to), dragging });
    markRun();
  }

  function blank(i) {
    choose(i, i);
    editSpans(toggled(app.state.spans, i));
  }

  function blankRun() {
    const [from, to] = runOf();
    choose(run.to, run.to);
    editSpans(withRun(app.state.spans, from, to));
  }
}

function startSampling() {
  const number = (name, value, more) => el("input", { type: "number", id: `sample-${name}`, value, ...more });
  const objective = el(
    "select",
    { id: "objective", onchange: () => edit({ objective: objective.value }) },
    Object.entries(MASK_NAMES).map(([name, mask]) =>
      el("option", { value: name }, `${DATA.words.page.objectives[name]}: ${mask}`),
    ),
  );
  const typed = el("input", {
    type: "text",
    id: "slices",
    spellcheck: "false",
    onchange: () => {
      try {
        editSpans(
          parseSlices(typed.value).sort((a, b) => a[0] - b[0]),
          "spans-error",
        );
      } catch (error) {
        complain(error.message, "spans-error");
      }
    },
  });
  byId("sampling").append(
    field(tell("objective"), objective),
    field(tell("ratio"), number("ratio", SAMPLING.ratio, { min: 1, max: 100 })),
    field(tell("mean"), number("mean", SAMPLING.mean, { min: 0.5, max: 20, step: 0.5 })),
    field(tell("seed"), number("seed", SAMPLING.seed, { min: 0, step: 1 })),
    el("button", { type: "submit", id: "sample-button" }, tell("sample")),
    button(tell("next seed"), () => (byId("sample-seed").stepUp(), sample()), { id: "next-seed" }),
  );
  byId("sampling").after(field(tell("slices"), typed)); // outside the form, where Enter samples
  byId("sampling").addEventListener("submit", event => (event.preventDefault(), sample()));

  function sample() {
    const [ratio, mean, seed] = ["ratio", "mean", "seed"].map(name => byId(`sample-${name}`).valueAsNumber);
    try {
      if (!(ratio > 0 && ratio <= 100)) throw fault("ratio");
      if (!(mean > 0)) throw fault("mean");
      if (!Number.isSafeInteger(seed) || seed < 0) throw fault("seed");
      edit(sampled(app.state.text, app.state.objective, { ratio: ratio / 100, mean, seed }), "spans-error");
    } catch (error) {
      complain(error.message, "spans-error");
    }
  }
}

function drawChips() {
  const { text, spans, objective } = app.state,
    last = text.length - 1;
  Object.assign(run, { from: Math.min(run.from, last), to: Math.min(run.to, last) });
  const isReached = stepReached("spans");
  const looks = text.map((token, i) => {
    const k = spans.findIndex(([start, end]) => start <= i && i < end);
    return { token, k, isFirst: k >= 0 && i === spans[k][0], isReached, states: stateOf("text", i) };
  });
  const chip = i => {
    const { token, k, isFirst, states } = looks[i],
      isBlanked = k >= 0 && isReached;
    return el(
      "button",
      {
        type: "button",
        class: "chip",
        "aria-pressed": String(k >= 0),
        dataset: { lane: "text", i, key: `chip-${i}`, ...states, ...(isBlanked ? spanData(k) : {}) },
        "aria-label": tell("chip", {
          token: visible(token),
          i,
          span: k < 0 ? "" : tell("chip span", { k: k + 1 }),
        }),
      },
      tokenEl(token),
      el("small", { class: "index", "aria-hidden": true }, i),
      isBlanked && isFirst && el("small", { class: "tag" }, `s${k + 1}`),
    );
  };
  refill(byId("chips"), looks, chip);
  markRun();
  const blanked = spans.reduce((sum, [start, end]) => sum + end - start, 0),
    values = { spans: count(spans.length, "span"), n: blanked, tokens: count(text.length, "token") };
  write(byId("spans-note"), tell("blanked", values));
  byId("objective").value = objective;
  if (byId("slices") !== document.activeElement) byId("slices").value = slices(spans);
}

function markRun() {
  const [from, to] = runOf();
  for (const chip of byId("chips").children) {
    const i = Number(chip.dataset.i);
    chip.classList.toggle("chosen", to - from > 1 && from <= i && i < to);
    chip.tabIndex = i === run.to ? 0 : -1;
  }
}

function stepReached(name) {
  const { step } = app.state;
  return step === 0 || app.derivation.steps.findIndex(([other]) => other === name) < step;
}

// As data-shown and data-lit, for the style and for tests.
function stateOf(lane, i) {
  return { shown: isShown(lane, i), ...(isLit(lane, i) ? { lit: true } : {}) };
}

// ---- 3 their order ----------------------------------------------------------------------------------------

function startOrder() {
  let shuffles = 0,
    dragged = null;
  const shuffle = () => {
    const before = app.state.order,
      seed = byId("sample-seed").valueAsNumber || 0;
    let order = before;
    while (before.length > 1 && order.join() === before.join())
      order = new Rng(seed, ++shuffles).shuffle([...before]);
    edit({ order });
  };
  byId("order-buttons").append(
    button(tell("shuffle"), shuffle, { id: "shuffle" }),
    button(tell("text order"), () => edit({ order: range(0, app.state.spans.length) }), { id: "canonical" }),
  );
  const pieces = byId("pieces"),
    pieceOf = event => event.target.closest("[data-k]");
  pieces.addEventListener("dragstart", event => {
    dragged = Number(pieceOf(event).dataset.k);
    event.dataTransfer.setData("text/plain", `s${dragged + 1}`);
  });
  pieces.addEventListener("dragover", event => dragged !== null && event.preventDefault());
  pieces.addEventListener("drop", event => {
    event.preventDefault();
    const target = pieceOf(event);
    const { order } = app.state;
    if (dragged !== null && target)
      edit({ order: moved(order, dragged, order.indexOf(Number(target.dataset.k))) });
    dragged = null;
  });
}

// Move a span to another place.
function moved(order, k, place) {
  const rest = order.filter(other => other !== k);
  return [...rest.slice(0, place), k, ...rest.slice(place)];
}

// A button at an end does nothing, but it is never disabled: it would lose the focus.
function drawOrder() {
  const { text, spans, order } = app.state,
    isKnown = stepReached("order");
  const move = (k, place, name, arrow, isOff) =>
    button(arrow, () => isOff || edit({ order: moved(app.state.order, k, place) }), {
      class: "move",
      "aria-label": tell(name, { k: k + 1 }),
      "aria-disabled": String(isOff),
      "data-key": `${name}-${k}`,
    });
  const piece = (k, place) =>
    k === null
      ? el("li", { class: "none" }, tell("no span"))
      : el(
          "li",
          { draggable: "true", dataset: { k, ...spanData(k) } },
          move(k, place - 1, "earlier", "◀", place === 0),
          el(
            "span",
            { class: "piece" },
            el("small", { class: "tag" }, `s${k + 1}`),
            text.slice(...spans[k]).map(t => tokenEl(t)),
          ),
          move(k, place + 1, "later", "▶", place === order.length - 1),
        );
  const pieces = order.length ? order : [null],
    looks = pieces.map((k, place) => [k, place, order.length, k !== null && text.slice(...spans[k])]);
  refill(byId("pieces"), looks, place => piece(pieces[place], place));
  byId("pieces").dataset.shown = isKnown;
  byId("shuffle").disabled = byId("canonical").disabled = order.length < 2;
}

// ---- 4 the stage ------------------------------------------------------------------------------------------

// docked: on a screen of one column the player sticks to the bottom while one steps
const player = { timer: null, docked: false };
// where a step adds something; the other steps add to the rows
const PLACES = { tokens: "spans", spans: "spans", order: "order", mask: "mask" };
const GROWTH = { row: 250, all: 2500 }; // ms from one row of the mask to the next, and for all rows at most

function startPlayer() {
  const scrub = el("input", {
    type: "range",
    id: "scrub",
    min: 0,
    value: 0,
    "aria-label": tell("step"),
    oninput: () => (goTo(scrub.valueAsNumber), pause()),
  });
  const speed = el(
    "select",
    { id: "speed", onchange: () => player.timer && (pause(), play()) },
    Object.entries(SPEEDS).map(([name, value]) => el("option", { value }, tell(name))),
  );
  speed.value = "1";
  byId("player").append(
    button(tell("back"), () => (pause(), move(-1)), { id: "previous" }),
    button(tell("next"), () => (pause(), move(1)), { id: "next", class: "primary" }),
    button(tell("play"), () => (player.timer ? pause() : play()), { id: "play" }),
    scrub,
    field(tell("speed"), speed),
    button(
      tell("cell by cell"),
      () => (pause(), set({ step: LAST, pin: null, walk: app.state.walk === null ? 0 : null })),
      { id: "walk", "aria-pressed": "false" },
    ),
  );
  const calm = () => (pause(), still(maskRows()));
  prefers("reduced-motion: reduce").addEventListener("change", calm, app.spoken);
  const stepper = byId("stepper"),
    leave = ([{ isIntersecting }]) => stepper.classList.toggle("away", !isIntersecting);
  new IntersectionObserver(leave).observe(document.querySelector(".desk"));
}

// A place in the film: a step, or, while the last step goes cell by cell, a cell.
function goTo(place) {
  const { walk } = app.state,
    end = walk === null ? LAST : app.derivation.tokens.length ** 2 - 1;
  const at = Math.max(0, Math.min(end, place));
  player.docked = at > 0;
  still(maskRows());
  set(walk === null ? { step: at, pin: null } : { walk: at });
  if (walk === null && at > 0) follow(PLACES[app.derivation.steps[at - 1][0]] ?? "sample");
  if (walk === null && at === LAST) growMask();
}

// A step scrolls to what it adds: to its beginning where everything stands in one column.
function follow(id) {
  showRegion(id, matchMedia("(max-width: 64rem)").matches ? "start" : "nearest");
}

function showRegion(id, block = "start") {
  const isCalm = prefers("reduced-motion: reduce").matches;
  byId(id).scrollIntoView({ block, behavior: isCalm ? "auto" : "smooth" });
}

function maskRows() {
  return [...byId("grid").querySelectorAll("tbody tr")];
}

function growMask() {
  if (prefers("reduced-motion: reduce").matches) return;
  const rows = maskRows(),
    delay = Math.min(GROWTH.row, GROWTH.all / rows.length);
  rows.forEach((row, i) =>
    row.animate([{ opacity: 0 }, { opacity: 1 }], {
      duration: GROWTH.row,
      delay: i * delay,
      fill: "backwards",
    }),
  );
}

// Milliseconds that a sentence takes to read: a second, and 0.35 s per word or two Chinese characters.
function readingTime(sentence) {
  const characters = sentence.match(/[\u4e00-\u9fff]/g) ?? [];
  return 1000 + 350 * (sentence.split(/\s+/).length + characters.length / 2);
}

function move(by) {
  const { step, walk } = app.state;
  goTo((walk ?? step) + by);
}

function isAtEnd() {
  const { step, walk } = app.state;
  return walk === null ? step === LAST : walk === app.derivation.tokens.length ** 2 - 1;
}

function play() {
  if (isAtEnd()) goTo(0);
  const next = () => {
    player.timer = setTimeout(() => {
      move(1);
      if (isAtEnd()) pause();
      else next();
    }, stepTime());
  };
  next();
  drawPlayer();
}

// Milliseconds: a cell takes a third of a second, a step as long as its sentence takes to be read.
function stepTime() {
  const time = app.state.walk === null ? readingTime(byId("step-sentence").textContent) : 350;
  return time / Number(byId("speed").value);
}

function pause() {
  clearTimeout(player.timer);
  player.timer = null;
  drawPlayer();
}

function drawPlayer() {
  const { step, walk } = app.state,
    { steps, tokens } = app.derivation,
    T = tokens.length;
  const scrub = byId("scrub"),
    isCalm = prefers("reduced-motion: reduce").matches;
  byId("stage").dataset.step = step;
  byId("stepper").classList.toggle("docked", player.docked);
  // on a narrow screen, a region that nothing has reached yet is not there
  const reached = { order: stepReached("order"), sample: stepReached("masks") };
  for (const id of ["mask", "compare", "share"]) reached[id] = isWhole();
  for (const [id, isThere] of Object.entries(reached)) byId(id).dataset.reached = isThere;
  write(
    byId("step-name"),
    step === 0
      ? tell("finished")
      : tell("at step", { n: step, all: LAST, name: DATA.words["step names"][steps[step - 1][0]] }),
  );
  write(
    byId("step-sentence"),
    step === 0 ? tell("whole", { n: LAST }) : walk === null ? steps[step - 1][1] : cellSentence(walk),
  );
  scrub.max = walk === null ? LAST : T * T - 1;
  scrub.value = walk ?? step;
  scrub.setAttribute("aria-label", tell(walk === null ? "step" : "cell"));
  scrub.setAttribute(
    "aria-valuetext",
    walk === null ? byId("step-name").textContent : tell("at cell", { n: walk, all: T * T }),
  );
  byId("previous").setAttribute("aria-disabled", (walk ?? step) === 0);
  byId("next").setAttribute("aria-disabled", isAtEnd());
  write(byId("play"), tell(player.timer ? "pause" : "play"));
  byId("play").disabled = isCalm;
  byId("play").title = isCalm ? tell("calm") : "";
  byId("walk").setAttribute("aria-pressed", walk !== null);
}

function cellSentence(walk) {
  const T = app.derivation.tokens.length,
    i = Math.floor(walk / T),
    j = walk % T;
  const rule = app.derivation.rule[i][j],
    { code } = DATA.words.rules[rule];
  return tell("walk", { i, j, rule, code, state: stateOfCell(app.derivation, i, j) });
}

function drawLanes() {
  const d = app.derivation,
    A = d.part_a_len,
    T = d.tokens.length,
    edge = i => (i === A && A > 0 ? "edge" : null),
    lanes = byId("lanes"),
    names = Object.entries(DATA.words.page.lanes);
  if (!lanes.firstChild) {
    const line = ([, name]) => el("tr", null, el("th", { scope: "row" }, name));
    lanes.append(
      el("table", { class: "lanes" }, el("thead", null, el("tr")), el("tbody", null, names.map(line))),
    );
  }
  const [head, ...lines] = lanes.querySelectorAll("tr");
  const brace = ([part, from, to, shown]) =>
    el(
      "th",
      { scope: "colgroup", colspan: to - from, class: edge(from), dataset: { shown } },
      DATA.words.parts[part],
    );
  const braces = [
    ["A", 0, A, stepReached("masks")],
    ["B", A, T, stepReached("order")],
  ].filter(([, from, to]) => to > from);
  refill(head, [null, ...braces], n => (n === 0 ? el("td") : brace(braces[n - 1])));
  names.forEach(([lane], n) => {
    const isToken = lane === "tokens" || lane === "targets";
    const looks = d[lane].map((value, i) => ({
      value,
      edge: edge(i),
      ...stateOf(lane, i),
      ...(lane === "tokens" && d.span_id[i] >= 0 ? { span: d.span_id[i] } : {}),
    }));
    const cell = i => {
      const { value, edge, span, ...states } = looks[i];
      return el(
        "td",
        { class: edge, dataset: { lane, i, ...states, ...(span >= 0 ? spanData(span) : {}) } },
        isToken ? value !== "" && tokenEl(value, { title: visible(value) }) : value,
      );
    };
    refill(lines[n], ["", ...looks], i => (i === 0 ? el("th", { scope: "row" }, names[n][1]) : cell(i - 1)));
  });
  requestAnimationFrame(showInLanes); // when nothing else changes, and the page is laid out anyway
}

// Pointing at a row of the sample lights the words that it sees, as pointing at its cells in the mask does.
function startLanes() {
  const lanes = byId("lanes");
  lanes.addEventListener("pointerover", ({ target, pointerType }) => {
    const i = target.closest("td[data-i]")?.dataset.i;
    if (pointerType !== "touch") point("glm", i === undefined ? null : { i: Number(i), j: Number(i) });
  });
  lanes.addEventListener("pointerleave", () => point("glm", null));
}

// Scroll the lanes, and not the page, to what a step adds; in the finished picture, to Part B.
function showInLanes() {
  const lanes = byId("lanes"),
    cell = lanes.querySelector("[data-lit]") ?? lanes.querySelector("td:last-child[data-shown=true]");
  if (!cell) return;
  const box = lanes.getBoundingClientRect(),
    at = cell.getBoundingClientRect();
  if (at.right > box.right) lanes.scrollLeft += at.right - box.right;
  if (at.left < box.left + 90) lanes.scrollLeft -= box.left + 90 - at.left; // beside the names, which stay
}

// ---- 5 the mask -------------------------------------------------------------------------------------------

let maskMatrix = null;

function startMask() {
  maskMatrix = createMatrix(byId("grid"), {
    label: tell("mask label"),
    onPoint: cell => point("glm", cell),
    onPin: pin,
  });
}

function pair(query, key) {
  return tell("looks at", { query: quoted(query), key: quoted(key) });
}

function stateOfCell(d, i, j) {
  return DATA.words.states[d.mask[i][j] ? "open" : "shut"];
}

// With `inSteps`, what the steps have not added yet is left out.
function viewOf(d, { inSteps = false, ...more }) {
  const { step, walk } = app.state,
    T = d.tokens.length;
  const isDone = (i, j) => !inSteps || step === 0 || (step === LAST && (walk === null || i * T + j <= walk));
  const seen = (lane, i) => !inSteps || isShown(lane, i),
    isThere = (i, j) => seen("tokens", i) && seen("tokens", j);
  return {
    rows: d.tokens.map((token, i) => ({
      token: seen("tokens", i) ? token : "",
      span: seen("tokens", i) ? d.span_id[i] : -1,
      positions: [
        seen("position_ids", i) ? d.position_ids[i] : "",
        ...(d.second_position ? [seen("block_position_ids", i) ? d.block_position_ids[i] : ""] : []),
      ],
    })),
    partALen: inSteps && !stepReached("order") ? 0 : d.part_a_len,
    kind: (i, j) => (isDone(i, j) ? d.kind[i][j] : isThere(i, j) ? "" : "none"),
    describe: (i, j) => tell("pair", { pair: pair(d.tokens[i], d.tokens[j]), state: stateOfCell(d, i, j) }),
    ...more,
  };
}

function drawMask() {
  const d = app.derivation,
    T = d.tokens.length,
    counts = {};
  for (const line of d.kind) for (const kind of line) counts[kind] = (counts[kind] ?? 0) + 1;
  const open = d.tokens.reduce((sum, _, i) => sum + keysOfRow(i, d.part_a_len), 0);
  byId("mask").classList.toggle("roomy", T <= 14); // the legend fits beside the grid
  maskMatrix.draw(viewOf(d, { inSteps: true }));
  const density = tell("density", { open, all: T * T, share: Math.round((100 * open) / (T * T)) });
  write(byId("density"), isWhole() ? density : "");
  byId("legend").hidden = !isWhole();
  const line = kind =>
    el(
      "li",
      { class: counts[kind] ? null : "absent", dataset: { kind } },
      swatch(kind),
      el("span", null, ofGlm(DATA.words.meaning[kind])),
      el("span", { class: "count" }, isWhole() ? (counts[kind] ?? 0) : ""),
    );
  const kinds = Object.keys(DATA.kinds),
    looks = kinds.map(kind => [counts[kind] ?? 0, isWhole()]);
  refill(byId("legend"), looks, n => line(kinds[n]));
}

function swatch(kind) {
  return el("span", {
    class: "swatch",
    "aria-hidden": true,
    dataset: { kind, glyph: DATA.kinds[kind].unicode },
  });
}

// A sentence about {A}, {B} and {span}, as GLM calls them.
function ofGlm(sentence) {
  return format(sentence, DATA.words.models.glm);
}

// The most telling cell: a token of Part B and the first token of a later span, which it may not see; else
// Part A and the first row of Part B.
function tellingCell(d) {
  const words = d.word.map((word, i) => i).filter(i => d.word[i] >= 0 && d.part[i] === "B");
  for (const i of words) {
    const j = words.find(other => d.kind[i][other] === "BF" && d.span_id[other] !== d.span_id[i]);
    if (j !== undefined) return { i, j };
  }
  return d.part_a_len > 0 && d.part_a_len < d.tokens.length ? { i: 0, j: d.part_a_len } : null;
}

function pin(cell) {
  const { pin: old } = app.state,
    isSame = cell && old && old[0] === cell.i && old[1] === cell.j;
  app.state = { ...app.state, pin: cell && !isSame ? [cell.i, cell.j] : null };
  keepInAddress();
  point("glm", cell);
}

function isWhole() {
  return app.state.step === 0 || app.state.step === LAST;
}

// The cell shown while none is pointed at: the pinned cell, the one the film has reached, or a telling one.
function restingCell() {
  const { pin: pinned, walk } = app.state,
    T = app.derivation.tokens.length;
  if (pinned) return Math.max(...pinned) < T ? { i: pinned[0], j: pinned[1] } : null;
  if (walk !== null) return { i: Math.floor(walk / T), j: walk % T };
  return isWhole() ? tellingCell(app.derivation) : null;
}

// The pointer or the keyboard is on a cell (or none) of a model's mask. A pinned cell stays selected.
function point(model, pointed) {
  if (pointed) drawCompareNow();
  const d = app.derivation,
    isFree = pointed && !app.state.pin && isWhole();
  const cell = isFree ? pointed : restingCell(),
    from = isFree && model !== "glm" ? family[model].derivation : d;
  const ours = cell && from !== d ? linkedCell(from, cell, d) : cell;
  maskMatrix.mark(ours, Boolean(app.state.pin));
  drawCard(ours);
  for (const td of byId("lanes").querySelectorAll("td[data-i]")) {
    td.classList.toggle("query", ours !== null && Number(td.dataset.i) === ours.i);
    td.classList.toggle("key", ours !== null && Number(td.dataset.i) === ours.j);
  }
  lightText(ours);
  if (!later) link(cell, from);
}

// In the text, too: the words that the row of a cell sees.
function lightText(cell) {
  const d = app.derivation,
    isSeen = i => d.word.some((word, j) => word === i && d.mask[cell.i][j]);
  for (const chip of byId("chips").children) {
    const i = Number(chip.dataset.i);
    chip.classList.toggle("seen", cell !== null && isSeen(i));
    chip.classList.toggle("asks", cell !== null && d.word[cell.i] === i);
  }
}

function drawCard(cell) {
  const d = app.derivation,
    card = byId("card");
  if (!cell) {
    if (!isNews(card, isWhole())) return;
    return fill(card, el("p", { class: "note" }, tell(isWhole() ? "point" : "mask comes")));
  }
  const { i, j } = cell,
    about = row => [
      d.tokens[row],
      d.part[row],
      d.span_id[row],
      d.position_ids[row],
      d.block_position_ids[row],
    ];
  if (!isNews(card, i, j, about(i), about(j), d.kind[i][j], d.part_a_len, Boolean(app.state.pin))) return;
  const rule = d.rule[i][j],
    { code, meaning } = DATA.words.rules[rule];
  const line = (term, ...what) => [el("dt", null, term), el("dd", null, what)];
  const who = (role, row) => {
    const span = d.span_id[row],
      token = el("span", { dataset: span >= 0 ? spanData(span) : {} }, tokenEl(d.tokens[row]));
    const where = tell("row", {
      row,
      part: DATA.words.parts[d.part[row]],
      span: span < 0 ? "" : tell("row span", { k: span + 1 }),
      position: d.position_ids[row],
      block: d.block_position_ids[row],
    });
    return line(el("span", { class: role }, tell(role)), token, where);
  };
  const source = DATA.rule.trim().split("\n").pop().trim(); // the line of Python that returns
  fill(
    card,
    el(
      "p",
      { class: "verdict" },
      swatch(d.kind[i][j]),
      el("b", null, stateOfCell(d, i, j)),
      " ",
      tokenEl(d.tokens[i]),
      tell("verdict"),
      tokenEl(d.tokens[j]),
      app.state.pin && el("span", { class: "pin" }, tell("pinned")),
    ),
    el("p", { id: "why" }, legible(app.why(i, j))),
    el(
      "dl",
      null,
      who("query", i),
      who("key", j),
      line(tell("kind"), el("span", { id: "kind" }, d.kind[i][j])),
      line(
        tell("rule"),
        el("code", { id: "rule" }, rule),
        tell("where"),
        el("code", null, code),
        tell("means", { meaning: ofGlm(meaning) }),
      ),
      line(
        tell("code"),
        el("code", null, source),
        ` = max(${d.part_a_len}, ${i} + 1) = ${keysOfRow(i, d.part_a_len)}`,
      ),
    ),
  );
}

// ---- the page ---------------------------------------------------------------------------------------------

// Paper is light: canvases are painted again before and after printing.
function startTheme() {
  const root = document.documentElement,
    system = prefers("color-scheme: dark");
  const isDark = () => (root.dataset.theme ? root.dataset.theme === "dark" : system.matches);
  const nameTheme = () => (byId("theme").textContent = tell(isDark() ? "light" : "dark"));
  const drawTheme = () => {
    nameTheme();
    compared = []; // a canvas keeps the colours it was painted with
    draw();
  };
  const turn = theme => {
    if (theme) root.dataset.theme = theme;
    else delete root.dataset.theme;
    drawTheme();
  };
  let chosen = recall("theme");
  if (chosen === "dark" || chosen === "light") root.dataset.theme = chosen;
  byId("theme").addEventListener("click", () => {
    turn(isDark() ? "light" : "dark");
    remember("theme", root.dataset.theme);
  });
  const lighten = () => {
    chosen = root.dataset.theme;
    turn("light");
    drawCompareNow();
  };
  addEventListener("beforeprint", lighten, app.spoken);
  addEventListener("afterprint", () => turn(chosen), app.spoken);
  system.addEventListener("change", drawTheme, app.spoken);
  nameTheme();
}

// What the browser keeps for this page, where it may: not in the frame of a notebook.
function remember(key, value) {
  try {
    localStorage.setItem(`minglm-${key}`, value);
  } catch {
    /* then it is asked again */
  }
}

function recall(key) {
  try {
    return localStorage.getItem(`minglm-${key}`);
  } catch {
    return null;
  }
}

// ---- the language -----------------------------------------------------------------------------------------

const isScript = node => node.nodeName === "SCRIPT";
const BODY = [...document.body.children].filter(node => !isScript(node)).map(node => node.cloneNode(true));
const KEPT = ["sample-ratio", "sample-mean", "sample-seed"]; // fields whose values are no part of the state

function nameParts() {
  document.documentElement.lang = Object.keys(DATA.languages).find(
    code => DATA.languages[code] === DATA.words,
  );
  document.title = tell("title");
  for (const node of document.querySelectorAll("[data-t]")) node.textContent = tell(node.dataset.t);
  for (const node of document.querySelectorAll("[data-label]"))
    node.setAttribute("aria-label", tell(node.dataset.label));
  const others = Object.entries(DATA.languages).filter(([, words]) => words !== DATA.words);
  byId("languages").append(
    ...others.map(([lang, { language }]) =>
      button(language, () => speakAnew(lang), { lang, id: `to-${lang}` }),
    ),
  );
}

function speakAnew(language) {
  speak(language);
  byId("languages").firstChild.focus();
  keepInAddress();
}

// Build the page once more in another language; its state stays.
function speak(language) {
  const top = scrollY,
    open = [...document.querySelectorAll("details")].map(node => node.open),
    values = KEPT.map(id => byId(id).value);
  pause();
  app.spoken.abort();
  DATA.words = DATA.languages[language];
  for (const node of [...document.body.children]) if (!isScript(node)) node.remove();
  document.body.prepend(...BODY.map(node => node.cloneNode(true)));
  for (const model of Object.keys(family)) delete family[model];
  Object.assign(app, { addressed: [], derivation: derive(app.state, DATA.words) });
  compared = [];
  build();
  KEPT.forEach((id, n) => (byId(id).value = values[n]));
  draw();
  startOthers();
  document.querySelectorAll("details").forEach((node, n) => (node.open = open[n]));
  scrollTo({ top, behavior: "instant" });
}

// The text with its blanks goes to the lab, which has no answers for them.
function toModel() {
  const { text, spans, objective, tokenizer } = app.state,
    mask = Object.keys(TYPED).find(typed => TYPED[typed] === MASK_NAMES[objective]);
  const pieces = text.flatMap((token, i) => {
    const span = spans.find(([start, end]) => start <= i && i < end);
    if (!span) return token;
    return i > span[0] ? [] : Object.hasOwn(TYPED, token) ? token : mask;
  });
  app.lab.take((tokenizers[tokenizer] ?? tokenizers.characters).join(pieces));
  showRegion("model");
}

// ---- the page ---------------------------------------------------------------------------------------------

// Everything that is made once for each language.
function build() {
  app.spoken = new AbortController();
  nameParts();
  startText();
  startChips();
  startSampling();
  startOrder();
  startPlayer();
  startLanes();
  startMask();
  startCompare();
  startShare();
  startTheme();
  byId("model").hidden = !DATA.model;
  byId("siblings").hidden = !DATA.siblings;
  startWays();
}

// The regions, within reach at the top of a page that begins with others than the text.
function startWays() {
  const isThere = ([id]) => byId(id) && !byId(id).hidden,
    ways = Object.entries(DATA.words.page.ways).filter(isThere);
  if (ways[0][0] !== "sentence")
    byId("ways").append(...ways.map(([id, name]) => button(name, () => showRegion(id))));
}

function startPage() {
  const { text, spans, order, objective } = DATA.derivation;
  app.derivation = DATA.derivation;
  build();
  const { hash } = location; // before the first state is written to it
  app.address = new URLSearchParams(hash.slice(1));
  set({ text, spans, order, objective, tokenizer: tokenizerOf(text), pin: DATA.pin });
  readAddress(hash);
  addEventListener("popstate", goToAddress);
  startOthers();
}

// The regions that stand on this one.
function startOthers() {
  if (DATA.siblings) byId("siblings").append(siblingsPanel(DATA.siblings));
  if (DATA.model) app.lab = startLab(byId("model"), app, app.lab);
  if (DATA.model?.kind === "live")
    byId("chips-help").after(button(tell("to model"), toModel, { id: "to-model" }));
  if (byId("story")) startStory(byId("story"), app);
}

queueMicrotask(startPage); // after all scripts have been read
