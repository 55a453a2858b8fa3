// The rules of GLM again, for the page: random numbers, spans, rows, mask. No DOM, no state.
//
// Each function has a namesake in Python (in rng.py, spans.py, infilling.py, mask.py, viz/derivation.py) that
// returns the same; tests compare them. The sentences come from Python: `words` is one of
// minglm.viz.words.LANGUAGES; errors speak the language of the page, DATA.words.

const MASK32 = 0xffffffffn;

// Philox4x32-10: four 32-bit words scrambled with a key of two. BigInt in, BigInt out.
function philox([c0, c1, c2, c3], [k0, k1]) {
  for (let round = 0; round < 10; round++) {
    const p0 = c0 * 0xd2511f53n,
      p1 = c2 * 0xcd9e8d57n; // 64-bit products
    [c0, c1, c2, c3] = [(p1 >> 32n) ^ c1 ^ k0, p1 & MASK32, (p0 >> 32n) ^ c3 ^ k1, p0 & MASK32];
    [k0, k1] = [(k0 + 0x9e3779b9n) & MASK32, (k1 + 0xbb67ae85n) & MASK32];
  }
  return [c0, c1, c2, c3];
}

// A stream of random numbers from a seed and up to three numbers: new Rng(7) equals Python's Rng(7).
class Rng {
  constructor(seed, a = 0, b = 0, c = 0) {
    seed = BigInt(seed);
    this.key = [seed & MASK32, (seed >> 32n) & MASK32];
    this.counter = [0n, BigInt(a) & MASK32, BigInt(b) & MASK32, BigInt(c) & MASK32];
    this.words = [];
  }

  word() {
    if (!this.words.length) {
      this.words = philox(this.counter, this.key).map(Number).reverse();
      this.counter[0] += 1n;
    }
    return this.words.pop();
  }

  uniform() {
    return this.word() / 2 ** 32;
  }

  integer(n) {
    const limit = 2 ** 32 - (2 ** 32 % n);
    let word = this.word();
    while (word >= limit) word = this.word();
    return word % n;
  }

  shuffle(items) {
    for (let i = items.length - 1; i > 0; i--) {
      const j = this.integer(i + 1);
      [items[i], items[j]] = [items[j], items[i]];
    }
    return items;
  }
}

// ---- spans.py ---------------------------------------------------------------------------------------------

// Spans [start, end) to blank, in text order. n: tokens of the text; ends: whether a sentence ends at each.
function sampleSpans(n, objective, rng, options = {}) {
  const {
    hasCls = false,
    hasEos = false,
    maskRatio = 0.15,
    meanLength = 3,
    maxLength = 40,
    documentRatio = [0.5, 1],
    ends = [],
    startsSentence = true,
  } = options;
  const first = Number(hasCls),
    end = n - Number(hasEos);
  if (end <= first) throw fault("nothing to blank", { n });
  if (objective === "document") return [documentSpan(first, n, rng, ...documentRatio)];
  const budget = Math.max(1, Math.trunc(maskRatio * n));
  if (objective === "token") return tokenSpans(first, end, budget, rng, meanLength, maxLength);
  return sentenceSpans(wholeSentences(first, end, hasEos, ends, startsSentence), budget, rng);
}

function tokenSpans(first, end, budget, rng, meanLength, maxLength) {
  const cdf = poissonCdf(meanLength, maxLength),
    lengths = [];
  let blanked = 0;
  while (blanked < budget) {
    const room = end - first - blanked - lengths.length;
    if (room < 1) break;
    const u = rng.uniform(),
      length = Math.min(room, 1 + cdf.findIndex(p => u < p));
    lengths.push(length);
    blanked += length;
  }
  rng.shuffle(lengths);
  const free = end - first - blanked - lengths.length + 1;
  const slots = lengths.map(() => rng.integer(free + 1)).sort((a, b) => a - b);
  let shift = first;
  return slots.map((slot, k) => {
    const span = [slot + shift, slot + shift + lengths[k]];
    shift += lengths[k] + 1;
    return span;
  });
}

