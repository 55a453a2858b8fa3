// Region 6: other models on the same text. The pair of words under the pointer is marked in every picture.

const BESIDE = ["bert", "gpt", "prefix", "unilm", "t5"];
const family = {}; // {model: {figure, sight, matrix, derivation}} of the models shown
const LONGEST_SIGHT = 40; // tokens of a text that stands below each picture

function startCompare() {
  const boxes = byId("beside-choice").getElementsByTagName("input");
  const choose = () => set({ beside: BESIDE.filter((_, n) => boxes[n].checked) });
  const tick = name =>
    el(
      "label",
      null,
      el("input", { type: "checkbox", value: name, onchange: choose }),
      DATA.words.models[name].name,
    );
  byId("beside-choice").append(
    ...BESIDE.map(tick),
    el(
      "label",
      { class: "apart" },
      el("input", {
        type: "checkbox",
        id: "only",
        onchange: event => set({ only: event.target.checked }),
      }),
      tell("only"),
    ),
  );
}

// The cell of another model in which the same pair of words meets, or null.
function linkedCell(from, { i, j }, to) {
  const [a, b] = [from.word[i], from.word[j]];
  if (a < 0 || b < 0) return null;
  const cell = { i: to.word.indexOf(a), j: to.word.indexOf(b) };
  return cell.i < 0 || cell.j < 0 ? null : cell;
}

function drawCompare() {
  const { beside, only, text, spans } = app.state,
    glm = app.derivation,
    models = ["glm", ...beside];
  for (const box of byId("beside-choice").getElementsByTagName("input"))
    box.checked = beside.includes(box.value);
  byId("only").checked = only;
  const order = range(0, spans.length); // other models have no order
  const derivations = [glm, ...beside.map(model => derive({ text, spans, order, model }, DATA.words))];
  for (const model of Object.keys(family)) if (!models.includes(model)) delete family[model];
  models.forEach((model, n) => {
    family[model] ??= newMember(model);
    family[model].derivation = derivations[n];
  });
  const differs = (d, cell, others) =>
    others.some(other => {
      const there = linkedCell(d, cell, other);
      return there !== null && other.mask[there.i][there.j] !== d.mask[cell.i][cell.j];
    });
  const canvas = derivations.some(d => d.tokens.length > 24);
  const home = byId("family"),
    figures = models.map(model => family[model].figure);
  if (!areSame([...home.children], figures)) fill(home, figures);
  for (const model of models) {
    const { matrix, derivation: d } = family[model],
      others = model === "glm" ? derivations.slice(1) : [glm];
    matrix.draw(viewOf(d, { canvas, faded: (i, j) => only && !differs(d, { i, j }, others) }));
    drawSight(family[model].sight, d);
  }
  drawFacts(models);
}

// Roles are explicit: on narrow screens the table is laid out as blocks and would lose them.
function drawFacts(models) {
  if (!isNews(byId("facts"), models)) return;
  const { model: head, ...facts } = DATA.words.page.facts,
    columns = Object.entries(facts);
  fill(
    byId("facts"),
    el(
      "table",
      { class: "facts", role: "table" },
      el(
        "thead",
        { role: "rowgroup" },
        el(
          "tr",
          { role: "row" },
          el("th", { scope: "col", role: "columnheader" }, head),
          columns.map(([, name]) => el("th", { scope: "col", role: "columnheader" }, name)),
        ),
      ),
      el(
        "tbody",
        { role: "rowgroup" },
        models.map(model =>
          el(
            "tr",
            { role: "row" },
            el("th", { scope: "row", role: "rowheader" }, DATA.words.models[model].name),
            columns.map(([key, name]) =>
              el("td", { role: "cell", dataset: { name } }, DATA.words.models[model][key]),
            ),
          ),
        ),
      ),
    ),
  );
}

function newMember(model) {
  const host = el("div", { class: "scroller" }),
    { name } = DATA.words.models[model];
  const sight = el("div", { class: "sight", "aria-hidden": true }); // #linked says it in words
  const figure = el(
    "figure",
    { dataset: { model } },
    el("figcaption", null, el("b", null, name)),
    host,
    sight,
  );
  const matrix = createMatrix(host, {
    label: tell("mask of", { name }),
    largest: 22,
    onPoint: cell => point(model, cell),
  });
  return { figure, sight, matrix };
}

// The text below a picture, as this model reads it: a blanked word may be an [M].
function drawSight(sight, d) {
  const words = d.text.map((token, n) => d.tokens[d.word.indexOf(n)] ?? token),
    isShown = words.length <= LONGEST_SIGHT;
  refill(sight, isShown ? words : [], n => tokenEl(words[n]));
}

// Light the words that a word sees in this model: the text is what one reads, a matrix is not.
function lightSight({ sight, derivation: d }, word) {
  const row = d.word.indexOf(word);
  [...sight.children].forEach((node, n) => {
    const column = d.word.indexOf(n);
    node.classList.toggle("lit", word >= 0 && row >= 0 && column >= 0 && d.mask[row][column]);
    node.classList.toggle("asks", n === word);
  });
}

// Mark the same pair of words in every matrix; a row without a word, such as [S], has no counterpart.
function link(cell, d) {
  const told = [];
  for (const model of ["glm", ...app.state.beside]) {
    const { matrix, derivation: there } = family[model];
    const to = !cell ? null : d === there ? cell : linkedCell(d, cell, there);
    matrix.mark(to);
    lightSight(family[model], cell ? d.word[cell.i] : -1);
    const { name } = DATA.words.models[model];
    told.push(
      to ? tell("of model", { name, state: stateOfCell(there, to.i, to.j) }) : tell("no pair", { name }),
    );
  }
  write(byId("linked"), cell ? says(cell, d, told) : tell("link"));
}

function says({ i, j }, d, told) {
  const { text } = app.derivation,
    [a, b] = [d.word[i], d.word[j]];
  if (a >= 0 && b >= 0)
    return tell("linked", { pair: pair(text[a], text[b]), models: told.join(DATA.words.comma) });
  return tell("alone", { pair: pair(d.tokens[i], d.tokens[j]), ...DATA.words.models[d.model] });
}
