// The mask as a grid: queries down, keys across. It draws cells and handles pointer and keyboard; the view
// says what the cells mean.
//
//   const matrix = createMatrix(host, {label, limit, largest, onPoint, onPin})   host: an element to fill
//   matrix.draw(view)              a table of up to `limit` rows, cells up to `largest` pixels wide; a canvas
//                                  if there are more, or if they would not fit into the width. Of a picture
//                                  of the same shape, only what has changed is drawn
//   matrix.mark(cell, pinned)      a crosshair on cell {i, j}, or nowhere (null); cheap. It stays until moved
//   drawSvg(view, label)           the same picture as an SVG element
//
//   view = {
//     rows: [{token, positions: [numbers or ""], span: its number or -1}]   heads of the rows
//     columns           heads of the columns, default: rows
//     partALen          a heavy line follows after so many rows and columns
//     kind(i, j)        "AA" ... "BF"; "" for an empty cell, "none" for one that is not there yet
//     value(i, j)       optional: 0 .. 1 or null, painted over open cells; shut cells stay as they are
//     describe(i, j)    optional: a short name of the cell for screen readers, made from nothing but the
//                       tokens of its row and column, its kind and its value
//     faded(i, j)       optional: whether the cell is drawn pale
//     canvas            optional: true for a canvas, however few rows there are
//   }
//   onPoint({i, j} or null): pointer or focus is on a cell; onPin({i, j}): a click, Enter or the space bar.

const OPEN = ["AA", "BA", "BE", "BS", "self"];
const CIVIDIS = [
  "#00224e",
  "#123570",
  "#3b496c",
  "#575d6d",
  "#707173",
  "#8a8678",
  "#a59c74",
  "#c3b369",
  "#e1cc55",
  "#fee838",
];
const CELL = { min: 11, max: 32, svg: 24 };

// The colour of a weight from 0 to 1: perceptually uniform, also for colour-blind readers.
function cividis(value) {
  const at = Math.min(1, Math.max(0, value)) * (CIVIDIS.length - 1),
    k = Math.min(Math.floor(at), CIVIDIS.length - 2);
  const mix = (a, b) => Math.round(a + (b - a) * (at - k));
  const channels = hex => [1, 3, 5].map(c => parseInt(hex.slice(c, c + 2), 16));
  const [low, high] = [channels(CIVIDIS[k]), channels(CIVIDIS[k + 1])];
  return `rgb(${low.map((c, n) => mix(c, high[n])).join(",")})`;
}

// A view with its optional fields filled in.
function complete(view) {
  return { columns: view.rows, value: () => null, describe: () => "", faded: () => false, ...view };
}

