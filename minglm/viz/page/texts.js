// Texts before the derivation: splitting into tokens, choosing and drawing spans, and the page's own texts.
// No DOM.

const LONGEST = 128; // tokens of a text

// label: its name in the table of words
const tokenizers = {
  words: { label: "words", cut: splitWords, join: joinWords },
  characters: { label: "characters", cut: splitCharacters, join: tokens => tokens.join("") },
};

// ---- texts ------------------------------------------------------------------------------------------------

// Python's str.split(): at runs of its white space, which differs slightly from JavaScript's.
const BLANKS = /[\t-\r\x1c-\x20\x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]+/u;
const JOINS = /^(?:\p{Mn}|\p{Me}|\u200d|[\u1160-\u11ff])$/u; // combines with the letter before it

const SPECIAL = "\\[[A-Za-z]+\\]|<\\|[A-Za-z]+\\|>";

// A text as tokens, as viz/typed.py splits it: at spaces; without spaces and not ASCII, into characters.
function splitWords(text) {
  const words = text.split(BLANKS).filter(Boolean);
  return words.length === 1 && /[^\x00-\x7f]/.test(words[0]) ? splitCharacters(words[0], SPECIAL) : words;
}

// Split a text into characters: a mark stays with its letter, a match of `whole` stays whole.
function splitCharacters(text, whole = "(?!)") {
  const tokens = [];
  for (const [c, special] of text.matchAll(new RegExp(`(${whole})|.`, "gsu"))) {
    const last = tokens.length - 1;
    if (last >= 0 && !special && (JOINS.test(c) || tokens[last].endsWith("\u200d"))) tokens[last] += c;
    else tokens.push(c);
  }
  return tokens;
}

function joinWords(tokens) {
  const text = tokens.join("");
  return areSame(splitWords(text), tokens) ? text : tokens.join(" ");
}

function tokenizerOf(tokens) {
  return (
    ["words", "characters"].find(name =>
      areSame(tokenizers[name].cut(tokenizers[name].join(tokens)), tokens),
    ) ?? ""
  );
}

// A text that was typed or came with an address, if its mask fits on a screen.
function fitting(tokens) {
  if (!tokens.length) throw fault("empty");
  if (tokens.length > LONGEST) throw fault("too long", { n: tokens.length, most: LONGEST });
  return tokens;
}

function areSame(list, other) {
  return list.length === other.length && list.every((item, i) => item === other[i]);
}

// ---- spans ------------------------------------------------------------------------------------------------

// The spans after one token is blanked (it joins its neighbours) or shown again (its span is split).
function toggled(spans, i) {
  const at = spans.findIndex(([start, end]) => start <= i && i < end);
  if (at >= 0) {
    const [start, end] = spans[at];
    const pieces = [
      [start, i],
      [i + 1, end],
    ].filter(([a, b]) => a < b);
    return [...spans.slice(0, at), ...pieces, ...spans.slice(at + 1)];
  }
  const left = spans.find(([, end]) => end === i),
    right = spans.find(([start]) => start === i + 1);
  const joined = [left ? left[0] : i, right ? right[1] : i + 1];
  return [...spans.filter(span => span !== left && span !== right), joined].sort((a, b) => a[0] - b[0]);
}

// A state whose typed blanks, such as [MASK], are spans of their own: they have no answer to be shown.
function withTyped(state) {
  const { text, spans, order } = state,
    isOwn = i => spans.some(([start, end]) => start === i && end === i + 1);
  const typed = text.flatMap((token, i) => (Object.hasOwn(TYPED, token) && !isOwn(i) ? [i] : []));
  if (!typed.length) return state;
  const whole = typed.reduce((all, i) => withRun(all, i, i + 1), spans);
  return { ...state, spans: whole, order: orderAfter(whole, spans, order) };
}

// The spans after a run of tokens becomes a span; the tokens leave their old spans.
function withRun(spans, from, to) {
  let rest = spans;
  for (let i = from; i < to; i++)
    if (rest.some(([start, end]) => start <= i && i < end)) rest = toggled(rest, i);
  return [...rest, [from, to]].sort((a, b) => a[0] - b[0]);
}

// An order for changed spans: each keeps the place of its old span, new ones go last.
function orderAfter(spans, oldSpans, oldOrder) {
  const places = spans.map(([start, end]) =>
    Math.min(
      ...oldSpans.map(([a, b], k) => (a < end && start < b ? oldOrder.indexOf(k) : Infinity)),
      Infinity,
    ),
  );
  return spans.map((_, k) => k).sort((a, b) => (places[a] === places[b] ? a - b : places[a] - places[b]));
}

