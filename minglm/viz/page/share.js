// Region 8: the state as an address, as JSON, as Python and as a picture.

const ADDRESS =
  location.protocol === "file:"
    ? "the address; it opens where this file is, on this computer"
    : "the address";

function startShare() {
  const save = (name, blob) => el("a", { href: URL.createObjectURL(blob), download: name }).click();
  const picture = () => drawSvg(viewOf(app.derivation, {}), "attention mask of GLM"); // complete, at any step
  const svgText = () => new XMLSerializer().serializeToString(picture());
  byId("share-buttons").append(
    button("Copy link", () => copy(ADDRESS, `${location.href.split("#")[0]}#${address()}`), {
      id: "copy-link",
    }),
    button("Copy JSON", () => copy("the JSON", JSON.stringify(app.derivation)), { id: "copy-json" }),
    button("Copy Python", () => copy("the Python", pythonOf(app.state)), { id: "copy-python" }),
    button("Save SVG", () => save("glm-mask.svg", new Blob([svgText()], { type: "image/svg+xml" })), {
      id: "save-svg",
    }),
    button("Save PNG", async () => save("glm-mask.png", await pngOf(svgText())), { id: "save-png" }),
    button("Print", () => print(), { id: "print" }),
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

async function copy(what, text) {
  byId("to-copy").value = text;
  try {
    await navigator.clipboard.writeText(text);
    byId("copy-by-hand").hidden = true;
    byId("shared").textContent = `Copied ${what}.`;
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
  if (!Object.hasOwn(MASK_NAMES, objective)) {
    throw new Error(
      `objective ${objective} is not accepted: it is one of ${Object.keys(MASK_NAMES).join(", ")}`,
    );
  }
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

let writing = null;

function keepInAddress() {
  // delayed: browsers allow about two hundred changes in half a minute
  clearTimeout(writing);
  writing = setTimeout(() => {
    try {
      history.replaceState(null, "", `#${address()}`);
    } catch {
      /* a frame or a browser that allows no addresses: the page works without */
    }
  }, 150);
}

function readAddress(hash) {
  try {
    const state = hash.replace(/^#/, "") !== address() && stateOfAddress(hash);
    const isSet = Boolean(state) && set(state);
    if (isSet) for (const { read } of app.addressed) read(new URLSearchParams(hash.slice(1)));
    return isSet;
  } catch (error) {
    complain(`address: ${error.message}`);
    return false;
  }
}
