// Making elements, in place of a library. Every text becomes a text node, so nothing that is typed, loaded or
// trained on can become markup.

const SVG = "http://www.w3.org/2000/svg";

// el("button", {class: "chip", onclick: f}, "text", node, ...). on*: listeners; true: an empty attribute;
// null and false: no attribute.
function el(tag, attributes, ...children) {
  return dress(document.createElement(tag), attributes, children);
}

function svg(tag, attributes, ...children) {
  return dress(document.createElementNS(SVG, tag), attributes, children);
}

function dress(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (name === "dataset") Object.assign(node.dataset, value);
    else if (name === "value" || name === "checked") node[name] = value;
    else if (value !== null && value !== undefined && value !== false)
      node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...textNodes(children));
  return node;
}

function textNodes(children) {
  return children.flat(Infinity).filter(child => child !== null && child !== undefined && child !== false);
}

function byId(id) {
  return document.getElementById(id);
}

// Replace the children of a node. The focus stays where it was: on the child with the same data-key.
function fill(node, ...children) {
  return keepFocus(node, () => node.replaceChildren(...textNodes(children)));
}

function keepFocus(node, change) {
  const key = node.contains(document.activeElement) ? document.activeElement.dataset.key : undefined;
  change();
  if (key !== undefined && !node.contains(document.activeElement))
    node.querySelector(`[data-key="${CSS.escape(key)}"]`)?.focus({ preventScroll: true });
  return node;
}

// While one types, only what has changed is drawn anew. LOOKS: what each node was last drawn from.
const LOOKS = new WeakMap();

function isNews(node, ...from) {
  const look = JSON.stringify(from),
    before = LOOKS.get(node);
  LOOKS.set(node, look);
  return look !== before;
}

// Replace those children whose looks have changed. looks: for each child all that make(n) depends on.
function refill(node, looks, make) {
  const one = (look, n) => {
    const old = node.children[n];
    if (old && !isNews(old, look)) return;
    const child = make(n);
    isNews(child, look);
    if (old) old.replaceWith(child);
    else node.append(child);
  };
  return keepFocus(node, () => {
    looks.forEach(one);
    while (node.children.length > looks.length) node.lastChild.remove();
  });
}

// End the motion of nodes, where they stand.
function still(nodes) {
  for (const node of nodes) for (const motion of node.getAnimations()) motion.cancel();
}

// A text that stays the same is not spoken again.
function write(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

function button(text, onclick, attributes) {
  return el("button", { type: "button", onclick, ...attributes }, text);
}

function field(label, input) {
  return el("label", { class: "field" }, el("span", null, label), input);
}

// A readable token: spaces and control characters are visible, and its direction does not affect others.
function tokenEl(text, attributes) {
  return el("bdi", { class: "token", ...attributes }, visible(text));
}

function visible(text) {
  return legible(text).replace(/[ \u00a0\u3000]/g, "▁") || "∅";
}

// A text with its invisible characters as codes: \x1b, U+202E. A joiner is one only where it joins nothing.
function legible(text) {
  const code = c => c.codePointAt(0).toString(16);
  const hex = c => (c === "\n" ? "\\n" : c === "\t" ? "\\t" : `\\x${code(c).padStart(2, "0")}`);
  const unicode = c => (JOINERS.test(c) && text !== c ? c : `U+${code(c).toUpperCase().padStart(4, "0")}`);
  return text.replace(/[\x00-\x1f\x7f-\x9f]/g, hex).replace(INVISIBLE, unicode);
}

const INVISIBLE = /(?![\u0600-\u0605\u06dd\u070f\u08e2\u{e0020}-\u{e007f}])[\p{Cf}\p{Zl}\p{Zp}]/gu;
const JOINERS = /[\u200c\u200d]/;

// A word of a text in a sentence.
function quoted(text) {
  return `“${visible(text)}”`;
}

function prefers(what) {
  return matchMedia(`(prefers-${what})`);
}

// The data from Python: {derivation, model, language, pin}, and what is the same for every page.
const DATA = { ...JSON.parse(byId("data").textContent), ...PACKED.data };
// The words of the language that the page speaks now; ?lang= in the address comes before the file's own.
DATA.words = DATA.languages[languageOf(location)];

function languageOf({ search }) {
  const asked = new URLSearchParams(search).get("lang");
  return Object.hasOwn(DATA.languages, asked ?? "") ? asked : DATA.language;
}

// A sentence of the page, with {name} filled in.
function tell(name, values) {
  return format(DATA.words.page[name], values);
}
