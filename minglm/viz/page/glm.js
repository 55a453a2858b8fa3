/* A GLM that runs in the page: tokenizer, forward pass, blank filling. No DOM.
   Names and formulas are those of minglm/*.py.

   model = glmModel(spec)    spec: what weights.py made -> GlmModel (.live true)
                             or RecordedModel (false: knows one text)
     .name .text .note       text: what to begin with (a recording's only text); note: what was left out
     .config                 {vocab_size, hidden_size, num_layers, num_heads, max_positions, gelu};
                             .parameters, .fingerprint
     .tokenizer              encode(text, special = false) -> ids, decode(ids) -> string,
                             pieces(ids) -> [string] (token_str),
                             special {pad, cls, eos, mask, smask, gmask, sop, eop}, isText(id), isMask(id)
     .read(rows) -> reading  rows {tokens, position_ids, block_position_ids, part_a_len, targets?};
                             a recording: read() alone
     .session(text, dials) -> session   dials {temperature: 0, topK: 0, topP: 1, maxTokens: 0 (the default
                             limit), k: 10, rng: number => new Rng(seed, number, 0, SAMPLING)}.
                             Error: one line, the one that fill() gives
   session.step(token?) -> {blank, mask, row, position, block_position, token, text, logProbability, stop,
                             limit, blankDone, done, top: [{id, text, p, allowed}]}
                             token: take this one, do not choose (live only). stop: token ended the blank.
                             limit: the blank was full, so token was thrown away
     .fillings(number, width)
                             the width likeliest whole fillings of a blank, given those before it: a generator
                             that ends with [{tokens, text, logProbability, complete}], best first, and pauses
                             after every token that the model has read (live only)
     .done .reading          reading: all that has been read so far; it grows with every step
     .blanks                 [{mask, position, tokens, text, logProbabilities, complete}], in text order;
                             complete: a stop came
     .pieces()               [{text, blank, filled}], the text so far; blank: its number, -1 outside;
                             not begun: text "[MASK]"
   reading.tokens .position_ids .block_position_ids .part_a_len .T   T: rows read so far
     .attention(layer, head) Float32Array (T * T), [query * T + key], 0 where shut
     .layers                 those that attention() has
     .predictions(k = 10)    for each row of Part B {row, token, position, block_position, target, text, p,
                             rank, logProbability, top: [{id, text, p}]};
                             target: what comes next, null where nothing is known;
                             text: its piece; rank: 1 = likeliest
     .lens(row, k = 5)       [{layer, target, text, p, rank, logProbability, top}];
                             layer 0: embeddings, num_layers: the output
     .logits(row, layer?) (V), .hidden(row, layer?) (C), .extend(rows)   live only
   Layers and heads count from 0 here; what a reader sees counts from 1.
   pool(logits, mayCome, dials) -> {ids, shares, total}:
   what a token is drawn from at a temperature above 0 */
