// The story's experiment on the screen: two models of train.js learn while one looks, with the mask in hand.
//
//   const training = createTraining(words, old)    training.node; training.show(whether it is in view)
//   old: the same in another language, which this one goes on with
function createTraining(words, old) {
  const { rows, steps } = TRAINING,
    honestA = 5,
    size = { width: 420, height: 220, left: 34, top: 10, bottom: 26 },
    most = 8;
  const at = { experiment: null, partALen: honestA, looks: true, ...old?.at, running: false, shown: false };
  const x = step => size.left + (step / steps) * (size.width - size.left - 8);
  const y = loss => size.top + (1 - Math.min(loss, most) / most) * (size.height - size.top - size.bottom);
  const LINES = [
    ["honest", 0],
    ["yours", 1],
    ["writing", 2],
  ];

  const name = () => words.names[at.partALen] ?? "";
  const caption = el("span"),
    told = el("p", { class: "note", role: "status" });
  const slider = el("input", {
    type: "range",
    min: 0,
    max: rows,
    value: at.partALen,
    oninput: () => hold({ partALen: slider.valueAsNumber }),
  });
  const looks = el("input", {
    type: "checkbox",
    checked: at.looks,
    onchange: () => hold({ looks: looks.checked }),
  });
  const pause = button(words.stop, () => (at.running ? stop() : run())),
    again = button(words.start, () => (begin(), run()));
  const lines = LINES.map(([line]) => svg("polyline", { class: `curve ${line}`, points: "" }));
  const grid = [0, 2, 4, 6, 8].map(loss => [
    svg("path", { class: "rule", d: `M${size.left} ${y(loss)}H${size.width - 8}` }),
    svg("text", { x: size.left - 6, y: y(loss) + 4, "text-anchor": "end" }, loss),
  ]);
  const guess = [
    svg("path", { class: "guessing", d: `M${size.left} ${y(Math.log(10))}H${size.width - 8}` }),
    svg("text", { x: size.width - 10, y: y(Math.log(10)) - 5, "text-anchor": "end" }, words.guessing),
  ];
  const ticks = [0, steps / 2, steps].map(step =>
    svg("text", { x: x(step), y: size.height - 8, "text-anchor": step ? "end" : "start" }, step),
  );
  const chart = svg(
    "svg",
    { viewBox: `0 0 ${size.width} ${size.height}`, role: "img", "aria-label": words.axis },
    grid,
    ticks,
    guess,
    lines,
  );
  const legend = el(
    "ul",
    { class: "curves" },
    LINES.map(([line]) =>
      el("li", null, el("span", { class: `key ${line}`, "aria-hidden": true }), words[line]),
    ),
  );
  const node = el(
    "div",
    { class: "story-training" },
    el("p", { class: "note" }, words.axis),
    chart,
    legend,
    told,
    el("div", { class: "row" }, pause, again),
    el("label", { class: "field" }, caption, slider),
    el("label", { class: "looks" }, looks, words.looks),
    el("p", { class: "note" }, format(words.how, { ...DIGITS, ...TRAINING })),
  );

  // The mask of the second model; it may change while the model learns.
  function hold(change) {
    Object.assign(at, change);
    if (at.experiment) at.experiment.keys = handKeys(at.partALen, at.looks);
    if (at.experiment && at.experiment.curve.length < steps) run();
    draw();
  }

  function begin() {
    at.experiment = new Experiment(handKeys(at.partALen, at.looks));
    draw();
  }

  function run() {
    if (at.experiment.curve.length >= steps) begin();
    cancelAnimationFrame(at.frame);
    at.running = true;
    const slice = () => {
      const end = performance.now() + 8;
      do at.experiment.step();
      while (performance.now() < end && at.experiment.curve.length < steps);
      at.frame = requestAnimationFrame(slice);
      if (at.experiment.curve.length >= steps) stop();
      draw();
    };
    at.frame = requestAnimationFrame(slice);
    draw();
  }

  function stop() {
    cancelAnimationFrame(at.frame);
    at.running = false;
    draw();
  }

  function draw() {
    const { curve } = at.experiment,
      last = smooth(curve).at(-1);
    LINES.forEach(([, k], n) =>
      lines[n].setAttribute(
        "points",
        smooth(curve)
          .map((point, step) => `${x(step).toFixed(1)},${y(point[k]).toFixed(1)}`)
          .join(" "),
      ),
    );
    caption.textContent = format(words.part_a_len, { n: at.partALen, name: name() });
    slider.setAttribute("aria-valuetext", caption.textContent);
    pause.textContent = at.running ? words.stop : words["go on"];
    told.hidden = !last || at.running;
    if (last && !at.running) {
      const [honest, yours, writing] = last.map(loss => loss.toFixed(2));
      told.textContent = format(words.told, { step: curve.length, honest, yours, writing });
    }
  }

  return {
    node,
    at,
    get experiment() {
      return at.experiment;
    },
    show(shown) {
      node.hidden = !shown;
      if (shown && !at.shown) {
        if (!at.experiment) begin();
        if (at.experiment.curve.length < steps) run();
      }
      if (!shown && at.running) stop();
      at.shown = shown;
    },
  };
}

// Every point as the mean of the ten steps up to it.
function smooth(curve) {
  return curve.map((point, n) => {
    const part = curve.slice(Math.max(0, n - 9), n + 1);
    return point.map((_, k) => part.reduce((sum, losses) => sum + losses[k], 0) / part.length);
  });
}