function createMatrix(host, { label, limit = 32, largest = CELL.max, onPoint = () => {}, onPin = () => {} }) {
  let view = null,
    marked = null,
    isPinned = false,
    cursor = { i: 0, j: 0 },
    shape = null, // the current table or canvas
    theme = ""; // the colours that it was painted with

  const clamp = (i, j) => ({
    i: Math.max(0, Math.min(view.rows.length - 1, i)),
    j: Math.max(0, Math.min(view.columns.length - 1, j)),
  });

  const isInside = ({ i, j }) => i < view.rows.length && j < view.columns.length;

  // Arrow keys, Home, End, with Ctrl to the first and last cell: the grid pattern of WAI-ARIA.
  function onKey(event) {
    const { i, j } = cursor,
      last = view.columns.length - 1,
      far = event.ctrlKey || event.metaKey;
    const to = {
      ArrowUp: [i - 1, j],
      ArrowDown: [i + 1, j],
      ArrowLeft: [i, j - 1],
      ArrowRight: [i, j + 1],
      Home: [far ? 0 : i, 0],
      End: [far ? view.rows.length - 1 : i, last],
      PageUp: [i - 8, j],
      PageDown: [i + 8, j],
    }[event.key];
    if (to) moveTo(clamp(...to));
    else if (event.key === "Enter" || event.key === " ") onPin(cursor);
    else if (event.key === "Escape") onPin(null);
    else return;
    event.preventDefault();
  }

  function moveTo(cell) {
    const before = cursor;
    cursor = cell;
    shape.focus(cell, before);
    onPoint(cell);
  }

  let width = 0; // of the host, as last observed: to ask for it would lay out the page once more
  const options = {
    largest,
    onKey,
    room: () => width,
    point: cell => onPoint(cell),
    pin(cell) {
      const before = cursor;
      cursor = cell;
      shape.focus(cell, before);
      onPin(cell);
    },
    arrive: () => onPoint(cursor),
  };

  const resized = new ResizeObserver(() => {
    const old = width;
    width = host.clientWidth;
    if (shape && width !== old && view.rows.length <= limit) build();
    else if (shape && width !== old) shape.fit();
  });
  resized.observe(host);

  const isTable = () => view.rows.length <= limit && !view.canvas;
  const themeNow = () => `${document.documentElement.dataset.theme} ${prefers("color-scheme: dark").matches}`;

  const isAsLarge = ({ rows, columns }) =>
    rows.length === view.rows.length && columns.length === view.columns.length;

  // Whether the current table or canvas can show the new view.
  function keeps(before) {
    if (shape?.name !== (isTable() ? "table" : "canvas") || theme !== themeNow()) return false;
    return isTable() || (before.partALen === view.partALen && isAsLarge(before));
  }

  // A canvas where a table would have to scroll: then Part B is in sight, too.
  function build() {
    const hadFocus = host.contains(document.activeElement);
    width ||= host.clientWidth;
    theme = themeNow();
    shape = (isTable() ? drawTable : drawCanvas)(host, view, label, options);
    if (!shape.fit()) (shape = drawCanvas(host, view, label, options)).fit();
    shape.mark(marked, isPinned);
    shape.focus(cursor, cursor, hadFocus);
  }

  return {
    draw(next) {
      const before = view,
        hadFocus = host.contains(document.activeElement);
      view = complete(next);
      cursor = clamp(cursor.i, cursor.j);
      host.classList.add("matrix");
      if (marked && !isInside(marked)) marked = null;
      if (!keeps(before) || !shape.update(view)) return build();
      if (isAsLarge(before)) return;
      shape.mark(marked, isPinned);
      shape.focus(cursor, cursor, hadFocus);
    },
    mark(cell, pinned = false) {
      const next = cell && isInside(cell) ? cell : null;
      if (next?.i === marked?.i && next?.j === marked?.j && pinned === isPinned) return;
      isPinned = pinned;
      shape.mark((marked = next), pinned);
    },
  };
}

// What the cells of a view look like: for each in turn its kind, its value if it is open, whether it is pale.
function looksOf({ rows, columns, kind, value, faded }) {
  const looks = [];
  for (let i = 0; i < rows.length; i++) {
    for (let j = 0; j < columns.length; j++) {
      const what = kind(i, j);
      looks.push(what, OPEN.includes(what) ? value(i, j) : null, faded(i, j));
    }
  }
  return looks;
}

// ---- up to 32 rows: a table, every cell of it an element --------------------------------------------------