const { glmModel, GlmTokenizer, GlmModel, RecordedModel, pool } = (() => {
  "use strict";

  // ---- tokenizer.py: byte-level BPE -----------------------------------------------------------------------

  // GPT-2's words, with Unicode's white space: JavaScript's \s wrongly has U+FEFF and lacks U+0085.
  const WORDS = new RegExp(
    [
      /'(?:s|t|re|ve|m|ll|d)/,
      / ?\p{L}+/,
      / ?\p{N}+/,
      / ?[^\p{White_Space}\p{L}\p{N}]+/,
      /\p{White_Space}+(?!\P{White_Space})/,
      /\p{White_Space}+/,
    ]
      .map(part => part.source)
      .join("|"),
    "gu",
  );
  const UTF8 = new TextEncoder();

  // GPT-2's alphabet of bytes: printable Latin-1 is itself, the rest is U+0100 and up. Map: character ->
  // byte.
  function byteOfCharacter() {
    const isItself = b => (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || b >= 174;
    let next = 256;
    return new Map(Array.from({ length: 256 }, (_, b) => [String.fromCharCode(isItself(b) ? b : next++), b]));
  }

  class GlmTokenizer {
    // tokenizer_spec in weights.py describes the fields.
    constructor({ tokens, merges, added, special, lone_blank }) {
      const byteOf = byteOfCharacter(),
        idOf = new Map(tokens.map((token, id) => [token, id])),
        V = tokens.length;
      const strips = new Map(added);
      Object.assign(this, { special, lone_blank, strips, idOf, vocab_size: V, idOfByte: [] });
      this.bytes = tokens.map((s, id) =>
        strips.has(id) ? UTF8.encode(s) : Uint8Array.from(s, c => byteOf.get(c)),
      );
      for (const [character, byte] of byteOf) this.idOfByte[byte] = idOf.get(character);
      const longestFirst = added.map(([id]) => tokens[id]).sort((a, b) => b.length - a.length);
      this.addedPattern = new RegExp(longestFirst.map(s => s.replace(/[^\w\s]/g, "\\$&")).join("|"), "g");
      this.merges = merges && new Map(); // two ids, as one number -> [rank, id of both]
      for (let i = 0; merges && i < merges.length; i += 2) {
        const [left, right] = [merges[i], merges[i + 1]];
        this.merges.set(left * V + right, [i / 2, idOf.get(tokens[left] + tokens[right])]);
      }
    }

    isText(id) {
      return !this.strips.has(id) && this.bytes[id].length > 0;
    }
    isMask(id) {
      return ["mask", "smask", "gmask"].some(name => this.special[name] === id);
    }

    encode(text, special = false) {
      if (!this.merges) throw fault("tokenizer");
      const lone = /\p{Surrogate}/u.exec(text);
      if (lone) {
        const code = lone[0].charCodeAt(0).toString(16),
          at = [...text.slice(0, lone.index)].length;
        throw fault("unicode", { code, at });
      }
      const ids = [];
      let end = 0;
      for (const { 0: found, index } of special ? text.matchAll(this.addedPattern) : []) {
        const id = this.idOf.get(found);
        let start = index; // a mask absorbs the white space on its left
        while (this.strips.get(id) && start > end && /\p{White_Space}/u.test(text[start - 1])) start--;
        ids.push(...this.encodeWords(text.slice(end, start)), id);
        end = index + found.length;
      }
      return ids.concat(this.encodeWords(text.slice(end)));
    }

    encodeWords(text) {
      return [...text.matchAll(WORDS)].flatMap(([word]) => this.merge(UTF8.encode(word)));
    }

    // One word: merge the neighbours that merged first in training, until there are none.
    merge(bytes) {
      const ids = Array.from(bytes, b => this.idOfByte[b]);
      const merged = i => this.merges.get(ids[i] * this.vocab_size + ids[i + 1]) ?? [Infinity];
      const ranks = ids.slice(1).map((_, i) => merged(i)[0]); // of ids i and i + 1
      for (;;) {
        let best = 0;
        for (let i = 1; i < ranks.length; i++) if (ranks[i] < ranks[best]) best = i;
        if (!(ranks[best] < Infinity)) return ids;
        ids.splice(best, 2, merged(best)[1]);
        ranks.splice(best, 1);
        if (best > 0) ranks[best - 1] = merged(best - 1)[0];
        if (best < ranks.length) ranks[best] = merged(best)[0];
      }
    }

    bytesOf(id) {
      if (!this.bytes[id]) throw new Error(`token id: ${id} given, 0 to ${this.vocab_size - 1} accepted`);
      return this.bytes[id];
    }

    decode(ids) {
      const bytes = Uint8Array.from(Array.from(ids, id => [...this.bytesOf(id)]).flat());
      const text = new TextDecoder("utf-8", { ignoreBOM: true }).decode(bytes);
      return this.lone_blank ? text.replace(/^ /, "") : text;
    }

    pieces(ids) {
      return Array.from(ids, id => {
        const bytes = this.bytesOf(id),
          strict = new TextDecoder("utf-8", { ignoreBOM: true, fatal: true });
        let piece = "";
        for (let i = 0, n; i < bytes.length; i += n) {
          const lead = bytes[i];
          n = lead < 0x80 ? 1 : lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4;
          try {
            piece += printable(strict.decode(bytes.subarray(i, i + n)));
          } catch {
            // not a whole character: skip one byte
            piece += `\\x${lead.toString(16)}`;
            n = 1;
          }
        }
        return piece;
      });
    }
  }

  // A character, or its escape in Python if it is not printable.
  function printable(c) {
    if (c === " " || !/[\p{C}\p{Z}]/u.test(c)) return c;
    const code = c.codePointAt(0),
      [letter, digits] = code < 256 ? ["x", 2] : code < 65536 ? ["u", 4] : ["U", 8];
    return (
      { 9: "\\t", 10: "\\n", 13: "\\r" }[code] ?? `\\${letter}${code.toString(16).padStart(digits, "0")}`
    );
  }

  // ---- model.py -------------------------------------------------------------------------------------------

  // The rule, the whole mask: row i sees keys 0 .. max(A, i + 1) - 1.
  const keysOf = (i, part_a_len) => Math.max(part_a_len, i + 1);

  function bytesOfBase64(text) {
    const binary = atob(text),
      bytes = new Uint8Array(binary.length);
    for (let i = 0; i < bytes.length; i++) bytes[i] = binary.charCodeAt(i);
    return bytes;
  }

  // The weights that weights.py quantised, as floats. -> Map: name -> Float32Array, row by row
  function tensorsOf({ tensors, levels, scales }) {
    const int8 = new Int8Array(bytesOfBase64(levels).buffer),
      view = new DataView(bytesOfBase64(scales).buffer);
    const byName = new Map();
    let level = 0,
      scale = 0;
    for (const [name, rows, columns] of tensors) {
      const floats = new Float32Array(rows * (columns || 1));
      for (let row = 0, at = 0; row < rows; row++, scale++) {
        const unit = view.getFloat32(4 * scale, true);
        if (!columns) floats[row] = unit;
        for (let c = 0; c < columns; c++) floats[at++] = unit * int8[level++];
      }
      byName.set(name, floats);
    }
    return byName;
  }

  // out = x W^T + b for n rows: x (n, I), W (O, I), b (O) or null, out (n, O). Almost all time is spent here.
  function linear(x, n, W, b, out) {
    const I = x.length / n,
      O = out.length / n;
    let row = 0;
    for (; row + 4 <= n; row += 4) {
      // four rows at once: each weight is loaded for all of them
      const x0 = row * I,
        x1 = x0 + I,
        x2 = x1 + I,
        x3 = x2 + I;
      for (let o = 0, w = 0; o < O; o++) {
        let s0 = b ? b[o] : 0,
          s1 = s0,
          s2 = s0,
          s3 = s0;
        for (let i = 0; i < I; i++, w++) {
          const weight = W[w];
          s0 += weight * x[x0 + i];
          s1 += weight * x[x1 + i];
          s2 += weight * x[x2 + i];
          s3 += weight * x[x3 + i];
        }
        const at = row * O + o;
        out[at] = s0;
        out[at + O] = s1;
        out[at + 2 * O] = s2;
        out[at + 3 * O] = s3;
      }
    }
    for (; row < n; row++)
      for (let o = 0; o < O; o++) out[row * O + o] = (b ? b[o] : 0) + dot(W, o * I, x, row * I, I);
  }

  // The inner product of n numbers, from a[i] and b[j] on, in four independent sums.
  function dot(a, i, b, j, n) {
    let s0 = 0,
      s1 = 0,
      s2 = 0,
      s3 = 0,
      m = 0;
    for (; m + 4 <= n; m += 4, i += 4, j += 4) {
      s0 += a[i] * b[j];
      s1 += a[i + 1] * b[j + 1];
      s2 += a[i + 2] * b[j + 2];
      s3 += a[i + 3] * b[j + 3];
    }
    for (; m < n; m++) s0 += a[i++] * b[j++];
    return s0 + s1 + s2 + s3;
  }

  // LayerNorm of each row: (n, C) -> (n, C).
  function norm(x, weight, bias) {
    const C = weight.length,
      out = new Float32Array(x.length);
    for (let row = 0; row < x.length; row += C) {
      let mean = 0,
        variance = 0;
      for (let c = 0; c < C; c++) mean += x[row + c] / C;
      for (let c = 0; c < C; c++) variance += (x[row + c] - mean) ** 2 / C;
      const scale = 1 / Math.sqrt(variance + 1e-5);
      for (let c = 0; c < C; c++) out[row + c] = (x[row + c] - mean) * scale * weight[c] + bias[c];
    }
    return out;
  }

  // The error function (Abramowitz and Stegun 7.1.26), with an error of at most 1.5e-7.
  function erf(x) {
    const t = 1 / (1 + 0.3275911 * Math.abs(x));
    const tail =
      t * (0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429))));
    return Math.sign(x) * (1 - tail * Math.exp(-x * x));
  }

  const GELU = {
    tanh: x => 0.5 * x * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (x + 0.044715 * x ** 3))),
    erf: x => 0.5 * x * (1 + erf(x / Math.SQRT2)),
  };

  // One sample, as far as it has been read. Keys and values are cached, so a new row of Part B is cheap.
  class Reading {
    constructor(model, part_a_len) {
      const layers = [...Array(model.config.num_layers).keys()],
        nothing = new Float32Array(0);
      Object.assign(this, {
        model,
        part_a_len,
        T: 0,
        tokens: [],
        position_ids: [],
        block_position_ids: [],
        targets: [],
        layers,
      });
      this.lensLayers = [...layers, layers.length];
      // the residual x before layer 0, 1, ..., and after the last: (T, C)
      this.states = this.lensLayers.map(() => nothing);
      this.qkv = layers.map(() => nothing); // of each layer: (T, 3C), [q; k; v]
    }

    // Read n more rows: all of Part A at once, because its rows see each other; Part B in pieces of any size.
    extend({ tokens, position_ids, block_position_ids }) {
      const {
        config: { hidden_size: C, num_heads: H, vocab_size, max_positions, gelu },
        weights: w,
      } = this.model;
      const n = tokens.length,
        first = this.T,
        T = first + n,
        D = C / H;
      if (T < this.part_a_len)
        throw new Error(`part_a_len: ${this.part_a_len}, but ${T} rows; Part A is read at once`);
      const x = new Float32Array(n * C),
        inputs = [
          ["tokens", tokens, "token_embedding", vocab_size],
          ["position_ids", position_ids, "position_embedding", max_positions + 1],
          ["block_position_ids", block_position_ids, "block_position_embedding", max_positions + 1],
        ];
      for (const [name, ids, table, size] of inputs) {
        if (ids.length !== n) throw new Error(`${name}: ${ids.length} given for ${n} tokens`);
        const wrong = ids.find(id => !(id >= 0 && id < size));
        if (wrong !== undefined) throw new Error(`${name}: ${wrong} given, 0 to ${size - 1} accepted`);
        const E = w(`${table}.weight`);
        for (let r = 0; r < n; r++) for (let c = 0; c < C; c++) x[r * C + c] += E[ids[r] * C + c];
      }
      for (const [name, ids] of inputs) this[name].push(...ids);
      this.T = T;

      const add = update =>
        update.forEach((value, i) => {
          x[i] += value;
        });
      const out = new Float32Array(n * C),
        up = new Float32Array(n * 4 * C),
        p = new Float32Array(T);
      this.states[0] = append(this.states[0], first * C, x);
      for (const layer of this.layers) {
        const W = name => w(`layers.${layer}.${name}.weight`),
          b = name => w(`layers.${layer}.${name}.bias`);
        const qkv = (this.qkv[layer] = append(this.qkv[layer], first * 3 * C, new Float32Array(n * 3 * C)));
        linear(
          norm(x, W("norm1"), b("norm1")),
          n,
          W("qkv"),
          b("qkv"),
          qkv.subarray(first * 3 * C, T * 3 * C),
        );
        const attended = new Float32Array(n * C);
        for (let i = first; i < T; i++)
          for (let head = 0; head < H; head++) {
            const keys = this.look(layer, head, i, p),
              at = (i - first) * C + head * D;
            for (let j = 0; j < keys; j++) {
              const v = j * 3 * C + 2 * C + head * D;
              for (let d = 0; d < D; d++) attended[at + d] += p[j] * qkv[v + d];
            }
          }
        linear(attended, n, W("out"), b("out"), out);
        add(out);
        linear(norm(x, W("norm2"), b("norm2")), n, W("up"), b("up"), up);
        linear(up.map(GELU[gelu]), n, W("down"), b("down"), out);
        add(out);
        this.states[layer + 1] = append(this.states[layer + 1], first * C, x);
      }
    }

    // The same sample, as far as its first T rows.
    fork(T) {
      const copy = new Reading(this.model, this.part_a_len),
        C = this.model.config.hidden_size;
      for (const name of ["tokens", "position_ids", "block_position_ids"])
        copy[name] = this[name].slice(0, T);
      copy.T = T;
      copy.states = this.states.map(x => x.slice(0, T * C));
      copy.qkv = this.qkv.map(x => x.slice(0, T * 3 * C));
      return copy;
    }

    // Write row i's attention weights, softmax(q k / sqrt(D)) over the keys it sees, to p. -> number of keys
    look(layer, head, i, p) {
      const { hidden_size: C, num_heads: H } = this.model.config,
        D = C / H,
        qkv = this.qkv[layer];
      const keys = keysOf(i, this.part_a_len);
      let max = -Infinity,
        sum = 0;
      for (let j = 0; j < keys; j++) {
        p[j] = dot(qkv, i * 3 * C + head * D, qkv, j * 3 * C + C + head * D, D) / Math.sqrt(D);
        max = Math.max(max, p[j]);
      }
      for (let j = 0; j < keys; j++) sum += p[j] = Math.exp(p[j] - max);
      for (let j = 0; j < keys; j++) p[j] /= sum;
      return keys;
    }

    attention(layer, head) {
      const p = new Float32Array(this.T * this.T);
      for (let i = 0; i < this.T; i++) this.look(layer, head, i, p.subarray(i * this.T));
      return p;
    }

    hidden(row, layer = this.layers.length) {
      const C = this.model.config.hidden_size,
        w = this.model.weights;
      return norm(
        this.states[layer].subarray(row * C, row * C + C),
        w("final_norm.weight"),
        w("final_norm.bias"),
      );
    }

    logits(row, layer = this.layers.length) {
      // the head is tied to the embedding; the latest are kept
      if (this.latest?.row === row && this.latest.layer === layer) return this.latest.logits;
      const logits = new Float32Array(this.model.config.vocab_size);
      linear(this.hidden(row, layer), 1, this.model.weights("token_embedding.weight"), null, logits);
      this.latest = { row, layer, logits };
      return logits;
    }

    // A row's prediction after some layer: its k most likely tokens, and the rank of its target.
    saying(row, layer, k) {
      const logits = this.logits(row, layer),
        target = this.targetOf(row),
        top = [];
      const max = logits.reduce((a, b) => Math.max(a, b)),
        sum = logits.reduce((sum, z) => sum + Math.exp(z - max), 0);
      const logSum = max + Math.log(sum);
      let rank = 1;
      logits.forEach((z, id) => {
        if (z > logits[target]) rank++;
        let at = top.length; // insert where it belongs among the k largest
        while (at > 0 && z > logits[top[at - 1]]) at--;
        if (at < k) top.splice(at, 0, id);
        if (top.length > k) top.pop();
      });
      return this.said(
        target,
        logits[target] - logSum,
        rank,
        top.map(id => [id, Math.exp(logits[id] - logSum)]),
      );
    }

    said(target, logProbability, rank, top) {
      const piece = id => this.model.tokenizer.pieces([id])[0];
      const about =
        target === null
          ? { text: null, p: null, rank: null, logProbability: null }
          : { text: piece(target), p: Math.exp(logProbability), rank, logProbability };
      return { target, ...about, top: top.map(([id, p]) => ({ id, text: piece(id), p })) };
    }

    targetOf(row) {
      return this.targets[row - this.part_a_len] ?? null;
    }

    lens(row, k = 5) {
      return this.lensLayers.map(layer => ({ layer, ...this.saying(row, layer, k) }));
    }

    predictions(k = 10) {
      return [...Array(this.T).keys()].slice(this.part_a_len).map(row => ({
        row,
        token: this.tokens[row],
        position: this.position_ids[row],
        block_position: this.block_position_ids[row],
        ...this.saying(row, this.model.config.num_layers, k),
      }));
    }
  }

  // Write rows at position `at` of an array, which doubles in size when it is full.
  function append(array, at, rows) {
    let room = array;
    if (array.length < at + rows.length) {
      room = new Float32Array(2 * (at + rows.length));
      room.set(array);
    }
    room.set(rows, at);
    return room;
  }

  class GlmModel {
    constructor({ tokenizer, tensors, levels, scales, ...about }) {
      const byName = tensorsOf({ tensors, levels, scales });
      Object.assign(this, about, { live: true, tokenizer: new GlmTokenizer(tokenizer) });
      this.weights = key => byName.get(key);
    }

    // Without targets, what follows a row is the next token of its span, and eop at the span's end.
    read(rows) {
      const reading = this.begin(rows.part_a_len),
        { tokens, block_position_ids: block } = rows,
        { eop } = this.tokenizer.special;
      reading.extend(rows);
      const next = tokens.map((_, i) => (block[i + 1] === block[i] + 1 ? tokens[i + 1] : eop));
      reading.targets = rows.targets ?? next.slice(rows.part_a_len);
      return reading;
    }

    session(text, dials = {}) {
      return new Session(this, this.tokenizer.encode(text, true), dials);
    }
    begin(part_a_len) {
      return new Reading(this, part_a_len);
    }
    next(session, row, mayCome) {
      return choose(session.reading.logits(row), mayCome, session.dials, session.rng);
    }
  }

  // ---- generate.py ----------------------------------------------------------------------------------------

  // One of the allowed tokens: the most likely at temperature 0, else drawn from what topK and topP leave.
  function choose(logits, mayCome, dials, rng) {
    if (dials.temperature === 0) {
      return [...logits.keys()].filter(mayCome).reduce((best, id) => (logits[id] > logits[best] ? id : best));
    }
    const { ids, shares, total } = pool(logits, mayCome, dials),
      u = rng.uniform() * total;
    let drawn = 0;
    for (let upTo = shares[0]; upTo <= u && drawn < ids.length - 1; upTo += shares[drawn]) drawn++;
    return ids[drawn];
  }

  // What a token is drawn from: {ids, shares, total}, likeliest first; P = share / total = softmax(z /
  // temperature).
  function pool(logits, mayCome, { temperature, topK, topP }) {
    const ids = [...logits.keys()].filter(mayCome).sort((a, b) => logits[b] - logits[a]);
    if (topK) ids.splice(topK);
    const shares = ids.map(id => Math.exp((logits[id] - logits[ids[0]]) / temperature)),
      sum = shares.reduce((a, b) => a + b);
    let kept = 0,
      total = 0; // kept: the fewest tokens whose probabilities sum to topP
    while (kept < shares.length && total < topP * sum) total += shares[kept++];
    return { ids: ids.slice(0, kept), shares: shares.slice(0, kept), total };
  }

  function checkDials({ temperature, topK, topP, maxTokens, rng }) {
    for (const [name, value, fine, accepted] of [
      [
        "temperature",
        temperature,
        temperature >= 0 && temperature < Infinity,
        "0 (greedy) or a number above it",
      ],
      ["top_k", topK, topK >= 0, "0 (all) or a whole number above it"],
      ["top_p", topP, topP > 0 && topP <= 1, "a number above 0, at most 1"],
      ["max_tokens", maxTokens, maxTokens >= 0, "a whole number >= 1"],
      ["rng", rng, temperature === 0 || rng, "a function that makes one for each blank"],
    ])
      if (!fine) throw new Error(`${name}: ${value} is not accepted; ${accepted} is`);
  }

  // The blanks of a text, filled left to right, one token per step: each sees Part A and all earlier answers.
  class Session {
    constructor(model, tokens, dials) {
      const {
          tokenizer,
          config: { max_positions },
        } = model,
        { special } = tokenizer;
      const foreign = tokens.find(id => !tokenizer.isText(id) && !tokenizer.isMask(id));
      Object.assign(this, { model, source: tokens, number: 0, done: false, blanks: [] });
      this.dials = { temperature: 0, topK: 0, topP: 1, maxTokens: 0, k: 10, rng: null, ...dials };
      checkDials(this.dials);
      if (foreign !== undefined) throw fault("special", { token: tokenizer.pieces([foreign])[0] });
      tokens.forEach((id, i) => {
        // one later in Part A, because cls comes first
        const [mask] = tokenizer.pieces([id]);
        if (tokenizer.isMask(id)) {
          this.blanks.push({
            mask,
            position: i + 1,
            tokens: [],
            text: "",
            logProbabilities: [],
            complete: false,
          });
        }
      });
      if (!this.blanks.length) throw fault("no blank");
      // a text that does not continue is a whole document
      const partA = [special.cls, ...tokens, ...(tokens.at(-1) === special.gmask ? [] : [special.eos])];
      if (partA.length > max_positions) throw fault("model length", { n: partA.length, most: max_positions });
      this.reading = model.begin(partA.length);
      this.reading.extend({
        tokens: partA,
        position_ids: [...partA.keys()],
        block_position_ids: partA.map(() => 0),
      });
      this.open();
    }

    // Begin the next blank.
    open() {
      this.rng = this.dials.rng?.(this.number);
      this.readOne(this.model.tokenizer.special.sop, 1);
    }

    readOne(token, block_position) {
      const position_ids = [this.blanks[this.number].position];
      this.reading.extend({ tokens: [token], position_ids, block_position_ids: [block_position] });
    }

    step(wanted) {
      if (this.done) throw new Error("session: every blank is filled");
      const { model, reading, number, dials } = this,
        { tokenizer, config } = model,
        { stops, most } = this.stopsOf(number);
      const blank = this.blanks[number],
        { position } = blank,
        row = reading.T - 1,
        length = blank.tokens.length;
      const isStop = id => stops.includes(id);
      const mayCome = id => tokenizer.isText(id) || (length > 0 && isStop(id)); // a blank is never empty
      if (wanted !== undefined && !(model.live && mayCome(wanted))) {
        throw new Error(`token: ${tokenizer.pieces([wanted])[0]} cannot come next`);
      }

      const token = wanted ?? model.next(this, row, mayCome),
        stop = isStop(token);
      const limit = !stop && length === most;
      reading.targets.push(token);
      const { text, logProbability, top } = reading.saying(row, config.num_layers, dials.k);
      if (limit) reading.targets[row - reading.part_a_len] = null;
      else blank.logProbabilities.push(logProbability);
      if (stop || limit) {
        blank.complete = stop;
        this.done = ++this.number === this.blanks.length;
        if (!this.done) this.open();
      } else {
        blank.tokens.push(token);
        blank.text = tokenizer.decode(blank.tokens);
        this.readOne(token, length + 2);
      }
      return {
        blank: number,
        mask: blank.mask,
        row,
        position,
        block_position: length + 1,
        token,
        text,
        logProbability,
        stop,
        limit,
        blankDone: stop || limit,
        done: this.done,
        top: top.map(entry => ({ ...entry, allowed: mayCome(entry.id) })),
      };
    }

    // The tokens that end blank `number`, and the most tokens that it may have.
    stopsOf(number) {
      const { mask, gmask, eop, eos } = this.model.tokenizer.special,
        kind = this.source[this.blanks[number].position - 1],
        room = this.model.config.max_positions - 1;
      return {
        stops: kind === gmask ? [eop, eos] : [eop],
        most: Math.min(this.dials.maxTokens || (kind === mask ? 40 : room), room),
      };
    }

    // beam_search() of drafts.py. A beam: {reading, tokens, sum: their log P}
    *fillings(number, width) {
      const { tokenizer } = this.model,
        { stops, most } = this.stopsOf(number),
        position_ids = [this.blanks[number].position];
      const isStart = row => this.reading.block_position_ids[row] === 1,
        starts = [...this.reading.tokens.keys()].filter(isStart); // the row of [S] of each blank
      const best = [],
        keep = (tokens, sum, complete) => {
          const text = tokenizer.decode(tokens);
          best.push({ tokens, text, logProbability: sum, complete });
          best.sort((a, b) => b.logProbability - a.logProbability).splice(width);
        };
      let beams = [{ reading: this.reading.fork(starts[number] + 1), tokens: [], sum: 0 }];
      for (let length = 0; ; length++) {
        const next = [];
        let likeliest = -Infinity; // of all ways to go on, ends included
        for (const beam of beams) {
          const logits = beam.reading.logits(beam.reading.T - 1),
            max = logits.reduce((a, b) => Math.max(a, b)),
            logSum = max + Math.log(logits.reduce((sum, z) => sum + Math.exp(z - max), 0));
          const sumWith = id => beam.sum + logits[id] - logSum;
          for (const id of length > 0 ? stops : []) {
            keep(beam.tokens, sumWith(id), true);
            likeliest = Math.max(likeliest, sumWith(id));
          }
          const ids = [...logits.keys()]
            .filter(id => tokenizer.isText(id))
            .sort((a, b) => logits[b] - logits[a]);
          next.push(...ids.slice(0, width).map(id => ({ beam, id, sum: sumWith(id) })));
        }
        next.sort((a, b) => b.sum - a.sum).splice(width);
        likeliest = Math.max(likeliest, next[0].sum);
        if (best.length === width && best.at(-1).logProbability >= likeliest) return best;
        if (length === most) {
          for (const { tokens, sum } of beams) if (best.length < width) keep(tokens, sum, false);
          return best;
        }
        beams = [];
        for (const { beam, id, sum } of next) {
          const reading = beam.reading.fork(beam.reading.T);
          reading.extend({ tokens: [id], position_ids, block_position_ids: [length + 2] });
          beams.push({ reading, tokens: [...beam.tokens, id], sum });
          yield;
        }
      }
    }

    // Pieces are cut from one decoding, so that characters spread over several tokens survive.
    pieces() {
      const { tokenizer } = this.model,
        ids = [],
        parts = [],
        { source } = this;
      const part = (tokens, blank, filled) => {
        ids.push(...tokens);
        parts.push({ blank, filled, end: ids.length });
      };
      let from = 0;
      this.blanks.forEach(({ position, tokens }, number) => {
        part(source.slice(from, position - 1), -1, false);
        part(tokens.length ? tokens : [source[position - 1]], number, tokens.length > 0);
        from = position;
      });
      part(source.slice(from), -1, false);
      const characters = [...tokenizer.decode(ids)];
      let at = 0;
      return parts
        .map(({ blank, filled, end }) => {
          const until = [...tokenizer.decode(ids.slice(0, end))].length,
            text = characters.slice(at, until).join("");
          at = until;
          return { text, blank, filled };
        })
        .filter(({ text, blank }) => text || blank >= 0);
    }
  }

  // ---- a recording: a model too large for a page, filling one text in Python ----------------

  class RecordedReading extends Reading {
    constructor(model, part_a_len) {
      super(model, part_a_len);
      this.layers = model.recording.attention.map(({ layer }) => layer);
      this.lensLayers = model.recording.lens.map(({ layer }) => layer);
    }

    extend(rows) {
      for (const name of ["tokens", "position_ids", "block_position_ids"]) this[name].push(...rows[name]);
      this.T = this.tokens.length;
    }

    attention(layer, head) {
      const kept = this.model.recording.attention.find(entry => entry.layer === layer);
      if (!kept) throw new Error(`layer ${layer + 1} was left out of this recording`);
      const { T } = this,
        bytes = (kept.bytes ??= bytesOfBase64(kept.base64)),
        p = new Float32Array(T * T);
      let at = (head * bytes.length) / this.model.config.num_heads;
      for (let i = 0; i < T; i++) {
        for (let j = 0; j < keysOf(i, this.part_a_len); j++) p[i * T + j] = bytes[at++] / 255;
      }
      return p;
    }

    saying(row, layer, k) {
      const { rows } = this.model.recording.lens.find(entry => entry.layer === layer);
      const [logProbability, rank, ...flat] = rows[row - this.part_a_len],
        top = [];
      for (let i = 0; i < Math.min(flat.length, 2 * k); i += 2) top.push([flat[i], flat[i + 1]]);
      return this.said(this.targetOf(row), logProbability, rank, top);
    }

    hidden() {
      throw new Error("this page holds a recording: it has no weights to compute with");
    }
  }

  class RecordedModel {
    constructor({ tokenizer, ...about }) {
      Object.assign(this, about, { live: false, tokenizer: new GlmTokenizer(tokenizer) });
    }

    read() {
      const session = this.session();
      while (!session.done) session.step();
      return session.reading;
    }

    session(text = this.text, { k = 10 } = {}) {
      if (text !== this.text) throw fault("recording", { text: this.text });
      return new Session(this, this.recording.tokens, { k });
    }

    begin(part_a_len) {
      return new RecordedReading(this, part_a_len);
    }
    next({ reading }, row) {
      return this.recording.chosen[row - reading.part_a_len];
    }
  }

  const glmModel = spec => (spec.kind === "live" ? new GlmModel(spec) : new RecordedModel(spec));
  return { glmModel, GlmTokenizer, GlmModel, RecordedModel, pool };
})();