// P(length <= n) for n = 1, ..., maxLength - 1 under Poisson(mean) without zero; the last entry is 1.
function poissonCdf(mean, maxLength) {
  const weights = [];
  let logFactorial = 0,
    total = 0,
    sum = 0;
  for (let n = 1; n < Math.max(2, maxLength); n++) {
    logFactorial += Math.log(n);
    weights.push(Math.exp(n * Math.log(mean) - mean - logFactorial));
    total += weights[n - 1];
  }
  const cdf = weights.map(weight => (sum += weight / total));
  cdf[cdf.length - 1] = 1;
  return cdf;
}

function wholeSentences(first, end, hasEos, ends, startsSentence) {
  const spans = [];
  let start = startsSentence ? first : null;
  for (let i = first; i < end; i++) {
    if (!ends[i]) continue;
    if (start !== null) spans.push([start, i + 1]);
    start = i + 1;
  }
  if (hasEos && start !== null && start < end) spans.push([start, end]);
  return spans;
}

function sentenceSpans(sentences, budget, rng) {
  const chosen = [];
  let blanked = 0;
  for (const sentence of rng.shuffle([...sentences])) {
    if (blanked >= budget) break;
    chosen.push(sentence);
    blanked += sentence[1] - sentence[0];
  }
  return chosen.sort((a, b) => a[0] - b[0]);
}

function documentSpan(first, end, rng, minRatio, maxRatio) {
  const shortest = Math.max(1, Math.ceil(minRatio * (end - first)));
  const longest = Math.max(shortest, Math.floor(maxRatio * (end - first)));
  return [end - shortest - rng.integer(longest - shortest + 1), end];
}

// ---- infilling.py -----------------------------------------------------------------------------------------

const EOS_TEXTS = ["[EOS]", "<|endoftext|>"];
const MASK_NAMES = { token: "[M]", sentence: "[sM]", document: "[gM]" };
// blanks typed into a text: without an answer
const TYPED = { "[MASK]": "[M]", "[sMASK]": "[sM]", "[gMASK]": "[gM]" };

// Throw an error for a mistake in spans (sorted) or order.
function checkSpans(length, spans, order) {
  let end = 0;
  for (const [start, stop] of spans) {
    if (!(end <= start && start < stop && stop <= length))
      throw fault("span", { span: `${start}:${stop}`, n: length });
    end = stop;
  }
  if ([...order].sort((a, b) => a - b).some((k, i) => k !== i) || order.length !== spans.length)
    throw fault("order", { order: order.join(", "), last: spans.length - 1 });
}

// GLM's rows of a text with blanked spans: [{token, target, word, span, position, blockPosition}, ...].
function glmRows(text, spans, order, objective) {
  const partA = [],
    partB = [],
    maskPosition = [];
  let end = 0;
  const keep = (from, to) => {
    for (let i = from; i < to; i++)
      partA.push({ token: text[i], target: "", word: i, span: -1, blockPosition: 0 });
  };
  spans.forEach(([start, stop], k) => {
    keep(end, start);
    maskPosition.push(partA.length);
    partA.push({ token: MASK_NAMES[objective], target: "", word: -1, span: k, blockPosition: 0 });
    end = stop;
  });
  keep(end, text.length);
  partA.forEach((row, i) => (row.position = i));
  for (const k of order) {
    const [start, stop] = spans[k],
      words = text.slice(start, stop);
    const isTyped = words.length === 1 && Object.hasOwn(TYPED, words[0]);
    if (isTyped) partA[maskPosition[k]].token = TYPED[words[0]];
    const isCut =
      isTyped || (objective === "document" && stop === text.length && words[words.length - 1] !== "[EOS]");
    const targets = isCut ? words : [...words, "[E]"];
    targets.forEach((target, j) =>
      partB.push({
        token: j ? words[j - 1] : "[S]",
        target,
        word: j ? start + j - 1 : -1,
        span: k,
        position: maskPosition[k],
        blockPosition: j + 1,
      }),
    );
  }
  return { rows: [...partA, ...partB], partALen: partA.length };
}