function drawTable(host, view, label, { largest, onKey, point, pin, arrive }) {
  const [columnHeads, rowHeads, lines, cells] = [[], [], [], []];
  const corner = el("td", { class: "corner" }, el("span", null, tell("corner"))),
    headLine = el("tr", null, corner),
    body = el("tbody");
  const table = el(
    "table",
    { role: "grid", "aria-label": label, class: "mask" },
    el("thead", null, headLine),
    body,
  );
  const cellOf = event => {
    const td = event.target.closest("td[data-j]");
    return td && { i: Number(td.dataset.i), j: Number(td.dataset.j) };
  };
  table.addEventListener("pointerover", event => event.pointerType !== "touch" && point(cellOf(event)));
  table.addEventListener("pointerleave", () => point(null));
  table.addEventListener("focusin", arrive);
  table.addEventListener("focusout", () => point(null));
  table.addEventListener("keydown", onKey);
  table.addEventListener("click", event => cellOf(event) && pin(cellOf(event)));
  host.replaceChildren(table);

  const headWidths = {}; // in pixels: to measure one lays out the page
  let crossed = [],
    longest = 0,
    digits = 0,
    width = 0; // of the host; another width makes another table

  // As many rows and columns as the view has; the heavy lines after Part A.
  function resize({ rows, columns, partALen }) {
    const grow = (list, home, n, make) => {
      while (list.length > n) list.pop().remove();
      while (list.length < n) home.append(list[list.push(make(list.length)) - 1]);
    };
    const line = i => {
      cells[i] = [];
      rowHeads[i] = el("th", { scope: "row" });
      return el("tr", { dataset: { lane: "mask", i } }, rowHeads[i]);
    };
    grow(columnHeads, headLine, columns.length, () => el("th", { scope: "col" }));
    grow(lines, body, rows.length, line);
    cells.length = rowHeads.length = rows.length;
    cells.forEach((line, i) =>
      grow(line, lines[i], columns.length, j => el("td", { tabindex: -1, dataset: { i, j } })),
    );
    const edge = (node, n) => node.classList.toggle("edge", n === partALen - 1);
    for (const nodes of [lines, columnHeads, ...cells]) nodes.forEach(edge);
  }

  function update({ rows, columns, ...next }) {
    if (isNews(body, rows.length, columns.length, next.partALen)) resize({ rows, columns, ...next });
    const renamed = (heads, nodes) => heads.map((head, n) => drawHead(nodes[n], head)),
      [inRow, inColumn] = [renamed(rows, rowHeads), renamed(columns, columnHeads)];
    const looks = looksOf({ rows, columns, ...next });
    cells.flat().forEach((cell, n) => {
      const { i, j } = { i: Math.floor(n / columns.length), j: n % columns.length },
        look = looks.slice(3 * n, 3 * n + 3);
      const isNew = isNews(cell, look);
      if (isNew) drawCell(cell, ...look);
      if (isNew || inRow[i] || inColumn[j]) cell.setAttribute("aria-label", next.describe(i, j));
    });
    const heads = [...rows, ...columns];
    longest = Math.min(11, Math.max(...heads.map(({ token }) => widthOf(visible(token)))));
    digits = Math.max(...heads.map(({ positions }) => positions.join().length));
    return !isNews(table, longest, digits, columns.length);
  }

  update(view);
  return {
    name: "table",
    // Returns whether all fit.
    update(next) {
      return update(next) || this.fit();
    },
    // Cells as large as fit; heads are turned where a token is wider than its column. Returns whether all
    // fit.
    fit() {
      const measured = () => {
        table.classList.remove("small"); // so that the size does not depend on the size before
        return rowHeads[0].offsetWidth; // a column: all are as wide
      };
      table.style.setProperty("--letters", longest);
      width ||= host.clientWidth;
      const room = width - (headWidths[[longest, digits]] ??= measured()) - 4,
        fits = Math.floor(room / columnHeads.length),
        size = Math.max(CELL.min, Math.min(largest, fits));
      table.classList.toggle("turned", longest * 8 + 4 > size);
      table.classList.toggle("small", size < 20);
      table.style.setProperty("--cell", `${size}px`);
      return fits >= CELL.min || !width;
    },
    focus({ i, j }, before, andFocus = table.contains(document.activeElement)) {
      cells[before.i]?.[before.j]?.setAttribute("tabindex", -1);
      cells[i][j].tabIndex = 0;
      if (andFocus) cells[i][j].focus();
    },
    mark(cell, pinned) {
      for (const node of crossed) node.classList.remove("cross", "in-row", "in-column", "pinned");
      crossed = [];
      if (!cell) return;
      const add = (node, ...names) => (node.classList.add(...names), crossed.push(node));
      cells[cell.i].forEach(node => add(node, "in-row"));
      cells.forEach(line => add(line[cell.j], "in-column"));
      add(rowHeads[cell.i], "cross");
      add(columnHeads[cell.j], "cross");
      add(cells[cell.i][cell.j], "cross", ...(pinned ? ["pinned"] : []));
    },
  };
}

// Write a head, if it has changed. Returns whether it has.
function drawHead(th, { token, positions, span }) {
  if (!isNews(th, token, positions, span)) return false;
  for (const name of Object.keys(spanData(0))) delete th.dataset[name];
  if (span >= 0) Object.assign(th.dataset, spanData(span));
  const head = el(
    "span",
    { class: "head" },
    token === "" ? el("bdi", { class: "token" }, "\u00a0") : tokenEl(token, { title: visible(token) }),
    positions.map(position => el("span", { class: "position" }, position === "" ? "\u00a0" : position)),
  );
  th.replaceChildren(head);
  return true;
}

function drawCell(td, kind, value, faded) {
  Object.assign(td.dataset, { kind, glyph: DATA.kinds[kind]?.unicode ?? "" });
  td.classList.toggle("valued", value !== null);
  td.classList.toggle("faded", faded);
  td.style.backgroundColor = value === null ? "" : cividis(value);
}

// The style of a span: one of a few colours and outlines. Its number, always shown, identifies it.
function spanData(span) {
  return {
    span,
    colour: span % DATA.span_colours.length,
    outline: DATA.span_outlines[span % DATA.span_outlines.length],
  };
}

