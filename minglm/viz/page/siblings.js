/* The same blanks, filled by three siblings: one network that learned the same sentences as
   GLM, as GPT and as BERT. It needs glm.js; only the panel needs dom.js.

   siblings = glmSiblings(spec)   spec: what siblings.py made. {glm, gpt, bert}: a GlmModel each
   fillAs(family, model, text, lengths) -> {text, steps, reading}   greedily, as each family can
       lengths: the tokens of each blank, which BERT and GPT have to be told; GLM finds the end itself
       steps: [{row, token, text, p, top: [{id, text, p}]}]   row: the one that predicts the token
       reading: its last reading; BERT has one for all blanks, GPT and GLM grow theirs by a row per token
   siblingsPanel(spec) -> an element: the questions of the spec, with the three answers side by side */
const { glmSiblings, fillAs, siblingsPanel } = (() => {
  "use strict";

  const TOP = 4;

  function glmSiblings({ tokenizer, models }) {
    return Object.fromEntries(
      Object.entries(models).map(([name, spec]) => [name, glmModel({ ...spec, tokenizer })]),
    );
  }

  function fillAs(family, model, text, lengths) {
    return { glm: fillAsGlm, gpt: fillAsGpt, bert: fillAsBert }[family](model, text, lengths);
  }

  // Part B: each blank begins with [S] and ends where the model says [E].
  function fillAsGlm(model, text) {
    const session = model.session(text, { k: TOP }),
      steps = [];
    while (!session.done) {
      const { row, token, text, logProbability, top } = session.step();
      steps.push({ row, token, text, p: Math.exp(logProbability), top });
    }
    return {
      text: session
        .pieces()
        .map(({ text }) => text)
        .join(""),
      steps,
      reading: session.reading,
    };
  }

  // No Part A: each token is predicted by the row before it, which sees only what is on its left.
  function fillAsGpt(model, text, lengths) {
    const reading = model.begin(0),
      steps = [];
    let blank = 0;
    for (const id of asDocument(model, text)) {
      if (!model.tokenizer.isMask(id)) {
        readMore(reading, [id]);
        continue;
      }
      for (let n = lengths[blank++]; n > 0; n--) {
        steps.push(guess(reading, reading.T - 1));
        readMore(reading, [steps.at(-1).token]);
      }
    }
    return { text: textOf(model, reading.tokens), steps, reading };
  }

  // All of it is Part A: one [MASK] for each token, and no mask sees what another one becomes.
  function fillAsBert(model, text, lengths) {
    let blank = 0;
    const masked = asDocument(model, text).flatMap(id =>
      model.tokenizer.isMask(id) ? Array(lengths[blank++]).fill(id) : [id],
    );
    const reading = model.begin(masked.length),
      filled = [...masked];
    readMore(reading, masked);
    const rows = [...masked.keys()].filter(row => model.tokenizer.isMask(masked[row]));
    const steps = rows.map(row => guess(reading, row));
    for (const { row, token } of steps) filled[row] = token;
    return { text: textOf(model, filled), steps, reading };
  }

  function asDocument({ tokenizer }, text) {
    return [tokenizer.special.cls, ...tokenizer.encode(text, true), tokenizer.special.eos];
  }

  function textOf({ tokenizer }, tokens) {
    return tokenizer.decode(tokens.filter(id => tokenizer.isText(id)));
  }

  // One position after the other; the second position says nothing in BERT and GPT.
  function readMore(reading, tokens) {
    reading.extend({
      tokens,
      position_ids: tokens.map((_, n) => reading.T + n),
      block_position_ids: tokens.map(() => 0),
    });
  }

  function guess(reading, row) {
    const { num_layers } = reading.model.config,
      { top } = reading.saying(row, num_layers, TOP),
      [{ id, text, p }] = top;
    return { row, token: id, text, p, top };
  }

  // ---- the panel ------------------------------------------------------------------------------------------

  let models = null,
    asked = 0; // the question in view

  function siblingsPanel(spec) {
    const siblings = (models ??= glmSiblings(spec)),
      words = DATA.words.siblings,
      answers = el("div", { class: "sib-answers", "aria-live": "polite" });
    const buttons = spec.questions.map(question =>
      button(question.text, () => show(question), { class: "mono" }),
    );
    const show = question => {
      asked = spec.questions.indexOf(question);
      buttons.forEach((node, n) => node.setAttribute("aria-pressed", spec.questions[n] === question));
      answers.replaceChildren(
        ...Object.entries(siblings).map(([name, model]) => answerOf(name, model, question)),
      );
    };
    show(spec.questions[asked]);
    return el(
      "div",
      { class: "sib" },
      el("div", { class: "sib-questions", role: "group", "aria-label": words.question }, buttons),
      answers,
    );
  }

  function answerOf(family, model, { text, lengths, right }) {
    const filled = fillAs(family, model, text, lengths),
      { about, right: yes, wrong: no } = DATA.words.siblings,
      good = right.includes(filled.text);
    return el(
      "section",
      { class: "sib-answer", dataset: { family, right: good } },
      el("h3", null, DATA.words.models[family].name),
      el("p", { class: "sib-about" }, about[family]),
      el("p", { class: "sib-text" }, el("bdi", null, filled.text)),
      el("p", { class: "sib-verdict" }, good ? yes : no),
      el(
        "ol",
        { class: "sib-steps" },
        filled.steps.map(({ top }) =>
          el(
            "li",
            null,
            top.map(one => barOf(one, model.tokenizer.special.eop)),
          ),
        ),
      ),
    );
  }

  // One candidate; eop: the token that ends a blank, shown by its short name.
  function barOf({ id, text, p }, eop) {
    const bar = el("span", { class: "sib-bar" });
    bar.style.inlineSize = `${100 * p}%`;
    return el(
      "span",
      { class: "sib-candidate" },
      el("bdi", { class: "mono" }, id === eop ? "[E]" : text),
      el("span", { class: "sib-track" }, bar),
      el("span", { class: "sib-p" }, `${Math.round(100 * p)} %`),
    );
  }

  return { glmSiblings, fillAs, siblingsPanel };
})();