function slices(spans) {
  return spans.map(([start, end]) => `${start}:${end}`).join(", ");
}

function parseSlices(text) {
  if (!text.trim()) return [];
  return text.split(",").map(piece => {
    const match = /^\s*(\d{1,9}):(\d{1,9})\s*$/.exec(piece);
    if (!match) throw fault("slices", { span: piece.trim() });
    return [Number(match[1]), Number(match[2])];
  });
}

// Python's sample_spans(tokens, objective, Rng(seed), has_cls=False, ...), then the order from that stream:
// draw_spans() of viz/typed.py.
function sampled(text, objective, { ratio, mean, seed }) {
  const rng = new Rng(seed),
    how = {
      maskRatio: ratio,
      meanLength: mean,
      hasEos: EOS_TEXTS.includes(text[text.length - 1]),
      ends: text.map(token => DATA.sentence_marks.some(mark => token.includes(mark))),
    };
  let spans = sampleSpans(text.length, objective, rng, how);
  // no whole sentence: the token objective, as in training
  if (!spans.length) spans = sampleSpans(text.length, (objective = "token"), rng, how);
  return { spans, order: rng.shuffle(range(0, spans.length)), objective };
}

// ---- presets: examples, and what users of GLM ask; their words are in DATA.words.presets -----------------

const PRESETS = [
  {
    id: "paper",
    text: "x1 x2 x3 x4 x5 x6",
    spans: [
      [2, 3],
      [4, 6],
    ],
    order: [1, 0],
    step: 0,
  },
  {
    id: "one",
    text: "the capital of France is the city of Paris",
    spans: [[5, 9]],
  },
  {
    id: "document",
    text: "once upon a time there lived a king [EOS]",
    spans: [[4, 9]],
    objective: "document",
  },
  {
    id: "sentence",
    text: "It rained. We stayed at home. Then the sun came out.",
    spans: [[2, 6]],
    objective: "sentence",
  },
  {
    id: "cut",
    text: "the river ran down from the hills to the",
    spans: [[3, 9]],
    objective: "document",
  },
  {
    id: "none",
    text: "nothing is hidden here",
    spans: [],
  },
  {
    id: "neighbours",
    text: "It rained. It stopped. We left.",
    spans: [
      [0, 2],
      [2, 4],
    ],
    order: [1, 0],
    objective: "sentence",
  },
  {
    id: "chatglm",
    text: "你 是 谁 ？ 我 是 一 个 模 型",
    spans: [[4, 10]],
    objective: "document",
  },
];
const QUESTIONS = [
  {
    id: "keep",
    asked: "zai-org/ChatGLM2-6B#188",
    text: "the weather is really nice and warm so we go out",
    spans: [[4, 7]],
    pin: [10, 4],
  },
  {
    id: "gmask",
    asked: "zai-org/ChatGLM-6B#498",
    text: "today the sky is blue and clear",
    spans: [[3, 7]],
    objective: "document",
    pin: [6, 3],
  },
  {
    id: "causal",
    asked: "hiyouga/ChatGLM-Efficient-Tuning#263",
    beside: ["gpt"],
    text: "question one answer one question two answer two",
    spans: [[0, 8]],
    objective: "document",
  },
  {
    id: "shape",
    asked: "zai-org/ChatGLM2-6B#542",
    text: "x1 x2 x3 x4 x5 x6",
    spans: [
      [2, 3],
      [4, 6],
    ],
    order: [1, 0],
    pin: [6, 9],
  },
];

// A preset as a patch of the state.
function stateOfPreset({ text, objective = "token", spans, order, step = LAST, pin = null, beside, id }) {
  return {
    text: splitWords(text),
    objective,
    spans,
    order: order ?? range(0, spans.length),
    tokenizer: "words",
    step,
    walk: null,
    pin,
    answer: id,
    ...(beside && { beside }),
  };
}

// What the page says about the text of a preset; asked: where a question comes from.
function answerOf(id) {
  const preset = [...PRESETS, ...QUESTIONS].find(preset => preset.id === id);
  if (!preset) return "";
  const [, answer] = DATA.words.presets[id];
  return preset.asked ? tell("asked", { answer, where: preset.asked }) : answer;
}
