// The first region, if there is a model: it fills blanks in the page, token by token, and shows
// what it looks at.
//
//   Run    a text whose blanks are filled step by step. Nothing is undone: to take another token at some
//          step, or to change a word, a new run repeats the earlier steps; the old run stays to compare.
//   Lab    the controls and what they show: text, candidates, rows, steps, attention, layers.
//
// glm.js computes, a Run holds what is drawn, and ui.js calls startLab(section, app).
const startLab = (() => {
  const SAMPLING = 5; // the random stream of minglm.fill (rng.py)
  const TOP = 8,
    SHORT = 5; // number of bars, and where there is less space; also of whole fillings
  const PAUSE = 900,
    QUIET = 150; // ms between the steps of "Play", and before attention is redrawn
  // ms of work between two pictures while blanks are filled: at least, at most, and as a multiple of the time
  // that the last picture took, so that pictures never cost more than the model
  const SLICE = { least: 30, most: 250, share: 2 };
  const MOST_K = 50; // the slider of top k ends here; its right end is "all"
  const MEAN = -1; // in place of a head: the mean of all heads of a layer
  const DIALS = { temperature: 0, topK: 0, topP: 1, seed: 0 }; // at first
  const BLANKS = ["[MASK]", "[sMASK]", "[gMASK]"];
  // a blank, or a word without one
  const WORD = /\[(?:MASK|sMASK|gMASK)\]|(?:(?!\[(?:MASK|sMASK|gMASK)\])\S)+/g;
  const BUNDLED = DATA.languages.en.lab.bundled; // the name of that model
  const EXAMPLES = [
    // for the bundled model, which has read stories in simple English, and fills these well
    "The sun was shining and the birds were [MASK].",
    "It was dark, so Mia turned on the [MASK].",
    "The cat drank some [MASK] and went to [MASK].",
    "Lily saw a big dog in the park. [sMASK] They played together all day.",
    "Once upon a time, there was a little cat who lived in a big house. [gMASK]",
  ];

  const words = () => DATA.words.lab,
    say = (name, values) => format(words()[name], values);

  // ---- a run ----------------------------------------------------------------------------------------------

  class Run {
    // taken: the tokens of the first steps, which are repeated. Throws Error(one line) for an unreadable
    // text.
    constructor(model, text, dials, taken = []) {
      const rng = blank => (this.rng = new Rng(dials.seed, blank, 0, SAMPLING));
      this.session = model.session(text, { ...dials, k: TOP, rng });
      Object.assign(this, { model, text, dials, taken, steps: [], reading: this.session.reading });
    }

    get done() {
      return this.session.done;
    }

    step() {
      const token = this.taken[this.steps.length],
        { rng } = this;
      try {
        this.steps.push(this.session.step(token));
        // draw anyway, so that later steps do not change
        if (token !== undefined && this.dials.temperature > 0) rng.uniform();
      } catch {
        // the kind of blank was changed and does not allow this token: choose from here on
        this.taken = [];
        this.steps.push(this.session.step());
      }
    }

    // Step n as it was made; the next one without a choice yet; null after it.
    at(n) {
      if (n < this.steps.length) return this.steps[n];
      if (n > this.steps.length || this.done) return null;
      if (this.next?.n !== n) this.next = { n, step: this.ahead() };
      return this.next.step;
    }

    ahead() {
      const { session, reading } = this,
        { mask, position, tokens } = session.blanks[session.number],
        row = reading.T - 1;
      const mayCome = this.mayCome(tokens.length + 1, mask);
      const { top: likeliest } = reading.saying(row, this.model.config.num_layers, TOP),
        top = likeliest.map(entry => ({ ...entry, allowed: mayCome(entry.id) }));
      return { blank: session.number, mask, row, position, block_position: tokens.length + 1, top };
    }

    // P(next token) after a row, for every token: (V). Above temperature 0: what the token is drawn from.
    probabilities({ row, block_position, mask }, dials = this.dials) {
      const logits = this.reading.logits(row);
      if (dials.temperature > 0) {
        const { ids, shares, total } = pool(logits, this.mayCome(block_position, mask), dials),
          p = new Float32Array(logits.length);
        ids.forEach((id, n) => (p[id] = shares[n] / total));
        return p;
      }
      const max = logits.reduce((a, b) => Math.max(a, b)),
        p = logits.map(z => Math.exp(z - max)),
        sum = p.reduce((a, b) => a + b);
      return p.map(x => x / sum);
    }

    // Which tokens may come at a place of a blank: text, and its end from the second place on.
    mayCome(block_position, mask) {
      const { tokenizer } = this.model,
        { eop, eos } = tokenizer.special;
      return id =>
        tokenizer.isText(id) || (block_position > 1 && (id === eop || (id === eos && mask === "[gMASK]")));
    }

    // The text so far; an empty blank has its space, too, which it absorbs when it is read.
    pieces() {
      const spaces = [...this.text.matchAll(/( ?)\[(?:MASK|sMASK|gMASK)\]/g)].map(([, space]) => space);
      return this.session
        .pieces()
        .map(piece =>
          piece.blank < 0 || piece.filled
            ? piece
            : { ...piece, text: (spaces[piece.blank] ?? "") + piece.text },
        );
    }

    // The rows read so far. span: the blank that a row belongs to or is the mask of, or -1.
    rows(nameOf) {
      const { tokens, position_ids, block_position_ids } = this.reading,
        { blanks } = this.session;
      return tokens.map((id, i) => ({
        token: nameOf(id),
        positions: [position_ids[i], block_position_ids[i]],
        span: blanks.findIndex(({ position }) => position === position_ids[i]),
      }));
    }
  }

  // The bars of step n: the most likely tokens, the one taken, and those likely there in the run `before`.
  // dials: those to draw with; what they cut off has p = 0.
  function candidates(run, before, n, dials) {
    const now = run.at(n),
      then = before?.at(n),
      isDrawn = run.model.live && dials.temperature > 0;
    const p = run.model.live && run.probabilities(now, dials);
    let entries = [...now.top];
    const add = entry => entries.some(({ id }) => id === entry.id) || entries.push(entry);
    if (now.token !== undefined) add(taken(now));
    if (isDrawn) entries = entries.map(entry => ({ ...entry, p: p[entry.id] }));
    if (then?.blank !== now.blank || then.block_position !== now.block_position) return entries;
    const old = before.probabilities(then);
    for (const entry of then.top.slice(0, 3)) add({ ...entry, p: p[entry.id] });
    return entries.map(entry => ({ ...entry, before: old[entry.id] }));
  }

  function taken({ token, text, logProbability }) {
    return { id: token, text, p: Math.exp(logProbability), allowed: true };
  }

  // ---- the region -----------------------------------------------------------------------------------------

  class Lab {
    // old: the region in another language, which this one replaces
    constructor(section, app, old) {
      const spec = app.data.model,
        model = old?.model ?? glmModel(spec),
        depth = spec.config.num_layers;
      // the step, the row it looks from (null: the step's own), ...
      const view = { at: 0, row: null, layer: depth - 1, head: spec.config.num_heads > 1 ? MEAN : 0, depth };
      Object.assign(this, { app, spec, model, run: null, before: null, timers: {}, ...view });
      this.dials = { ...DIALS };
      this.nameOf = namesOf(model.tokenizer, app.data.names);
      section.classList.add("lab");
      section.append(this.about(), this.input(), this.filling(), this.attention(), this.layers());
      if (spec.tokenizer.merges) {
        app.addTokenizer("model", "model tokens", text =>
          model.tokenizer.pieces(model.tokenizer.encode(text)),
        );
      }
      this.first = model.text || EXAMPLES[0];
      app.addressed.push({ write: () => this.toAddress(), read: parts => this.fromAddress(parts) });
      app.spoken.signal.addEventListener("abort", () => this.end());
      if (old) return this.takeOver(old);
      this.take(this.first);
      this.fromAddress(app.address);
    }

    takeOver(old) {
      for (const key of ["run", "before", "at", "row", "layer", "head", "depth", "dials", "turned", "read"])
        this[key] = old[key];
      this.box.value = old.box.value;
      if (!old.error.textContent) this.complain("");
      else if (this.run?.text === this.read) this.refuse(old.refused);
      else this.start(this.box.value);
    }

    // Another language takes over.
    end() {
      this.stop();
      cancelAnimationFrame(this.painting);
      Object.values(this.timers).forEach(clearTimeout);
    }

    // -- the address of the page: text, dials, what was taken, and what is in view

    toAddress() {
      const { run, dials, at, layer, head, row } = this;
      if (!run || !this.model.live || this.untouched) return [];
      return [
        ["lab", run.text],
        ["dials", Object.values(dials).join()],
        ["taken", run.steps.map(({ token }) => token).join()],
        ["at", at],
        ["look", [layer, head, row ?? ""].join()],
      ];
    }

    get untouched() {
      return this.run?.text === this.first && !this.run.steps.length && !this.turned;
    }

    fromAddress(parts) {
      if (!this.model.live) return;
      if (!parts.has("lab") && !this.untouched) {
        Object.assign(this.dials, DIALS);
        this.turned = false;
        this.take(this.first);
      }
      if (!parts.has("lab")) return;
      const numbers = name => (parts.get(name) ?? "").split(",").map(n => (n === "" ? NaN : Number(n)));
      const { num_layers, num_heads } = this.model.config,
        isWhole = (n, from, to) => Number.isInteger(n) && n >= from && n < to;
      const [layer, head, row] = numbers("look"),
        steps = numbers("taken").filter(n => isWhole(n, 0, this.model.config.vocab_size));
      Object.keys(this.dials).forEach((key, n) => this.turn(key, numbers("dials")[n] ?? NaN, false));
      this.box.value = parts.get("lab");
      if (!this.start(this.box.value, steps)) return;
      if (isWhole(layer, 0, num_layers) && isWhole(head, MEAN, num_heads))
        Object.assign(this, { layer, head });
      this.at = isWhole(numbers("at")[0], 0, Infinity) ? numbers("at")[0] : 0;
      this.advance(steps.length, false);
      if (isWhole(row, 0, this.run.reading.T)) this.pin(row);
    }

    // -- what there is

    about() {
      const { live, name, dropped, config } = this.model,
        { num_layers, num_heads, hidden_size, vocab_size } = config;
      const size = this.spec.parameters;
      const facts = say("facts", {
        parameters: number(size),
        layers: count(num_layers, "layer"),
        heads: count(num_heads, "head"),
        width: hidden_size,
        vocabulary: number(vocab_size),
      });
      const lost = Object.entries(dropped ?? {}).filter(([, layers]) => layers.length),
        { comma } = DATA.words,
        what = lost.map(([what, layers]) =>
          format(words()["left out"][what], { layers: layers.join(comma) }),
        );
      return el(
        "p",
        { class: "lab-about" },
        el("strong", { class: "lab-badge" }, say(live ? "live" : "recorded")),
        " ",
        name && [el("bdi", { class: "mono" }, name === BUNDLED ? say("bundled") : name), say("comma")],
        facts,
        say(live ? "runs here" : "recording"),
        live && name === BUNDLED && say("read"),
        size < 5e6 && say("small"),
        what.length > 0 && format(words()["left out"].why, { what: what.join(comma) }),
      );
    }

    input() {
      const { live } = this.model;
      this.error = el("p", { class: "error", id: "lab-error", role: "alert" });
      this.box = el("textarea", {
        id: "lab-text",
        rows: 2,
        spellcheck: "false",
        readonly: !live,
        "aria-describedby": "lab-error",
        oninput: () => this.soon("typing", 350, () => this.ready()),
        onchange: () => this.ready(),
      });
      this.sliders = {
        temperature: this.slide("temperature", { min: 0, max: 2, step: 0.05 }),
        topK: this.slide("topK", { min: 1, max: MOST_K, step: 1 }),
        topP: this.slide("topP", { min: 0.05, max: 1, step: 0.05 }),
      };
      this.seed = el("input", {
        type: "number",
        value: 0,
        min: 0,
        step: 1,
        oninput: () => this.dial("seed", this.seed.value),
      });
      const examples = el(
        "select",
        { onchange: event => event.target.value && this.take(event.target.value) },
        el("option", { value: "" }, say("choose")),
        EXAMPLES.map(text => el("option", { value: text }, text)),
      );
      const label = el("label", { for: "lab-text" }, say(live ? "text" : "recorded text"));
      if (!live) return el("div", { class: "lab-panel" }, label, this.box, this.error);
      return el(
        "div",
        { class: "lab-panel" },
        label,
        this.box,
        this.error,
        el(
          "div",
          { class: "row lab-dials" },
          el(
            "div",
            { class: "lab-insert", role: "group", "aria-label": say("insert") },
            el("span", null, say("insert")),
            BLANKS.map(blank => button(blank, () => this.insert(blank), { class: "mono" })),
          ),
          field(say("example"), examples),
          Object.values(this.sliders).map(({ node }) => node),
          field(say("seed"), this.seed),
        ),
      );
    }

    // A slider of the sampling with its value in words. Moving it moves the bars; letting go fills anew.
    slide(key, attributes) {
      const label = say(key),
        value = el("output", { class: "mono" });
      const input = el("input", {
        type: "range",
        ...attributes,
        "aria-label": label,
        oninput: () =>
          this.turn(key, key === "topK" && input.valueAsNumber === MOST_K ? 0 : input.valueAsNumber),
        onchange: () => this.refill(),
      });
      return {
        input,
        value,
        node: el(
          "label",
          { class: "field lab-slide" },
          el("span", null, say("dial", { name: label }), value),
          input,
        ),
      };
    }

    // Set a dial, if the value is one of it. isHere: show what it does to the bars.
    turn(key, value, isHere = true) {
      const most = { temperature: Infinity, topP: 1 }[key] ?? Number.MAX_SAFE_INTEGER,
        isReal = ["temperature", "topP"].includes(key);
      if (!(
        value >= 0 &&
        value <= most &&
        (isReal || Number.isInteger(value)) &&
        (key !== "topP" || value > 0)
      ))
        return false;
      this.dials[key] = value;
      this.turned = true;
      this.showDials();
      if (isHere && this.run && this.error.textContent === "") this.showCandidates();
      return true;
    }

    showDials() {
      const { temperature, topK, topP, seed } = this.dials;
      const values = {
        temperature: temperature === 0 ? say("greedy") : String(Number(temperature.toFixed(2))),
        topK: topK === 0 ? say("all tokens") : say("likeliest", { n: topK }),
        topP: topP === 1 ? say("all") : say("percent", { n: Math.round(100 * topP) }),
      };
      for (const [key, { input, value }] of Object.entries(this.sliders)) {
        input.value = key === "topK" && topK === 0 ? MOST_K : this.dials[key];
        value.textContent = values[key];
        input.setAttribute("aria-valuetext", values[key]);
      }
      if (this.seed !== document.activeElement) this.seed.value = seed;
    }

    filling() {
      this.controls = {
        fill: control(say("fill"), () => this.ready() && this.advance(Infinity), { class: "primary" }),
        play: control(tell("play"), () => this.ready() && this.play()),
        back: control(tell("back"), () => this.go(this.at - 1)),
        step: control(tell("next"), () => this.ready() && this.forward()),
        reset: control(say("reset"), () => this.take(this.run.text)),
      };
      this.text = rove(el("p", { class: "lab-text", role: "group", "aria-label": say("filling") }));
      this.ghost = el("p", { class: "note lab-ghost" });
      this.letters = el("p", { class: "note lab-letters" });
      this.sentence = el("p", { class: "lab-sentence", "aria-live": "polite" });
      this.bars = el("ol", { class: "lab-bars" });
      this.parts = rove(el("div", { class: "lab-parts" }));
      this.trace = rove(el("ol", { class: "lab-trace", dataset: { empty: say("no step") } }));
      const hint = this.model.live && say("hint");
      this.search = control(say("whole"), () => this.searchWhole());
      this.whole = rove(el("ol", { class: "lab-bars" }));
      this.above = control(say("above"), () => this.showAbove());
      return el(
        "div",
        { class: "lab-panel" },
        el("div", { class: "row" }, Object.values(this.controls)),
        this.text,
        this.ghost,
        this.letters,
        el(
          "div",
          { class: "lab-two" },
          el(
            "div",
            null,
            el("h3", null, say("next")),
            this.sentence,
            this.bars,
            hint && [el("p", { class: "note" }, hint), this.search, this.whole],
          ),
          el("div", null, el("h3", null, say("rows")), this.parts, this.above),
        ),
        el("h3", null, say("trace")),
        scroller(say("trace label"), this.trace),
      );
    }

    attention() {
      this.heading = el("h3", null, say("attention"));
      this.thumbs = el("div", { class: "lab-thumbs", role: "radiogroup", "aria-label": say("heads") });
      this.cell = el("p", { class: "note lab-cell" });
      this.keysLine = el("p", { class: "lab-line" });
      this.keys = el("ol", { class: "lab-keys" });
      const host = el("div");
      this.matrix = createMatrix(host, {
        label: say("weights"),
        onPoint: cell => this.tell(cell),
        onPin: cell => cell && this.pin(cell.i),
      });
      const legend = el(
        "p",
        { class: "note" },
        say("ramp from"),
        el("span", { class: "lab-ramp" }),
        say("ramp to"),
      );
      const panel = el(
        "div",
        { class: "lab-panel" },
        this.heading,
        el(
          "div",
          { class: "lab-attention" },
          el("div", null, el("p", { class: "note" }, this.head === MEAN && say("heads about")), this.thumbs),
          el("div", null, scroller(say("matrix"), host), this.cell, legend),
        ),
        this.keysLine,
        scroller(say("keys"), this.keys),
      );
      addEventListener("beforeprint", () => this.run && this.showAttention(), this.app.spoken);
      const watch = ([{ isIntersecting }]) => (this.seen = isIntersecting) && this.run && this.showInside();
      new IntersectionObserver(watch, { rootMargin: "200px" }).observe(panel);
      return panel;
    }

    layers() {
      this.slider = el("input", {
        type: "range",
        min: 0,
        step: 1,
        oninput: () => this.run && this.showLens(Number(this.slider.value)),
      });
      this.lensLine = el("p", { class: "lab-line" });
      this.lensBars = el("ol", { class: "lab-bars" });
      this.lensTable = el("table", { class: "lab-lens" });
      return el(
        "div",
        { class: "lab-panel" },
        el("h3", null, say("layers")),
        el("p", { class: "note" }, say("layers about")),
        el("label", { class: "field lab-depth" }, el("span", null, say("depth")), this.slider),
        this.lensLine,
        el("div", { class: "lab-two" }, this.lensBars, scroller(say("lens label"), this.lensTable)),
      );
    }

    // -- what happens

    // Run `work` after `wait` ms without another call.
    soon(name, wait, work) {
      clearTimeout(this.timers[name]);
      this.timers[name] = setTimeout(work, wait);
    }

    stop() {
      cancelAnimationFrame(this.frame);
      clearTimeout(this.timers.play);
      this.playing = false;
      if (!this.found?.fillings.length) this.found = null; // a search that has not ended
    }

    // Read what has been typed, if not yet done. Returns whether it is valid, as `start` and `change` do.
    ready() {
      clearTimeout(this.timers.typing);
      return this.box.value === this.read ? this.error.textContent === "" : this.change(this.box.value);
    }

    // Read a text from its beginning.
    start(text, steps = [], before = null) {
      this.stop();
      this.read = text;
      try {
        this.run = new Run(this.model, text, { ...this.dials }, steps);
      } catch (error) {
        return this.complain(error.message);
      }
      Object.assign(this, { before, row: null });
      return this.complain("");
    }

    complain(message) {
      this.error.textContent = message;
      this.box.setAttribute("aria-invalid", String(message !== ""));
      if (this.run) this.show();
      else this.showControls();
      return message === "";
    }

    // A text from elsewhere, or the same again: there is nothing to compare it with.
    take(text) {
      this.box.value = text;
      this.at = 0;
      this.start(text);
    }

    // What if the text were this one? Repeat the steps before the one in view, choose the others anew.
    change(text) {
      const { run, before } = this;
      if (!run) return this.start(text);
      if (text === (this.read = run.text)) return this.complain("");
      const blanks = (text.match(WORD) ?? []).filter(word => BLANKS.includes(word));
      const isSame = blanks.join() === run.session.blanks.map(({ mask }) => mask).join(),
        at = isSame ? this.at : 0;
      const steps = run.steps.slice(0, at).map(({ token }) => token);
      if (!this.start(text, steps, isSame ? (before ?? run) : null)) return false;
      this.at = at;
      this.advance(run.done ? Infinity : run.steps.length, false);
      return true;
    }

    // What if it had chosen this token at the step in view?
    instead(id) {
      const { run, at, before } = this,
        steps = [...run.steps.slice(0, at).map(({ token }) => token), id];
      this.start(run.text, steps, at < run.steps.length ? run : before);
      this.advance(run.done ? Infinity : steps.length, false);
    }

    dial(key, text) {
      if (text !== "" && this.turn(key, Number(text), false)) return this.refill();
      return this.refuse(text);
    }

    // Say that a seed is not accepted.
    refuse(text) {
      this.refused = text;
      return this.complain(fault("dial", { dial: say("seed"), value: text || say("nothing") }).message);
    }

    // Fill again as far as before, with the dials as they are now.
    refill() {
      const steps = this.run?.steps.length,
        done = this.run?.done;
      this.at = 0;
      if (this.start(this.box.value) && steps) this.advance(done ? Infinity : 1);
    }

    insert(blank) {
      const { box } = this,
        { value, selectionStart: from, selectionEnd: to } = box;
      const before = /\S$/.test(value.slice(0, from)) ? " " : "",
        after = /^\w/.test(value.slice(to)) ? " " : "";
      box.setRangeText(before + blank + after, from, to, "end");
      box.focus();
      this.ready();
    }

    // Make steps until there are `wanted`, a SLICE at a time; between them only the text is drawn.
    // follow: keep the latest step in view.
    advance(wanted, follow = true) {
      this.stop();
      const { run } = this,
        more = () => !run.done && run.steps.length < wanted;
      let left = performance.now(); // the end of the last slice
      const frame = () => {
        const now = performance.now(),
          { least, most, share } = SLICE,
          end = now + Math.min(most, Math.max(least, share * (now - left)));
        do if (more()) run.step();
        while (more() && performance.now() < end);
        left = performance.now();
        if (follow) this.at = Math.max(0, run.steps.length - 1);
        if (!more()) this.at = this.n;
        if (!more()) return this.show();
        this.frame = requestAnimationFrame(frame);
        this.showControls();
        this.showText();
      };
      this.row = null;
      frame();
    }

    // The likeliest whole fillings of the blank in view: searched for in slices, too.
    searchWhole() {
      this.stop();
      const { run, step } = this,
        search = run.session.fillings(step.blank, SHORT);
      this.found = { place: this.place, fillings: [] };
      const frame = () => {
        const end = performance.now() + SLICE.least;
        let pause;
        do pause = search.next();
        while (!pause.done && performance.now() < end);
        if (!pause.done) this.frame = requestAnimationFrame(frame);
        else this.found.fillings = pause.value;
        this.showWhole();
      };
      frame();
    }

    // What the fillings of the blank in view depend on: all that comes before it.
    get place() {
      const { run, step } = this;
      return JSON.stringify([run.text, run.reading.tokens.slice(0, step.row - step.block_position + 2)]);
    }

    showWhole() {
      const isHere = this.found?.place === this.place,
        fillings = isHere ? this.found.fillings : [];
      this.search.textContent = say(isHere && !fillings.length ? "searching" : "whole");
      this.search.hidden = fillings.length > 0;
      const largest = Math.exp(fillings[0]?.logProbability);
      const bar = ({ tokens, text, logProbability, complete }, n) => {
        const p = Math.exp(logProbability);
        return button(
          [
            el("bdi", null, text.trim(), !complete && " …"),
            el("span", { class: "lab-track" }, lengthEl(p / largest, "lab-now")),
            el("span", { class: "lab-value" }, percent(p)),
          ],
          () => this.takeWhole(tokens, complete),
          { class: "lab-bar lab-wide", title: say("take"), "data-key": `whole-${n}` },
        );
      };
      fill(
        this.whole,
        fillings.length > 0 && el("li", { class: "note" }, say("whole found")),
        fillings.map((filling, n) => el("li", null, bar(filling, n))),
      );
      tabStop(this.whole);
    }

    // What if this blank were filled so?
    takeWhole(tokens, complete) {
      const { run, before } = this,
        { blank } = this.step,
        { eop } = this.model.tokenizer.special;
      const earlier = run.steps.filter(step => step.blank < blank).map(({ token }) => token);
      const steps = [...earlier, ...tokens, ...(complete ? [eop] : [])],
        isMore = run.steps.length > earlier.length;
      this.at = earlier.length;
      this.start(run.text, steps, isMore ? run : before);
      this.advance(run.done ? Infinity : steps.length, false);
    }

    forward() {
      if (this.at + 1 < this.run.steps.length) this.go(this.at + 1);
      else this.advance(this.run.steps.length + 1);
    }

    go(n) {
      this.stop();
      Object.assign(this, { at: n, row: null });
      this.show();
    }

    play() {
      if (this.playing) {
        this.stop();
        return this.showControls();
      }
      const next = () => {
        this.forward();
        this.playing = !this.atEnd;
        if (this.playing) this.soon("play", PAUSE, next);
        this.showControls();
      };
      next();
    }

    // The filled text becomes the text of the regions above, its answers the blanked spans.
    showAbove() {
      const { session, reading } = this.run,
        tokens = [],
        spans = [];
      reading.tokens.slice(0, reading.part_a_len).forEach((id, i) => {
        const blank = session.blanks.find(({ position }) => position === i),
          start = tokens.length;
        tokens.push(...(blank?.tokens ?? [id]).map(this.nameOf));
        if (blank) spans.push([start, tokens.length]);
      });
      this.app.set({ objective: Object.keys(MASK_NAMES)[BLANKS.indexOf(session.blanks[0].mask)] });
      if (this.app.setText(tokens, spans)) byId("stage").scrollIntoView();
    }

    pin(row) {
      this.row = row;
      this.showParts();
      this.showInside();
      keepInAddress();
    }

    // The step in view and its number, the row it looks from, and whether it is the last step.
    // < `at` while steps are repeated
    get n() {
      return Math.min(this.at, this.run.steps.length - Number(this.run.done));
    }
    get step() {
      return this.run.at(this.n);
    }
    get query() {
      return this.row ?? this.step.row;
    }
    get atEnd() {
      return this.run.done && this.at >= this.run.steps.length - 1;
    }

    // Turn word n of the text into a field: Enter or leaving it accepts the input, Escape restores the word.
    edit(n) {
      if (!this.ready()) return;
      this.stop();
      this.show();
      const find = () => this.text.querySelector(`[data-key="word-${n}"]`),
        word = find(),
        old = word.textContent;
      let open = true;
      const finish = value => {
        if (!open) return;
        open = false; // for good: a field that is removed also loses the focus
        if (value === old) return this.showText();
        this.box.value = replaceWord(this.run.text, n, value);
        this.ready();
      };
      const onkeydown = event => {
        if (event.key !== "Enter" && event.key !== "Escape") return;
        event.preventDefault(); // or Enter would open the next field at once
        finish(event.key === "Enter" ? input.value : old);
        find()?.focus();
      };
      const input = el("input", {
        class: "lab-edit",
        "aria-label": say("instead of", { old }),
        value: old,
        size: Math.max(4, old.length),
        onkeydown,
        onblur: () => finish(input.value),
      });
      word.replaceWith(input);
      input.select();
    }

    // -- what is shown

    show() {
      this.showControls();
      this.showDials();
      this.showText();
      this.showCandidates();
      this.showParts();
      this.showTrace();
      this.scrollTrace();
      this.showInside();
      keepInAddress();
    }

    showControls() {
      const { run, at, controls } = this,
        broken = this.error.textContent !== "";
      const off = run && {
        fill: run.done,
        play: this.atEnd,
        step: this.atEnd,
        back: at === 0,
        reset: !run.steps.length,
      };
      for (const name of Object.keys(controls))
        controls[name].setAttribute("aria-disabled", broken || off[name]);
      this.above.setAttribute("aria-disabled", !run?.done);
      write(controls.play, tell(this.playing ? "pause" : "play"));
    }

    showText() {
      const {
        run,
        before,
        step,
        model: { live },
      } = this;
      let words = 0;
      const word = (text, i) => {
        if (!live || !text || i % 2) return text; // every other piece is the space between two words
        const n = words++;
        const more = { class: "lab-word", title: say("change"), "data-key": `word-${n}` };
        return button(text, () => this.edit(n), more);
      };
      const mark = (text, blank, name) =>
        el(
          "mark",
          { class: name, "data-now": blank === step.blank, dataset: spanData(blank) },
          text.replace(/\n/g, "↵"),
        );
      // the space before a blank stands outside its box, as in running text
      const piece = ({ text, blank, filled }) =>
        blank < 0
          ? text.split(/(\s+)/).map(word)
          : [
              /^ */.exec(text)[0],
              mark(text.replace(/^ +/, ""), blank, filled ? "lab-blank" : "lab-blank lab-open"),
            ];
      fill(this.text, run.pieces().map(piece));
      tabStop(this.text);
      const { tokens, part_a_len } = run.reading,
        isByte = id => /\\x[0-9a-f]{2}/.test(this.nameOf(id));
      this.letters.textContent = !tokens.slice(0, part_a_len).some(isByte) ? "" : say("bytes");
      const old = before
        ?.pieces()
        .map(({ text }) => text)
        .join("");
      fill(
        this.ghost,
        before && [
          say("before"),
          el("bdi", null, old),
          " ",
          button(say("forget"), () => ((this.before = null), this.show())),
        ],
      );
    }

    showCandidates() {
      const { run, before, step, n } = this,
        entries = candidates(run, before, n, this.dials);
      this.sentence.textContent = this.describeStep(step, n);
      const largest = Math.max(1e-9, ...entries.flatMap(entry => [entry.p, entry.before ?? 0]));
      const chosen = step.limit ? null : step.token;
      fill(
        this.bars,
        entries.map(entry => el("li", null, this.bar(entry, largest, chosen, this.model.live))),
      );
      if (this.model.live) this.showWhole();
    }

    // A step in a sentence.
    describeStep({ row, blank, mask, position, block_position, token, logProbability, stop, limit }, n) {
      const { reading } = this.run,
        A = reading.part_a_len,
        keys = keysOfRow(row, A),
        name = id => quoted(this.nameOf(id));
      const begin = say("stands", {
        n: n + 1,
        row,
        token: name(reading.tokens[row]),
        blank: blank + 1,
        mask,
        position,
        block: block_position,
        keys,
        a: A,
        b: keys - A,
      });
      if (token === undefined) return begin + say("not taken");
      if (limit) return begin + say("limit");
      const it = { token: name(token), p: percent(Math.exp(logProbability)) };
      return begin + say(stop ? "taken end" : "taken so", it);
    }

    // A token with its probability, and ring and tick if it was taken. canTake: a click takes it instead.
    bar({ id, p, before, allowed }, largest, token, canTake = false) {
      const chosen = id === token,
        compared = before !== undefined;
      const more = {
        class: compared ? "lab-bar lab-compared" : "lab-bar",
        "data-key": `token-${id}`,
        "data-id": id,
        "data-p": p,
        "data-before": before,
        "data-chosen": String(chosen),
      };
      const content = [
        tokenEl(this.nameOf(id)),
        el(
          "span",
          { class: "lab-track" },
          lengthEl(p / largest, "lab-now"),
          compared && lengthEl(before / largest, "lab-before"),
        ),
        el(
          "span",
          { class: "lab-value" },
          p === 0 && allowed ? say("cut off") : percent(p),
          compared && el("small", null, say("was", { p: percent(before) })),
        ),
        el(
          "span",
          { class: "lab-mark" },
          chosen && "✓",
          !allowed && "✗",
          compared && ` ${signed(100 * (p - before))}`,
        ),
      ];
      if (!canTake) return el("div", more, content);
      const title = say(allowed ? (chosen ? "taken" : "take") : "may not");
      const state = { title, disabled: !allowed, "aria-pressed": String(chosen) };
      return button(content, () => chosen || this.instead(id), { ...more, ...state });
    }

    showParts() {
      const { run, step, query } = this,
        rows = run.rows(this.nameOf),
        A = run.reading.part_a_len;
      const chip = ({ token, positions: [position, block], span }, i) =>
        button(
          [
            tokenEl(token),
            i < A && span >= 0 && el("small", { class: "tag" }, `s${span + 1}`),
            el("span", { class: "lab-positions" }, el("span", null, position), el("span", null, block)),
          ],
          () => this.pin(i === this.row ? null : i),
          {
            class: i > step.row ? "chip lab-row lab-later" : "chip lab-row",
            "aria-pressed": String(i === query),
            "aria-label": say("row", { row: i, token: visible(token), position, block }),
            dataset: { key: `row-${i}`, ...(span < 0 ? {} : spanData(span)) },
          },
        );
      const line = (label, from, to) =>
        el(
          "div",
          { class: "lab-part" },
          el("span", { class: "lab-label" }, label),
          el(
            "div",
            { class: "lab-chips" },
            rows.slice(from, to).map((row, i) => chip(row, from + i)),
          ),
        );
      const begins = [...range(A, rows.length).filter(i => rows[i].positions[1] === 1), rows.length];
      const blanks = begins
        .slice(0, -1)
        .map((from, k) => line(say("blank", { n: rows[from].span + 1 }), from, begins[k + 1]));
      fill(this.parts, line(DATA.words.parts.A, 0, A), blanks, el("p", { class: "note" }, say("rows hint")));
      tabStop(this.parts, `[data-key="row-${query}"]`);
    }

    showTrace() {
      const { trace, run } = this;
      if (this.traced !== run) fill(trace);
      this.traced = run;
      for (let n = trace.children.length; n < run.steps.length; n++)
        trace.append(el("li", null, this.column(run.steps[n], n)));
      [...trace.children].forEach((li, n) =>
        li.firstChild.setAttribute("aria-current", n === this.n ? "step" : "false"),
      );
      trace.classList.toggle("lab-empty", !run.steps.length);
      tabStop(trace, "[aria-current=step]");
    }

    // Scroll the step in view to the middle of its panel, without scrolling the page.
    scrollTrace() {
      const box = this.trace.parentNode,
        column = this.trace.children[this.n];
      if (!column) return;
      const middle = node => node.getBoundingClientRect().left + node.clientWidth / 2;
      box.scrollLeft += middle(column) - middle(box);
    }

    column(step, n) {
      const shown = step.top.slice(0, SHORT),
        mine = taken(step);
      if (!shown.some(({ id }) => id === mine.id)) shown.splice(-1, 1, mine);
      const isTaken = id => String(id === mine.id && !step.limit);
      const cell = ({ id, p }) =>
        el(
          "span",
          { class: "lab-traced", "data-id": id, "data-chosen": isTaken(id) },
          tokenEl(this.nameOf(id)),
          el("span", { class: "lab-track" }, lengthEl(p, "lab-now")),
        );
      const token = visible(this.nameOf(mine.id));
      const label = say("column", { n: n + 1, blank: step.blank + 1, token, p: percent(mine.p) });
      return button([el("span", { class: "lab-label" }, n + 1), shown.map(cell)], () => this.go(n), {
        class: "lab-column",
        "aria-label": label,
        "data-key": `step-${n}`,
      });
    }

    // -- attention and layers: drawn when nothing else happens, attention only where it is visible

    showInside() {
      this.showLens(this.depth);
      if (this.seen) this.soon("inside", QUIET, () => this.showAttention());
    }

    showAttention() {
      const { run, layer, head, query } = this,
        { reading } = run,
        { T, part_a_len: A } = reading;
      if (!reading.layers.includes(layer)) {
        if (!reading.layers.length) return void (this.keysLine.textContent = say("no weights"));
        return this.look(reading.layers.at(-1), head);
      }
      const rows = run.rows(this.nameOf),
        pieces = rows.map(({ span }) => span),
        weights = this.weights(layer, head);
      const kind = (i, j) => kindOf(i, j, A, pieces),
        open = (i, j) => j < keysOfRow(i, A),
        weight = (i, j) => weights[i * T + j];
      const name = i => say("this row", { row: i, token: quoted(rows[i].token) });
      this.describe = (i, j) =>
        say("cell", {
          query: name(i),
          key: name(j),
          weight: open(i, j) ? weight(i, j).toFixed(3) : say("unseen"),
        });
      this.heading.textContent = say("attention of", { head: headName(layer, head) });
      const picture = [reading, T, layer, head];
      if (picture.some((part, k) => part !== this.drawn?.[k])) {
        this.matrix.draw({
          rows,
          partALen: A,
          kind,
          describe: this.describe,
          value: (i, j) => Math.sqrt(weight(i, j)),
        });
        this.showThumbs();
      }
      this.drawn = picture;
      const key = ({ token }, j) => ({
        token,
        weight: weight(query, j),
        kind: kind(query, j),
        open: open(query, j),
      });
      this.showKeys(rows.map(key), name(query));
      this.tell(null);
    }

    // Attention weights of a head, or the mean of all heads: (T * T). Kept until there are more rows.
    weights(layer, head) {
      const { reading } = this.run,
        { T } = reading;
      if (this.kept?.reading !== reading || this.kept.T !== T) this.kept = { reading, T, of: {} };
      return (this.kept.of[[layer, head]] ??=
        head === MEAN ? this.meanOfHeads(layer) : reading.attention(layer, head));
    }

    meanOfHeads(layer) {
      const { num_heads } = this.model.config,
        mean = new Float32Array(this.run.reading.T ** 2);
      for (const head of range(0, num_heads))
        this.weights(layer, head).forEach((weight, at) => (mean[at] += weight / num_heads));
      return mean;
    }

    look(layer, head) {
      Object.assign(this, { layer, head });
      this.showAttention();
      keepInAddress();
    }

    tell(cell) {
      this.matrix.mark(cell ?? { i: this.query, j: this.favourite }, !cell);
      this.cell.textContent = cell ? this.describe(cell.i, cell.j) : say("point");
    }

    showKeys(keys, from) {
      const best = [...keys].sort((a, b) => b.weight - a.weight).slice(0, 3);
      this.favourite = keys.indexOf(best[0]);
      this.keysLine.textContent = say("most", {
        head: headName(this.layer, this.head),
        row: from,
        keys: best
          .map(({ token, weight }) => say("weight of", { token: quoted(token), weight: weight.toFixed(2) }))
          .join(DATA.words.comma),
      });
      const bar = ({ token, weight, kind, open }) =>
        el(
          "li",
          { dataset: { kind, open, weight }, title: weight.toFixed(3) },
          el("span", { class: "lab-upright" }, lengthEl(weight / best[0].weight, "", "height")),
          tokenEl(token),
          el("span", { class: "visually-hidden" }, open ? weight.toFixed(3) : say("not seen")),
        );
      fill(this.keys, keys.map(bar));
      // under each row's token, too, the weight as a line
      this.parts
        .querySelectorAll(".lab-row")
        .forEach((chip, j) => chip.style.setProperty("--look", keys[j].weight / best[0].weight));
    }

    showThumbs() {
      const { reading } = this.run,
        { T } = reading,
        { num_heads } = this.model.config,
        heads = range(num_heads > 1 ? MEAN : 0, num_heads);
      if (!this.thumbs.firstChild) {
        this.thumbs.style.setProperty("--heads", heads.length);
        fill(
          this.thumbs,
          reading.layers.flatMap(layer => heads.map(head => this.thumb(layer, head))),
        );
      }
      for (const canvas of this.thumbs.querySelectorAll("canvas")) {
        canvas.previousSibling.checked =
          Number(canvas.dataset.layer) === this.layer && Number(canvas.dataset.head) === this.head;
      }
      const waiting = [...this.thumbs.querySelectorAll("canvas")];
      const next = () => {
        // one picture per frame
        const canvas = waiting.shift();
        if (!canvas || reading !== this.run.reading || T !== reading.T) return;
        paint(
          canvas,
          this.weights(Number(canvas.dataset.layer), Number(canvas.dataset.head)),
          T,
          reading.part_a_len,
        );
        this.painting = requestAnimationFrame(next);
      };
      cancelAnimationFrame(this.painting);
      next();
    }

    thumb(layer, head) {
      const name = headName(layer, head);
      const radio = { type: "radio", name: "lab-head", class: "visually-hidden", "aria-label": name };
      const checked = layer === this.layer && head === this.head,
        onchange = () => this.look(layer, head);
      return el(
        "label",
        { title: name },
        el("input", { ...radio, checked, onchange }),
        el("canvas", { "data-layer": layer, "data-head": head, "aria-hidden": "true" }),
      );
    }

    showLens(depth) {
      const { reading } = this.run,
        row = this.query < reading.part_a_len ? this.step.row : this.query;
      const lens = reading.lens(row, SHORT),
        n = Math.min(depth, lens.length - 1),
        { layer, target, rank, p, top } = lens[n];
      const { num_layers, vocab_size } = this.model.config,
        name = id => quoted(this.nameOf(id));
      const after = layer === 0 ? say("embedded") : say("after", { layer, all: num_layers });
      this.depth = depth;
      this.slider.max = lens.length - 1;
      this.slider.value = n;
      this.slider.setAttribute("aria-valuetext", after);
      const place =
        target === null
          ? say("none taken")
          : say("rank", { token: name(target), rank: number(rank), all: number(vocab_size), p: percent(p) });
      this.lensLine.textContent = say("lens", { row, token: name(reading.tokens[row]), after, place });
      fill(
        this.lensBars,
        top.map(entry => el("li", null, this.bar({ ...entry, allowed: true }, top[0].p, target))),
      );
      const heads = words().columns.map(text => el("th", { scope: "col" }, text));
      const line = (entry, k) =>
        el(
          "tr",
          { "aria-current": k === n && "true" },
          el("th", { scope: "row" }, entry.layer),
          el("td", null, entry.rank === null ? "–" : number(entry.rank)),
          el("td", null, entry.p === null ? "–" : percent(entry.p)),
          el(
            "td",
            null,
            entry.top.slice(0, 3).map(({ id }) => [tokenEl(this.nameOf(id)), " "]),
          ),
        );
      fill(this.lensTable, el("thead", null, el("tr", null, heads)), el("tbody", null, lens.map(line)));
    }
  }

  // ---- small things ---------------------------------------------------------------------------------------

  const number = n => n.toLocaleString("en-GB");
  const headName = (layer, head) =>
    say(head === MEAN ? "mean" : "head", { layer: layer + 1, head: head + 1 });
  const percent = p => (p < 0.0005 ? "<0.1 %" : `${(100 * p).toFixed(1)} %`);
  const replaceWord = (text, n, by) =>
    text.replace(WORD, found => (BLANKS.includes(found) || n-- !== 0 ? found : by));
  const signed = x => (Math.abs(x) < 0.05 ? "±" : x < 0 ? "−" : "+") + Math.abs(x).toFixed(1);
  const scroller = (label, child) =>
    el("div", { class: "scroller", tabindex: 0, role: "region", "aria-label": label }, child);

  // A button that keeps the focus when it is off: aria-disabled, not disabled.
  function control(text, work, attributes) {
    return button(
      text,
      ({ currentTarget }) => currentTarget.getAttribute("aria-disabled") !== "true" && work(),
      attributes,
    );
  }

  // id -> text: the short names of special tokens, the pieces of all others.
  function namesOf(tokenizer, short) {
    const special = new Map(Object.entries(tokenizer.special).map(([name, id]) => [id, short[name]]));
    return id => special.get(id) ?? tokenizer.pieces([id])[0];
  }

  function lengthEl(share, name, side = "width") {
    const bar = el("span", { class: `lab-length ${name}` });
    bar.style[side] = `${100 * share}%`;
    return bar;
  }

  const RAMP = range(0, 256).map(n => [
    ...cividis(n / 255)
      .match(/\d+/g)
      .map(Number),
    255,
  ]); // [red, green, blue, alpha]

  // Attention as a small picture, one pixel per cell; shut cells stay empty.
  function paint(canvas, weights, T, A) {
    canvas.width = canvas.height = T;
    const pen = canvas.getContext("2d"),
      image = pen.createImageData(T, T);
    for (let i = 0; i < T; i++) {
      for (let j = 0; j < keysOfRow(i, A); j++)
        image.data.set(RAMP[Math.round(255 * Math.sqrt(weights[i * T + j]))], 4 * (i * T + j));
    }
    pen.putImageData(image, 0, 0);
  }

  // Arrow keys, Home and End move among the buttons of a group, of which Tab reaches one.
  function rove(box) {
    box.addEventListener("keydown", event => {
      const items = [...box.querySelectorAll("button")],
        at = items.indexOf(event.target),
        { key } = event;
      const to = {
        ArrowRight: at + 1,
        ArrowDown: at + 1,
        ArrowLeft: at - 1,
        ArrowUp: at - 1,
        Home: 0,
        End: items.length - 1,
      }[key];
      if (at < 0 || !items[to]) return;
      event.preventDefault();
      items[to].focus();
      tabStop(box);
    });
    return box;
  }

  // Tab reaches the button that has the focus, else the one of `selector`, else the first.
  function tabStop(box, selector) {
    const items = [...box.querySelectorAll("button")],
      selected = selector && box.querySelector(selector);
    const stop = items.find(item => item === document.activeElement) ?? selected ?? items[0];
    items.forEach(item => (item.tabIndex = item === stop ? 0 : -1));
  }

  return (section, app, old) => new Lab(section, app, old);
})();