// ---- viz/derivation.py: GLM's relatives on the same text --------------------------------------------------

function relativeRows(model, text, spans) {
  const first = spans.length ? spans[0][0] : text.length;
  const spanOf = text.map((_, i) => spans.findIndex(([start, end]) => start <= i && i < end));
  const plain = text.map((token, i) => ({
    token,
    target: "",
    word: i,
    span: spanOf[i],
    position: i,
    blockPosition: 0,
  }));
  const hidden = row => (row.span >= 0 ? { ...row, token: "[M]", target: row.token } : row);
  if (model === "bert") return { rows: plain.map(hidden), partALen: text.length };
  if (model === "gpt" || model === "prefix") {
    const from = model === "gpt" ? 0 : first;
    const learns = (row, i) => ({
      ...row,
      piece: 0,
      target: i + 1 >= Math.max(from, 1) ? (text[i + 1] ?? "") : "",
    });
    return { rows: plain.map(learns), partALen: from };
  }
  const special = (token, more) => ({ token, target: "", word: -1, span: -1, blockPosition: 0, ...more });
  if (model === "unilm") {
    const tail = first < text.length ? [special("[EOS]", { blockPosition: 1 })] : [];
    const s2 = plain
      .slice(first)
      .map(hidden)
      .map(row => ({ ...row, blockPosition: 1 }));
    const rows = [...plain.slice(0, first), special("[EOS]"), ...s2, ...tail];
    return { rows: rows.map((row, i) => ({ ...row, piece: 0, position: i })), partALen: first + 1 };
  }
  const encoder = plain
    .filter(row => row.span < 0 || row.word === spans[row.span][0])
    .map((row, i) =>
      row.span < 0 ? { ...row, position: i } : special(`<X${row.span}>`, { span: row.span, position: i }),
    );
  const spoken = spans.flatMap(([start, end], k) => [
    special(`<X${k}>`, { span: k }),
    ...plain.slice(start, end),
  ]);
  const decoder = [special("[S]", { span: spans.length ? 0 : -1 }), ...spoken];
  const targets = [...spoken.map(row => row.token), `<X${spans.length}>`];
  return {
    rows: [...encoder, ...decoder.map((row, i) => ({ ...row, target: targets[i], position: i }))],
    partALen: encoder.length,
  };
}

// ---- mask.py ----------------------------------------------------------------------------------------------

// How many keys row i sees: all of Part A, and Part B up to itself.
function keysOfRow(i, partALen) {
  return Math.max(partALen, i + 1);
}

function ruleOf(i, j, A) {
  if (j < A) return "part_a";
  if (i < A) return "answers";
  return j <= i ? "past" : "future";
}

function kindOf(i, j, A, pieces) {
  const open = j < keysOfRow(i, A);
  if (j < A) return i < A ? "AA" : "BA";
  if (!open) return i < A ? "AB" : "BF";
  if (pieces[i] !== pieces[j]) return "BE";
  return i === j ? "self" : "BS";
}

// ---- viz/derivation.py ------------------------------------------------------------------------------------