// The width of a text in letters; Chinese, Japanese, Korean and emoji take two.
function widthOf(text) {
  return [...text].reduce((sum, c) => sum + (c > "\u2e7f" ? 2 : 1), 0);
}

// ---- above: a canvas, with the same keyboard control -----------------------------------------------

function drawCanvas(host, view, label, { largest, room, onKey, point, pin, arrive }) {
  const { rows, columns, partALen } = view,
    T = rows.length;
  let looks = looksOf(view);
  const canvas = el("canvas", { role: "img", tabindex: 0, "aria-label": tell("canvas", { label, rows: T }) });
  host.replaceChildren(canvas);
  const picture = el("canvas"); // the cells; the visible canvas is a copy with the crosshair
  let size = 2,
    cell = null;
  const cellOf = event => {
    const i = Math.floor(event.offsetY / size),
      j = Math.floor(event.offsetX / size);
    return i >= 0 && j >= 0 && i < T && j < columns.length ? { i, j } : null;
  };
  canvas.addEventListener("pointermove", event => point(cellOf(event)));
  canvas.addEventListener("pointerleave", () => point(null));
  canvas.addEventListener("focus", arrive);
  canvas.addEventListener("blur", () => point(null));
  canvas.addEventListener("keydown", onKey);
  canvas.addEventListener("click", event => cellOf(event) && (pin(cellOf(event)), canvas.focus()));

  function penOf(surface) {
    const scale = window.devicePixelRatio || 1,
      side = size * T;
    Object.assign(surface, { width: side * scale, height: side * scale });
    const pen = surface.getContext("2d");
    pen.scale(scale, scale);
    return pen;
  }

  function paint() {
    const pen = penOf(picture),
      style = getComputedStyle(host),
      names = ["soft", "BE-ink", "BS-ink", "self-ink", ...OPEN];
    const colour = Object.fromEntries(names.map(name => [name, style.getPropertyValue(`--${name}`)]));
    const alike = {}; // cells of the same look, which are painted in one go
    for (let i = 0; i < T; i++) {
      for (let j = 0; j < columns.length; j++) {
        const at = 3 * (i * columns.length + j),
          [kind, value, faded] = [looks[at], looks[at + 1], looks[at + 2]];
        if (value !== null) {
          pen.fillStyle = cividis(value);
          pen.fillRect(j * size, i * size, size, size);
        } else if (kind && kind !== "none") {
          const look = (alike[kind + faded] ??= { kind, faded, cells: [] });
          look.cells.push([j * size, i * size]);
        }
      }
    }
    for (const { kind, faded, cells } of Object.values(alike)) {
      pen.globalAlpha = faded ? 0.16 : 1;
      pen.fillStyle = colour[kind];
      if (OPEN.includes(kind)) for (const [x, y] of cells) pen.fillRect(x, y, size, size);
      if (size > 5) drawMarks(pen, kind, cells, size, colour[`${kind}-ink`] ?? colour.soft);
    }
  }

  function show() {
    const pen = penOf(canvas),
      side = size * T;
    Object.assign(canvas.style, { width: `${side}px`, height: `${side}px` });
    pen.drawImage(picture, 0, 0, side, side);
    pen.strokeStyle = pen.fillStyle = getComputedStyle(host).getPropertyValue("--ink");
    pen.strokeRect(0.5, 0.5, side - 1, side - 1);
    if (partALen) pen.fillRect(0, partALen * size - 1, side, 2);
    if (partALen) pen.fillRect(partALen * size - 1, 0, 2, side);
    if (!cell) return;
    pen.strokeRect(-2, cell.i * size - 0.5, side + 4, size + 1);
    pen.strokeRect(cell.j * size - 0.5, -2, size + 1, side + 4);
  }

  return {
    name: "canvas",
    // A word that changes changes nothing in it.
    update(next) {
      const before = looks;
      looks = looksOf(next);
      if (areSame(looks, before)) return true;
      paint();
      show();
      return true;
    },
    fit() {
      size = Math.max(2, Math.min(largest, Math.floor(room() / T)));
      paint();
      show();
      return true;
    },
    focus: (to, before, andFocus = false) => andFocus && canvas.focus(),
    mark(to) {
      cell = to;
      show();
    },
  };
}

