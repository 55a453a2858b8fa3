// Region 8: the state as an address, as JSON, as Python and as a picture.

function startShare() {
  const save = (name, blob) => el("a", { href: URL.createObjectURL(blob), download: name }).click();
  const picture = () => drawSvg(viewOf(app.derivation, {}), tell("mask of", { name: "GLM" })); // at any step
  const isFile = location.protocol === "file:";
  const svgText = () => new XMLSerializer().serializeToString(picture());
  byId("share-buttons").append(
    button(
      tell("copy link"),
      () => copy(isFile ? "address of file" : "address", `${location.href.split("#")[0]}#${address()}`),
      { id: "copy-link" },
    ),
    button(tell("copy json"), () => copy("json", JSON.stringify(app.derivation)), { id: "copy-json" }),
    button(tell("copy python"), () => copy("python", pythonOf(app.state)), { id: "copy-python" }),
    button(tell("save svg"), () => save("glm-mask.svg", new Blob([svgText()], { type: "image/svg+xml" })), {
      id: "save-svg",
    }),
    button(tell("save png"), async () => save("glm-mask.png", await pngOf(svgText())), { id: "save-png" }),
    button(tell("print"), () => print(), { id: "print" }),
  );
}

async function pngOf(svgText, scale = 2) {
  const image = new Image();
  // the only source that the policy allows
  image.src = `data:image/svg+xml;charset=utf-8,${encodeURIComponent(svgText)}`;
  await image.decode();
  const canvas = el("canvas", { width: image.width * scale, height: image.height * scale });
  canvas.getContext("2d").drawImage(image, 0, 0, canvas.width, canvas.height);
  return new Promise(resolve => canvas.toBlob(resolve));
}

// The same derivation in Python. JSON's strings are Python's.
function pythonOf({ text, spans, order, objective }) {
  const pairs = spans.map(([start, end]) => `(${start}, ${end})`).join(", ");
  return (
    `import minglm\nfrom minglm.viz import render\n\nderivation = minglm.explain(\n` +
    `    ${JSON.stringify(text)},\n` +
    `    spans=[${pairs}],\n    order=[${order.join(", ")}],\n    objective="${objective}",\n` +
    `)\nprint(render(derivation))\n`
  );
}

// what: its name in the table of words
async function copy(what, text) {
  byId("to-copy").value = text;
  try {
    await navigator.clipboard.writeText(text);
    byId("copy-by-hand").hidden = true;
    byId("shared").textContent = tell("copied", { what: tell(what) });
  } catch {
    byId("copy-by-hand").hidden = false;
    byId("shared").textContent = "";
    byId("to-copy").select();
  }
}

// The state as the fragment of an address, and back.
function address() {
  const { text, spans, order, objective, tokenizer, step, pin, beside, only } = app.state;
  const parts = new URLSearchParams([
    ...text.map(token => ["t", token]),
    ["spans", slices(spans)],
    ["order", order.join(",")],
    ["objective", objective],
    ["cut", tokenizer],
    ["step", step],
    ["beside", beside.join(",")],
  ]);
  if (pin) parts.set("pin", pin.join(","));
  if (only) parts.set("only", 1);
  for (const { write } of app.addressed) for (const pair of write()) parts.set(...pair);
  return parts.toString();
}

function stateOfAddress(hash) {
  const parts = new URLSearchParams(hash.replace(/^#/, "")),
    part = (name, otherwise = "") => parts.get(name) ?? otherwise;
  const numbers = name => part(name).split(",").filter(Boolean).map(Number);
  if (!parts.has("t")) return null;
  const text = fitting(parts.getAll("t")),
    spans = parseSlices(part("spans")),
    pin = numbers("pin");
  const objective = part("objective", "token"),
    step = Math.trunc(Number(part("step", LAST))) || 0,
    cut = part("cut");
  if (!Object.hasOwn(MASK_NAMES, objective))
    throw fault("objective", { objective, accepted: Object.keys(MASK_NAMES).join(", ") });
  return {
    ...FINISHED,
    text,
    spans,
    order: parts.has("order") ? numbers("order") : range(0, spans.length),
    objective,
    tokenizer: Object.hasOwn(tokenizers, cut) ? cut : "",
    step: Math.max(0, Math.min(LAST, step)),
    pin: pin.length === 2 && pin.every(n => Number.isInteger(n) && n >= 0) ? pin : null,
    beside: BESIDE.filter(model => part("beside").split(",").includes(model)),
    only: parts.has("only"),
  };
}

// What an address shows of a state and does not change it: Back goes to the last change.
const VIEWS = ["step", "pin", "at", "look"];
const TYPING = 2000; // ms within which typed characters are one change
const writing = { timer: 0, typed: 0, isTyped: false, begun: false };

function keepInAddress() {
  // delayed: browsers allow about two hundred changes in half a minute
  clearTimeout(writing.timer);
  writing.timer = setTimeout(writeAddress, 150);
}

function writeAddress() {
  const [before, now] = [location.hash.slice(1), address()],
    query = queryOf(DATA.words);
  const { isTyped } = writing,
    goesOn = isTyped && Date.now() - writing.typed < TYPING,
    isNew = writing.begun && (isChange(before, now) || query !== location.search);
  Object.assign(writing, { begun: true, isTyped: false });
  if (isTyped && isNew) writing.typed = Date.now();
  const url = `${query === location.search ? "" : location.pathname + query}#${now}`;
  try {
    if (isNew && !goesOn) history.pushState(null, "", url);
    else history.replaceState(null, "", url);
  } catch {
    /* a frame or a browser that allows no addresses: the page works without */
  }
}

// Whether two addresses differ in more than what is in view, or in tokens that a model has added.
function isChange(before, now) {
  const [old, next] = [before, now].map(parts => new URLSearchParams(parts));
  const isMore = (next.get("taken") ?? "").startsWith(old.get("taken") ?? "");
  for (const name of isMore ? [...VIEWS, "taken"] : VIEWS) [old, next].forEach(parts => parts.delete(name));
  const sorted = parts => (parts.sort(), parts.toString());
  return sorted(old) !== sorted(next);
}

// The address's own query with the language in it, unless it is that of the file.
function queryOf(words) {
  const parts = new URLSearchParams(location.search);
  parts.delete("lang");
  if (words !== DATA.languages[DATA.language]) parts.set("lang", document.documentElement.lang);
  const query = parts.toString();
  return query && `?${query}`;
}

function readAddress(hash) {
  try {
    const state = hash.replace(/^#/, "") !== address() && stateOfAddress(hash);
    const isSet = Boolean(state) && set(state);
    if (isSet) for (const { read } of app.addressed) read(new URLSearchParams(hash.slice(1)));
    return isSet;
  } catch (error) {
    complain(fault("address", { error: error.message }).message);
    return false;
  }
}

// Back and Forward: the language and the state of an address that this page has had.
function goToAddress() {
  const language = languageOf(location),
    { hash } = location;
  clearTimeout(writing.timer);
  if (DATA.words !== DATA.languages[language]) speak(language);
  readAddress(hash);
}
