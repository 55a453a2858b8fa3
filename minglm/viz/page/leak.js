// What an open cell of the mask leaks: who gets to know what, layer by layer. No DOM, no state.
//
// Knowledge is a boolean matrix product: after a layer, a row knows what the rows it may look at knew before.

// knows[i][j]: whether row i can depend on the token of row j after so many layers of a mask. layers 0:
// itself.
function knowledge(mask, layers) {
  let knows = mask.map((row, i) => row.map((_, j) => i === j));
  for (let layer = 0; layer < layers; layer++) {
    const before = knows;
    // the residual keeps what a row knew
    knows = mask.map((row, i) =>
      row.map((_, j) => before[i][j] || row.some((open, k) => open && before[k][j])),
    );
  }
  return knows;
}

// The rows that have to say a word, each with the row that reads that word: [[row, row of its answer], ...].
function answers(d) {
  const rows = range(d.part_a_len, d.tokens.length).filter(
    i => d.word[i + 1] >= 0 && d.span_id[i + 1] === d.span_id[i],
  );
  return rows.map(i => [i, i + 1]);
}

// The rows that know what they have to say.
function cheaters(d, mask, layers) {
  const knows = knowledge(mask, layers);
  return answers(d)
    .filter(([i, j]) => knows[i][j])
    .map(([i]) => i);
}

// The shortest way of a token from row j to row i, [j, ..., i], each looking at the one before; or null.
function pathOf(mask, i, j) {
  const paths = [[i]],
    seen = new Set([i]);
  for (const path of paths) {
    const [first] = path;
    if (first === j) return path;
    mask[first].forEach((open, k) => open && !seen.has(k) && (seen.add(k), paths.push([k, ...path])));
  }
  return null;
}
