// The story "Break the mask": five short chapters before the instrument, in frames. Its words are
// DATA.words.story. A frame is drawn from the state alone; tokens that move fly to their new place.
//
//   startStory(section, app)    again in another language: it goes on where it was
const startStory = (() => {
  let W = DATA.words.story;
  const { text, spans, order } = W,
    LAYERS = 2,
    YOU = 6; // the row that the reader is
  const glm = derive({ text, spans, order }, DATA.words),
    A = glm.part_a_len,
    T = glm.tokens.length;
  const families = {
    glm,
    ...Object.fromEntries(
      ["bert", "gpt"].map(model => [model, derive({ text, spans, order, model }, DATA.words)]),
    ),
  };
  const FLIGHT = 650,
    ROW = 260; // ms of a flight, and until the next row of the mask
  const names = W.frames.map(([name]) => name),
    is = (...some) => some.includes(names[at.frame]);
  const quoted = (rows, d = glm) => rows.map(i => `“${d.tokens[i]}”`).join(DATA.words.comma);

  // picks: rows of the quiz; holes: open cells "i,j" of the mask; off: positions switched off; light: a row
  // or null
  const at = {
    frame: 0,
    guess: "",
    picks: new Set([YOU]),
    holes: new Set(),
    off: new Set(),
    family: "glm",
    light: null,
  };
  const ui = { timer: null };

  // ---- frames ---------------------------------------------------------------------------------------------

  function go(to, byHand = true) {
    const frame = Math.max(0, Math.min(names.length - 1, to)),
      ahead = frame > at.frame;
    if (byHand) stopPlay();
    Object.assign(at, { frame, light: null });
    if (!is("break", "leak", "cheat")) at.holes.clear();
    if (is("leak") && !at.holes.size) at.holes.add(`4,${YOU + 1}`);
    draw(ahead);
    reveal();
  }

  function draw(isNew = false) {
    const before = places();
    drawText();
    drawBoard();
    drawExtras();
    drawMask(isNew);
    ui.training.show(is("cheat"));
    drawPlayer();
    fly(before);
    drawPath();
  }

  function drawText() {
    const [name, chapter, sentence] = W.frames[at.frame];
    ui.box.dataset.frame = name;
    ui.sentence.textContent = sentence;
    [...ui.chapters.children].forEach(({ firstChild: tab }, n) =>
      tab.setAttribute("aria-current", n === chapter ? "step" : "false"),
    );
  }

  // A token of the board. row: {token, key: what it keeps while it moves, span}
  function word({ token, key, span = -1, ...more }, small = [], attributes = {}) {
    const { tag = "span", dataset, ...rest } = attributes;
    return el(
      tag,
      {
        class: "word",
        ...(tag === "button" && { type: "button" }),
        ...rest,
        dataset: { key, ...(span >= 0 && spanData(span)), ...more, ...dataset },
      },
      tokenEl(token),
      small.map(line => el("small", null, line)),
    );
  }

  function keyOf(d, i) {
    const span = d.span_id[i];
    return d.word[i] >= 0 ? `w${d.word[i]}` : d.part[i] === "A" ? `m${span}` : `s${span}`;
  }

  function spanOf(i) {
    return spans.findIndex(([start, end]) => start <= i && i < end);
  }

  function lane(name, ...words) {
    return words.flat().length
      ? el(
          "div",
          { class: "lane", role: "group", "aria-label": name },
          el("span", { class: "lane-name", "aria-hidden": true }, name),
          el("div", { class: "words" }, words),
        )
      : null;
  }

  function drawBoard() {
    ui.board.hidden = is("cheat");
    const inText = i =>
      word({ token: text[i], key: `w${i}`, span: is("spans", "fill", "answer") ? spanOf(i) : -1 });
    const hole = word({ token: "?", key: "hole", hole: true });
    const { A: nameA, B: nameB, cut, text: nameText } = W.parts;
    if (is("ask", "answer", "spans", "fill")) {
      const shown = text.map((_, i) =>
        is("ask") && spanOf(i) === 0
          ? hole
          : is("answer") && spanOf(i) === 1
            ? word({ token: text[i], key: `w${i}` })
            : inText(i),
      );
      return fill(ui.board, lane(nameText, shown), ui.over);
    }
    const d = is("mask") ? families[at.family] : glm,
      of = part => range(0, d.tokens.length).filter(i => d.part[i] === part);
    if (is("part_a")) {
      const pieces = text
        .map((_, i) => i)
        .filter(i => spanOf(i) >= 0)
        .map(inText);
      pieces.forEach((node, n) => Object.assign(node.dataset, spanData(n === 0 ? 0 : 1)));
      return fill(
        ui.board,
        lane(
          nameA,
          of("A").map(i => rowEl(d, i)),
        ),
        lane(cut, pieces),
        ui.over,
      );
    }
    const [a, b] = d === glm ? [nameA, nameB] : [nameText, nameText];
    fill(
      ui.board,
      lane(
        a,
        of("A").map(i => rowEl(d, i)),
      ),
      lane(
        b,
        of("B").map(i => rowEl(d, i)),
      ),
      ui.over,
    );
  }

  // A row of a sample on the board: a token, with what the frame says of it.
  function rowEl(d, i) {
    const row = { token: d.tokens[i], key: keyOf(d, i), span: d.span_id[i] },
      small = [],
      dataset = { i },
      target = d.targets[i];
    if (is("learns", "break", "leak") && target) small.push(`→ ${target}`);
    if (is("quiz", "rule")) return quizEl(row, i);
    if (is("mask")) {
      const light = to => () => ((at.light = to), drawLight());
      if (target && d.part[i] === "B") small.push(`→ ${target}`);
      return word(row, small, {
        tag: "button",
        dataset,
        onpointerenter: light(i),
        onfocus: light(i),
        onclick: light(i),
      });
    }
    if (is("positions")) {
      const numbers = numbersOf(i),
        same = range(0, T).filter(j => j !== i && twins(i, j));
      small.push(...numbers);
      if (same.length) dataset.twin = true;
    }
    if (is("leak", "break") && cheaters(glm, maskNow(), LAYERS).includes(i)) dataset.knows = true;
    return word(row, small, { dataset });
  }

  // ---- who may look ---------------------------------------------------------------------------------------

  function quizEl(row, i) {
    const may = glm.mask[YOU][i],
      chosen = at.picks.has(i),
      mark = !is("rule") ? "" : may ? (chosen ? "right" : "missed") : chosen ? "wrong" : "";
    const name = format(W.toggle, {
      token: row.token,
      part: W.parts[glm.part[i]],
      state: W.states[mark],
    }).replace(/[,，] ?$/, "");
    const glyph = { right: "✓", missed: "+", wrong: "✗" }[mark] ?? "";
    const flip = () => {
      if (i === YOU) return;
      if (!at.picks.delete(i)) at.picks.add(i);
      draw();
    };
    const dataset = { mark, ...(i === YOU && { you: true }) };
    return is("rule")
      ? word(row, [glyph], { dataset, "aria-label": name, role: "img" })
      : word(row, [i === YOU ? W.you : chosen ? "✓" : ""], {
          tag: "button",
          "aria-pressed": String(chosen),
          "aria-label": name,
          dataset,
          onclick: flip,
        });
  }

  function verdict() {
    const rows = range(0, T),
      missed = rows.filter(i => glm.mask[YOU][i] && !at.picks.has(i));
    const wrong = rows.filter(i => !glm.mask[YOU][i] && at.picks.has(i)),
      later = wrong.filter(i => i > YOU + 1);
    const lines = [
      at.picks.size > 1 && missed.length > 0 && format(W.missed, { tokens: quoted(missed) }),
      wrong.includes(YOU + 1) && W.answer,
      later.length > 0 && format(W.later, { tokens: quoted(later) }),
      !missed.length && !wrong.length && format(W.perfect, { n: at.picks.size }),
    ];
    return lines.filter(Boolean).join(" ");
  }

  // ---- the mask, and what is opened -----------------------------------------------------------------------

  function maskNow() {
    return glm.mask.map((row, i) => row.map((open, j) => open || at.holes.has(`${i},${j}`)));
  }

  function drawMask(isNew) {
    ui.aside.hidden = !is("mask", "break", "leak");
    if (ui.aside.hidden) return;
    const d = is("mask") ? families[at.family] : glm,
      isLeak = (i, j) => d === glm && at.holes.has(`${i},${j}`);
    const state = (i, j) => W.cells[isLeak(i, j) ? "leak" : d.mask[i][j] ? "open" : "shut"];
    ui.matrix.draw({
      rows: d.tokens.map((token, i) => ({ token, span: d.span_id[i], positions: [] })),
      partALen: d.part_a_len,
      kind: (i, j) => (isLeak(i, j) ? "leak" : d.kind[i][j]),
      describe: (i, j) => format(W.cell, { query: d.tokens[i], key: d.tokens[j], state: state(i, j) }),
    });
    const lines = [...ui.grid.querySelectorAll("tbody tr")];
    still(lines);
    if (isNew && is("mask")) {
      lines.forEach((line, i) =>
        moves(line, [{ opacity: 0 }, { opacity: 1 }], { duration: ROW, delay: i * ROW, fill: "backwards" }),
      );
    }
    drawLight();
  }

  // Light what the row in `at.light` sees, in the words and in the mask.
  function drawLight() {
    if (!is("mask")) return ui.matrix.mark(null);
    const d = families[at.family],
      i = at.light,
      target = i === null ? "" : d.targets[i];
    for (const node of ui.board.querySelectorAll("[data-i]")) {
      const j = Number(node.dataset.i);
      node.classList.toggle("lit", i !== null && d.mask[i][j]);
      node.classList.toggle("unlit", i !== null && !d.mask[i][j]);
      node.classList.toggle("looks", i === j);
    }
    ui.matrix.mark(i === null ? null : { i, j: i });
    ui.sight.textContent =
      i === null
        ? ""
        : format(W.sees, {
            token: quoted([i], d),
            n: d.mask[i].filter(Boolean).length,
            all: d.tokens.length,
            says: target ? format(W["and says"], { target }) : "",
          });
  }

  function open(...cells) {
    for (const [i, j] of cells) if (!glm.mask[i][j]) at.holes.add(`${i},${j}`);
    draw();
  }

  // What the opened cells do: the shortest way of an answer to the row that has to say it, or null.
  function leak() {
    const mask = maskNow(),
      paths = answers(glm)
        .map(([i, j]) => pathOf(mask, i, j))
        .filter(path => path && path.length - 1 <= LAYERS);
    return (
      paths.sort((a, b) => a.length - b.length || Number(b.at(-1) === YOU) - Number(a.at(-1) === YOU))[0] ??
      null
    );
  }

  function leakLines() {
    const path = leak(),
      all = answers(glm).length;
    const counts = range(1, LAYERS + 1).map(n =>
      format(W.after, {
        layers: count(n, "layer"),
        n: cheaters(glm, maskNow(), n).length,
        all,
      }),
    );
    const told = !at.holes.size
      ? W.closed
      : path
        ? format(W.path, {
            path: path.map(i => `“${glm.tokens[i]}”`).join(" → "),
            target: glm.targets[path.at(-1)],
          })
        : W.harmless;
    return [
      el("p", { class: "leak", role: "status" }, told),
      el("p", { class: "knows" }, W.knows, counts.join(DATA.words.comma)),
    ];
  }

  // The way of the answer, as arrows over the board; the answer itself flies along it.
  function drawPath() {
    fill(ui.over);
    const path = is("leak", "break") && at.holes.size ? leak() : null;
    if (!path) return;
    const nodes = path.map(i => ui.board.querySelector(`[data-i="${i}"]`));
    // subtle: where they will stand on the board, for now some may fly
    const points = nodes.map(node => [
      node.offsetLeft + node.offsetWidth / 2,
      node.offsetTop + node.offsetHeight / 2,
    ]);
    const arrow = ([x0, y0], [x1, y1]) => {
      const length = Math.hypot(x1 - x0, y1 - y0),
        [ux, uy] = [(x1 - x0) / length, (y1 - y0) / length],
        end = 30;
      const [tx, ty] = [x1 - ux * end, y1 - uy * end],
        wing = side => `${tx - 9 * ux + side * 6 * uy} ${ty - 9 * uy - side * 6 * ux}`;
      return svg("path", {
        d: `M${x0 + ux * end} ${y0 + uy * end}L${tx} ${ty}M${wing(1)}L${tx} ${ty}L${wing(-1)}`,
      });
    };
    ui.over.append(
      svg(
        "svg",
        { "aria-hidden": true },
        points.slice(1).map((to, n) => arrow(points[n], to)),
      ),
    );
    const ghost = el("span", { class: "word ghost", "aria-hidden": true }, tokenEl(glm.tokens[path[0]]));
    ui.over.append(ghost);
    const frames = points.map(([x, y]) => ({ transform: `translate(${x}px, ${y}px) translate(-50%, -50%)` }));
    const flight = moves(ghost, frames, { duration: FLIGHT * 1.6 * path.length, easing: "ease-in-out" });
    if (flight)
      flight.finished.then(
        () => ghost.remove(),
        () => ghost.remove(),
      );
    else ghost.remove();
  }

  // ---- two positions --------------------------------------------------------------------------------------

  function numbersOf(i) {
    // Part A keeps its places: there they are the text's order
    const off = name => at.off.has(name) && i >= A;
    return [off("which") ? "–" : glm.position_ids[i], off("where") ? "–" : glm.block_position_ids[i]];
  }

  // Rows of Part B that the reader's switches have made alike: the same token, or the same place in the same
  // blank.
  function twins(i, j) {
    if (i < A || j < A || !at.off.size) return false;
    const same = numbersOf(i).join() === numbersOf(j).join(),
      isWord = row => glm.word[row] >= 0;
    return same && (glm.tokens[i] === glm.tokens[j] || (isWord(i) && isWord(j) && at.off.has("where")));
  }

  // ---- below the board ------------------------------------------------------------------------------------

  function drawExtras() {
    const parts = {
      ask: guessForm,
      answer: guessed,
      rule: () => [el("p", null, verdict())],
      mask: familyChoice,
      break: breaking,
      leak: breaking,
      positions: switches,
      fill: exits,
    };
    fill(ui.after);
    fill(ui.extras, parts[names[at.frame]]?.());
  }

  function guessForm() {
    const box = el("input", {
      type: "text",
      id: "story-guess",
      autocomplete: "off",
      spellcheck: "false",
      value: at.guess,
      oninput: () => (at.guess = box.value.trim()),
      "data-key": "guess",
    });
    const form = el(
      "form",
      { class: "row" },
      field(W.guess, box),
      el("button", { type: "submit", class: "primary" }, W.show),
    );
    form.addEventListener(
      "submit",
      event => (event.preventDefault(), go(1), ui.next.focus({ preventScroll: true })),
    );
    return [form];
  }

  function guessed() {
    const told = el("div", { class: "story-model" });
    setTimeout(() => is("answer") && fill(told, modelAnswer()));
    return [at.guess && el("p", null, format(W.guessed, { guess: at.guess })), told];
  }

  // What a live model of this page says, or nothing.
  function modelAnswer() {
    if (DATA.model?.kind !== "live") return null;
    try {
      ui.answer ??= askModel();
    } catch {
      return null; // a model that cannot read this text is no part of the story
    }
    const { answer, top } = ui.answer,
      most = top[0].p;
    const bar = ({ text: piece, p }) => {
      const line = el(
        "li",
        null,
        tokenEl(piece),
        el("span", { class: "bar" }),
        el("small", null, `${(100 * p).toFixed(1)} %`),
      );
      line.querySelector(".bar").style.setProperty("--share", p / most);
      return line;
    };
    return [el("p", null, format(W.model, { answer })), el("ol", { class: "story-bars" }, top.map(bar))];
  }

  function askModel() {
    const { model } = app.lab,
      session = model.session(W.blank, { k: 4, maxTokens: 6 }),
      { top } = session.step();
    while (!session.done) session.step();
    return { answer: session.blanks[0].text.trim(), top: top.slice(0, 4) };
  }

  function familyChoice() {
    const choose = name =>
      button(W.families[name], () => (Object.assign(at, { family: name, light: null }), draw()), {
        "aria-pressed": String(at.family === name),
        "data-key": name,
      });
    ui.sight = el("p", { class: "note story-seen", role: "status" });
    return [
      el(
        "div",
        { class: "row", role: "group", "aria-label": W.family },
        el("span", { class: "note long" }, W.family),
        Object.keys(families).map(choose),
      ),
      ui.sight,
    ];
  }

  function breaking() {
    const cells = range(0, A).flatMap(i => range(A, T).map(j => [i, j]));
    const reset = button(W.shut, () => (at.holes.clear(), draw()), {
      "data-key": "shut",
      "aria-disabled": String(!at.holes.size),
    });
    fill(
      ui.after,
      el(
        "div",
        { class: "row" },
        button(W["open one"], () => open([4, YOU + 1]), { "data-key": "one" }),
        button(W["open all"], () => open(...cells), { "data-key": "all" }),
        reset,
      ),
    );
    return leakLines();
  }

  function switches() {
    const box = name =>
      el(
        "label",
        null,
        el("input", {
          type: "checkbox",
          checked: !at.off.has(name),
          "data-key": name,
          onchange: () => {
            if (!at.off.delete(name)) at.off.add(name);
            draw();
          },
        }),
        W[name],
      );
    const told =
      at.off.size === 2
        ? "both off"
        : at.off.has("which")
          ? "which off"
          : at.off.has("where")
            ? "where off"
            : "both on";
    return [
      el("div", { class: "row switches" }, box("which"), box("where")),
      el("p", { role: "status" }, W[told]),
    ];
  }

  function exits() {
    const to = id => () => byId(id).scrollIntoView({ behavior: isCalm() ? "auto" : "smooth" });
    return [
      el(
        "div",
        { class: "row" },
        !byId("model").hidden && button(W.lab, to("model"), { class: "primary" }),
        button(W.own, to("sentence")),
      ),
    ];
  }

  // ---- motion ---------------------------------------------------------------------------------------------

  function isCalm() {
    return prefers("reduced-motion: reduce").matches;
  }

  function moves(node, frames, options) {
    return isCalm() ? null : node.animate(frames, options);
  }

  function places() {
    return new Map(
      [...ui.board.querySelectorAll(".word[data-key]")].map(node => [
        node.dataset.key,
        node.getBoundingClientRect(),
      ]),
    );
  }

  // Every token that was on the board flies from its old place to the new one; what is new appears.
  function fly(before) {
    for (const node of ui.board.querySelectorAll(".word[data-key]")) {
      const from = before.get(node.dataset.key),
        to = node.getBoundingClientRect();
      if (!from)
        moves(
          node,
          [
            { opacity: 0, transform: "scale(.7)" },
            { opacity: 1, transform: "none" },
          ],
          { duration: FLIGHT, easing: "ease-out" },
        );
      else if (from.x !== to.x || from.y - to.y > 1 || to.y - from.y > 1) {
        moves(
          node,
          [{ transform: `translate(${from.x - to.x}px, ${from.y - to.y}px)` }, { transform: "none" }],
          { duration: FLIGHT, easing: "ease-in-out" },
        );
      }
    }
  }

  // Bring into view what the frame shows: a phone's screen holds not all of it.
  function reveal() {
    const { top, bottom } = ui.box.getBoundingClientRect(),
      fits = bottom - top < innerHeight;
    if (top >= 0 && (fits ? bottom <= innerHeight : top < innerHeight / 4)) return;
    ui.box.scrollIntoView({ block: "start", behavior: isCalm() ? "auto" : "smooth" });
  }

  // ---- the player -----------------------------------------------------------------------------------------

  function play() {
    const step = () => {
      if (at.frame === names.length - 1) return stopPlay();
      go(at.frame + 1, false);
      ui.timer = setTimeout(step, readingTime(W.frames[at.frame][2]));
      drawPlayer();
    };
    if (at.frame === names.length - 1) go(0);
    ui.timer = setTimeout(step, readingTime(W.frames[at.frame][2]) / 2);
    drawPlayer();
  }

  function stopPlay() {
    clearTimeout(ui.timer);
    ui.timer = null;
    drawPlayer();
  }

  function drawPlayer() {
    ui.back.setAttribute("aria-disabled", at.frame === 0);
    ui.next.setAttribute("aria-disabled", at.frame === names.length - 1);
    fill(
      ui.play,
      el("span", { "aria-hidden": true }, ui.timer ? "❚❚" : "▶"),
      el("span", { class: "long" }, ` ${ui.timer ? W.pause : W.play}`),
    );
    ui.play.setAttribute("aria-label", ui.timer ? W.pause : W.play);
    ui.play.disabled = isCalm();
    ui.play.title = isCalm() ? W.calm : "";
    ui.place.textContent = format(W.place, { n: at.frame + 1, all: names.length });
  }

  // ---- the region -----------------------------------------------------------------------------------------

  return (section, app) => {
    W = DATA.words.story;
    const tab = (name, n) =>
      el(
        "li",
        null,
        button(
          [el("b", null, n + 1), el("span", null, ` ${name}`)],
          () => go(W.frames.findIndex(([, chapter]) => chapter === n)),
          { "aria-label": `${n + 1} ${name}` },
        ),
      );
    Object.assign(ui, {
      chapters: el("ol", { class: "story-chapters" }, W.chapters.map(tab)),
      sentence: el("p", { class: "story-sentence", "aria-live": "polite" }),
      board: el("div", { class: "story-board" }),
      over: el("div", { class: "story-over" }),
      extras: el("div", { class: "story-extras" }),
      grid: el("div"),
      after: el("div", { class: "story-after" }),
      sight: el("p"),
      training: createTraining(W.training, ui.training),
      place: el("span", { class: "note" }),
      back: button(W.back, () => go(at.frame - 1)),
      next: button(W.next, () => go(at.frame + 1), { class: "primary" }),
      play: button(W.play, () => (ui.timer ? stopPlay() : play())),
    });
    ui.aside = el("div", { class: "story-mask" }, el("div", { class: "scroller" }, ui.grid), ui.after);
    ui.matrix = createMatrix(ui.grid, {
      label: W.grid,
      largest: 30,
      onPoint: cell => is("mask") && ((at.light = cell && cell.i), drawLight()),
      onPin: cell =>
        cell &&
        is("break", "leak") &&
        (at.holes.delete(`${cell.i},${cell.j}`) ? draw() : open([cell.i, cell.j])),
    });
    ui.box = el(
      "div",
      { class: "story-box" },
      ui.chapters,
      ui.sentence,
      el(
        "div",
        { class: "story-stage" },
        el("div", { class: "story-left" }, ui.board, ui.extras),
        ui.aside,
        ui.training.node,
      ),
      el(
        "div",
        { class: "row story-player", role: "group", "aria-label": W.play },
        ui.back,
        ui.next,
        ui.play,
        ui.place,
      ),
    );
    const breakIt = () => (go(names.indexOf("leak")), ui.next.focus({ preventScroll: true }));
    const asked = W.questions.map(([question, answer], n) =>
      el(
        "details",
        null,
        el("summary", null, question),
        el("p", null, answer),
        n === 2 && button(W["break it"], breakIt),
      ),
    );
    section.append(ui.box, el("div", { class: "story-asked" }, el("h3", null, W.asked), asked));
    const resized = new ResizeObserver(drawPath);
    resized.observe(ui.board);
    prefers("reduced-motion: reduce").addEventListener("change", stopPlay, app.spoken);
    app.spoken.signal.addEventListener("abort", () => {
      stopPlay();
      resized.disconnect();
      ui.training.show(false);
    });
    draw();
  };
})();