// The pattern of a kind in each of its cells, in strokes: dots, a diagonal, a ring, a cross.
function drawMarks(pen, kind, cells, size, colour) {
  pen.strokeStyle = pen.fillStyle = colour;
  pen.beginPath();
  for (const [x, y] of cells) {
    const line = (x0, y0, x1, y1) => {
      pen.moveTo(x + x0 * size, y + y0 * size);
      pen.lineTo(x + x1 * size, y + y1 * size);
    };
    if (kind === "BE") pen.fillRect(x + size / 2 - 1, y + size / 2 - 1, 2, 2);
    if (kind === "BS" || kind === "BF") line(0, 1, 1, 0);
    if (kind === "AB") line(0.3, 0.3, 0.7, 0.7);
    if (kind === "AB") line(0.7, 0.3, 0.3, 0.7);
    if (kind !== "self") continue;
    pen.moveTo(x + 0.75 * size, y + size / 2);
    pen.arc(x + size / 2, y + size / 2, size / 4, 0, 2 * Math.PI);
  }
  pen.stroke();
}

// ---- for a paper or a slide: an SVG with its colours written out ------------------------------------------

function drawSvg(given, label) {
  const view = complete(given),
    { rows, columns, partALen } = view,
    size = CELL.svg;
  const style = getComputedStyle(document.documentElement);
  const colour = name => style.getPropertyValue(`--${name}`).trim(),
    ink = colour("ink");
  const left = 64 + 7.5 * Math.max(...rows.map(({ token }) => widthOf(visible(token)))),
    top = left;
  const width = left + columns.length * size + 8,
    height = top + rows.length * size + 8;
  const lines = (...ds) =>
    ds.map(d => svg("path", { d, stroke: colour("soft"), "stroke-width": 1.3, fill: "none" }));
  const pattern = (id, kind, ...marks) =>
    svg(
      "pattern",
      { id, width: size, height: size, patternUnits: "userSpaceOnUse" },
      svg("rect", { width: size, height: size, fill: colour(kind) }),
      marks,
    );
  const dot = (x, y) => svg("circle", { cx: x, cy: y, r: 1.6, fill: colour("BE-ink") });
  const stroke = d => svg("path", { d, stroke: colour("BS-ink"), "stroke-width": 1.6 });
  const patterns = [
    pattern("AA", "AA"),
    pattern("BA", "BA"),
    pattern(
      "BE",
      "BE",
      [6, 18].flatMap(x => [dot(x, 6), dot(x, 18)]),
    ),
    pattern("BS", "BS", stroke("M0 24L24 0M-6 6L6 -6M18 30L30 18"), stroke("M0 12L12 0M12 24L24 12")),
    pattern(
      "self",
      "self",
      svg("circle", { cx: 12, cy: 12, r: 6, fill: "none", stroke: colour("self-ink"), "stroke-width": 2 }),
    ),
    pattern("AB", "AB", lines("M8 8L16 16M16 8L8 16")),
    pattern("BF", "BF", lines("M0 24L24 0M-6 6L6 -6M18 30L30 18")),
  ];
  const head = ({ token, positions }) => [visible(token), ...positions].join("  ");
  const text = (x, y, what, more) =>
    svg(
      "text",
      {
        x,
        y,
        fill: ink,
        "font-family": "ui-monospace, Menlo, Consolas, monospace",
        "font-size": 12,
        "text-anchor": "end",
        ...more,
      },
      what,
    );
  const cells = rows.flatMap((_, i) =>
    columns.map((_, j) =>
      svg(
        "rect",
        {
          class: "cell",
          "data-kind": view.kind(i, j),
          x: j * size,
          y: i * size,
          width: size,
          height: size,
          fill: `url(#${view.kind(i, j)})`,
          stroke: OPEN.includes(view.kind(i, j)) ? "#555555" : colour("grid"),
        },
        svg("title", null, view.describe(i, j)),
      ),
    ),
  );
  return svg(
    "svg",
    { xmlns: SVG, viewBox: `0 0 ${width} ${height}`, width, height, role: "img" },
    svg("title", null, label),
    svg("defs", null, patterns),
    svg("rect", { width, height, fill: colour("back") }),
    rows.map((row, i) => text(left - 6, top + i * size + 16, head(row))),
    columns.map((column, j) =>
      text(0, 0, head(column), {
        "text-anchor": "start",
        transform: `translate(${left + j * size + 16} ${top - 6}) rotate(-90)`,
      }),
    ),
    svg(
      "g",
      { transform: `translate(${left} ${top})` },
      cells,
      svg("path", {
        stroke: ink,
        "stroke-width": 2.5,
        fill: "none",
        d: `M0 ${partALen * size}h${columns.length * size}M${partALen * size} 0v${rows.length * size}`,
      }),
    ),
  );
}