// What a model reads and learns when spans are blanked: the object of Python's Derivation.to_json().
function derive({ text, spans, order, objective = "token", model = "glm" }, words) {
  text = text.map(token => (EOS_TEXTS.includes(token) ? "[EOS]" : token));
  if (!text.length) throw fault("nothing");
  spans = [...spans].sort((a, b) => a[0] - b[0] || a[1] - b[1]);
  checkSpans(text.length, spans, order);
  const isGlm = model === "glm";
  const { rows, partALen: A } = isGlm
    ? glmRows(text, spans, order, objective)
    : relativeRows(model, text, spans);
  const blanks = spans
    .filter(([start, end]) => end - start === 1 && Object.hasOwn(TYPED, text[start]))
    .map(([i]) => text[i]);
  const asked = name => of(name).map(token => (blanks.includes(token) ? "?" : token));
  const pieces = rows.map(row => row.piece ?? row.span),
    of = name => rows.map(row => row[name]);
  const grid = cell => rows.map((_, i) => rows.map((_, j) => cell(i, j)));
  const d = {
    version: 2,
    model,
    objective: isGlm ? objective : "token",
    text,
    spans,
    order: isGlm ? order : spans.map((_, k) => k),
    tokens: asked("token"),
    part: rows.map((_, i) => (i < A ? "A" : "B")),
    word: of("word"),
    span_id: of("span"),
    position_ids: of("position"),
    block_position_ids: of("blockPosition"),
    second_position: { glm: "block position", unilm: "segment" }[model] ?? "",
    targets: asked("target"),
    part_a_len: A,
    mask: grid((i, j) => j < keysOfRow(i, A)),
    kind: grid((i, j) => kindOf(i, j, A, pieces)),
    rule: grid((i, j) => ruleOf(i, j, A)),
  };
  return { ...d, steps: stepsOf(d, words) };
}

// The derivation step by step: [name, sentence, what it adds to which lane].
function stepsOf(d, words) {
  const { text, spans, order, model, part_a_len: A } = d;
  const rows = d.tokens.map((_, i) => i),
    blanked = spans.flatMap(([start, end]) => range(start, end));
  const begins = rows.filter(i => i >= A && d.block_position_ids[i] === 1);
  const lights = {
    tokens: { text: range(0, text.length) },
    spans: { text: blanked },
    masks: { tokens: rows.slice(0, A) },
    order: { tokens: rows.slice(A).filter(i => !begins.includes(i)) },
    pieces: { tokens: begins, targets: rows.slice(A) },
    input: { tokens: rows },
    targets: { targets: rows },
    positions: model === "unilm" ? { position_ids: rows, block_position_ids: rows } : { position_ids: rows },
    "block positions": { block_position_ids: rows },
    mask: { mask: rows },
  };
  const facts = {
    ...words.models[model],
    text: count(text.length, "token", words),
    spans: count(spans.length, "span", words),
    blanked: blanked.length,
    part_a: count(A, "token", words),
    order: order.map(k => `s${k + 1}`).join(words.comma) || words.none,
    mask: MASK_NAMES[d.objective],
    sop: "[S]",
    eop: "[E]",
    part_a_len: A,
  };
  const film = words.steps[model === "glm" ? "glm" : "others"];
  return film.map(([name, sentence]) => [name, format(sentence, facts), lights[name]]);
}

// Why row i of a derivation may or may not see row j, in a sentence.
function why(d, i, j, words) {
  const open = Number(d.mask[i][j]),
    names = { ...words.models[d.model], key: d.tokens[j] };
  let kind = i === j ? "self" : d.kind[i][j];
  if (kind === "BF" && (!["glm", "t5"].includes(d.model) || d.span_id[i] === d.span_id[j])) kind = "BF same";
  return format(words.cell, {
    query: d.tokens[i],
    key: d.tokens[j],
    i,
    j,
    may: words.may[open],
    because: format(words.because[kind], names),
    among: words.among[open],
    part_a_len: d.part_a_len,
    n: keysOfRow(i, d.part_a_len),
  });
}

// "{a} and {b}" with a and b filled in; the values are not searched for names again.
function format(template, values) {
  return template.replace(/\{(\w+)\}/g, (_, name) => String(values[name]));
}

function count(n, what, { counts } = DATA.words) {
  return format(counts[what][n === 1 ? 0 : 1], { n });
}

// An error in the language of the page.
function fault(name, values) {
  return new Error(format(DATA.words.errors[name], values));
}

function range(from, to) {
  return Array.from({ length: Math.max(0, to - from) }, (_, i) => from + i);
}
