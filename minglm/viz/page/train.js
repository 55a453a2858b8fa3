// A GLM that learns in the page: the architecture of model.py, forward and backward by hand. No DOM.
//
//   const net = new Net(config, seed)    config: {vocab, width, layers, heads, positions}
//   net.parameters                       {name as in GLM.state_dict(): {value, grad, rows, columns}}
//   net.loss(batch, keys)                {loss, back}: the mean over the targets; back() adds to every grad
//   adam(net, rate)                      a step along the gradients, which it sets to 0
//
// A matrix is {value: Float64Array, rows, columns}, row by row. Each operation returns its result and a
// function that takes the gradient of the result to that of its input, adding those of its weights on the
// way.

function matrix(rows, columns, value = new Float64Array(rows * columns)) {
  return { value, rows, columns };
}

// x W^T + b, as nn.Linear.
function linear(x, W, b) {
  const { rows: N, columns: I, value: X } = x,
    O = W.rows,
    y = matrix(N, O),
    Y = y.value,
    M = W.value;
  for (let n = 0; n < N; n++) {
    for (let o = 0; o < O; o++) {
      let sum = b ? b.value[o] : 0;
      for (let i = 0, p = n * I, q = o * I; i < I; i++) sum += X[p + i] * M[q + i];
      Y[n * O + o] = sum;
    }
  }
  return [
    y,
    dy => {
      const dx = matrix(N, I),
        dX = dx.value,
        dY = dy.value,
        dM = W.grad;
      for (let n = 0; n < N; n++) {
        for (let o = 0; o < O; o++) {
          const d = dY[n * O + o];
          if (d === 0) continue;
          if (b) b.grad[o] += d;
          for (let i = 0, p = n * I, q = o * I; i < I; i++) {
            dX[p + i] += d * M[q + i];
            dM[q + i] += d * X[p + i];
          }
        }
      }
      return dx;
    },
  ];
}

// Every row to mean 0 and variance 1, then scaled and moved: nn.LayerNorm.
function norm(x, g, b) {
  const { rows: N, columns: C } = x,
    y = matrix(N, C),
    unit = matrix(N, C),
    scale = new Float64Array(N);
  for (let n = 0; n < N; n++) {
    const row = x.value.subarray(n * C, n * C + C),
      mean = total(row) / C;
    scale[n] = 1 / Math.sqrt(total(row.map(v => (v - mean) ** 2)) / C + 1e-5);
    for (let c = 0; c < C; c++) {
      unit.value[n * C + c] = (row[c] - mean) * scale[n];
      y.value[n * C + c] = unit.value[n * C + c] * g.value[c] + b.value[c];
    }
  }
  return [
    y,
    dy => {
      const dx = matrix(N, C),
        d = new Float64Array(C);
      for (let n = 0; n < N; n++) {
        const u = unit.value.subarray(n * C, n * C + C);
        let sum = 0,
          along = 0;
        for (let c = 0; c < C; c++) {
          const up = dy.value[n * C + c];
          g.grad[c] += up * u[c];
          b.grad[c] += up;
          d[c] = up * g.value[c];
          sum += d[c];
          along += d[c] * u[c];
        }
        for (let c = 0; c < C; c++) dx.value[n * C + c] = scale[n] * (d[c] - sum / C - (u[c] * along) / C);
      }
      return dx;
    },
  ];
}

function total(values) {
  return values.reduce((sum, v) => sum + v, 0);
}

const GELU = [0.7978845608028654, 0.044715]; // the tanh form

function gelu(x) {
  const y = matrix(x.rows, x.columns),
    slope = new Float64Array(x.value.length),
    [a, b] = GELU;
  x.value.forEach((v, n) => {
    const t = Math.tanh(a * (v + b * v ** 3));
    y.value[n] = 0.5 * v * (1 + t);
    slope[n] = 0.5 * (1 + t) + 0.5 * v * (1 - t * t) * a * (1 + 3 * b * v * v);
  });
  return [
    y,
    dy =>
      matrix(
        x.rows,
        x.columns,
        dy.value.map((d, n) => d * slope[n]),
      ),
  ];
}

// Attention within samples of T rows. qkv: a row holds its query, key and value; keys[i]: what row i may look
// at.
function attend(qkv, heads, keys) {
  const N = qkv.rows,
    T = keys.length,
    W = qkv.columns,
    C = W / 3,
    D = C / heads,
    root = Math.sqrt(D),
    x = qkv.value;
  const y = matrix(N, C),
    Y = y.value,
    weights = new Float64Array(N * heads * T),
    scores = new Float64Array(T);
  // work(first row of the sample, row, head, what it sees, where its weights begin)
  const everyRow = work => {
    for (let n = 0; n < N; n++)
      for (let h = 0; h < heads; h++) work(n - (n % T), n, h, keys[n % T], (n * heads + h) * T);
  };
  everyRow((start, n, h, seen, w) => {
    const q = n * W + h * D,
      out = n * C + h * D;
    let max = -Infinity,
      sum = 0;
    for (const j of seen) {
      const k = (start + j) * W + C + h * D;
      let score = 0;
      for (let d = 0; d < D; d++) score += x[q + d] * x[k + d];
      scores[j] = score / root;
      max = Math.max(max, scores[j]);
    }
    for (const j of seen) sum += weights[w + j] = Math.exp(scores[j] - max);
    for (const j of seen) {
      const p = (weights[w + j] /= sum),
        v = (start + j) * W + 2 * C + h * D;
      for (let d = 0; d < D; d++) Y[out + d] += p * x[v + d];
    }
  });
  return [
    y,
    dy => {
      const dx = matrix(N, W),
        g = dx.value,
        dY = dy.value,
        dp = new Float64Array(T); // dp: the gradient of each weight
      everyRow((start, n, h, seen, w) => {
        const q = n * W + h * D,
          out = n * C + h * D;
        let mean = 0;
        for (const j of seen) {
          const v = (start + j) * W + 2 * C + h * D;
          dp[j] = 0;
          for (let d = 0; d < D; d++) dp[j] += dY[out + d] * x[v + d];
          mean += weights[w + j] * dp[j];
        }
        for (const j of seen) {
          const p = weights[w + j],
            ds = (p * (dp[j] - mean)) / root,
            k = (start + j) * W + C + h * D,
            v = k + C;
          for (let d = 0; d < D; d++) {
            g[v + d] += p * dY[out + d];
            g[q + d] += ds * x[k + d];
            g[k + d] += ds * x[q + d];
          }
        }
      });
      return dx;
    },
  ];
}

function plus(a, b) {
  return matrix(
    a.rows,
    a.columns,
    a.value.map((v, n) => v + b.value[n]),
  );
}

class Net {
  // The weights are drawn wider than GLM's 0.02, so that so small a model learns within seconds.
  constructor({ vocab, width: C, layers, heads, positions }, seed, spread = 0.2) {
    const rng = new Rng(seed),
      into = spread / Math.sqrt(2 * layers);
    Object.assign(this, { layers, heads, parameters: {}, steps: 0 });
    const add = (name, rows, columns, draw) => {
      const value = new Float64Array(rows * columns).map(draw),
        [grad, m, v] = [0, 0, 0].map(() => new Float64Array(value.length));
      this.parameters[name] = { value, grad, m, v, rows, columns };
    };
    const normal = std => () =>
      std * Math.sqrt(-2 * Math.log(1 - rng.uniform())) * Math.cos(2 * Math.PI * rng.uniform());
    const line = (name, out, of, std) => (
      add(`${name}.weight`, out, of, normal(std)),
      add(`${name}.bias`, out, 1, () => 0)
    );
    const layerNorm = name => (add(`${name}.weight`, C, 1, () => 1), add(`${name}.bias`, C, 1, () => 0));
    add("token_embedding.weight", vocab, C, normal(spread));
    for (const name of ["position", "block_position"])
      add(`${name}_embedding.weight`, positions + 1, C, normal(spread));
    for (const layer of range(0, layers).map(n => `layers.${n}`)) {
      layerNorm(`${layer}.norm1`);
      line(`${layer}.qkv`, 3 * C, C, spread);
      line(`${layer}.out`, C, C, into);
      layerNorm(`${layer}.norm2`);
      line(`${layer}.up`, 4 * C, C, spread);
      line(`${layer}.down`, C, 4 * C, into);
    }
    layerNorm("final_norm");
  }

  // batch: {tokens, positions, blockPositions, targets}, lists of the rows of samples, all of T = keys.length
  // rows; target -1: nothing to say. keys[i]: the rows of its sample that row i may look at.
  loss({ tokens, positions, blockPositions, targets }, keys) {
    const p = this.parameters,
      of = name => [p[`${name}.weight`], p[`${name}.bias`]];
    const tables = [
      [tokens, "token"],
      [positions, "position"],
      [blockPositions, "block_position"],
    ].map(([ids, name]) => [ids, p[`${name}_embedding.weight`]]);
    const back = [],
      E = tables[0][1],
      T = tokens.length,
      C = E.columns;
    let x = matrix(T, C);
    const everyEntry = work =>
      tables.forEach(([ids, table]) =>
        ids.forEach((id, i) => {
          for (let c = 0; c < C; c++) work(table, id * C + c, i * C + c);
        }),
      );
    everyEntry((table, from, to) => (x.value[to] += table.value[from]));
    // x + f(x), where f is a chain of operations
    const branch = (...operations) => {
      const backs = [];
      let y = x;
      for (const operation of operations) {
        const [next, down] = operation(y);
        backs.unshift(down);
        y = next;
      }
      x = plus(x, y);
      back.unshift(dx =>
        plus(
          dx,
          backs.reduce((d, down) => down(d), dx),
        ),
      );
    };
    for (const layer of range(0, this.layers).map(n => `layers.${n}`)) {
      branch(
        y => norm(y, ...of(`${layer}.norm1`)),
        y => linear(y, ...of(`${layer}.qkv`)),
        y => attend(y, this.heads, keys),
        y => linear(y, ...of(`${layer}.out`)),
      );
      branch(
        y => norm(y, ...of(`${layer}.norm2`)),
        y => linear(y, ...of(`${layer}.up`)),
        gelu,
        y => linear(y, ...of(`${layer}.down`)),
      );
    }
    const [state, backNorm] = norm(x, ...of("final_norm")),
      [logits, backHead] = linear(state, E);
    const { loss, gradient } = crossEntropy(logits, targets);
    return {
      loss,
      back: () => {
        const dx = back.reduce((d, down) => down(d), backNorm(backHead(gradient)));
        everyEntry((table, to, from) => (table.grad[to] += dx.value[from]));
      },
    };
  }
}

function crossEntropy(logits, targets) {
  const { columns: V } = logits,
    gradient = matrix(logits.rows, V),
    rows = range(0, logits.rows).filter(i => targets[i] >= 0);
  let loss = 0;
  for (const i of rows) {
    const z = logits.value.subarray(i * V, i * V + V),
      max = Math.max(...z),
      powers = z.map(v => Math.exp(v - max));
    const sum = total(powers);
    loss += (Math.log(sum) + max - z[targets[i]]) / rows.length;
    powers.forEach(
      (power, v) => (gradient.value[i * V + v] = (power / sum - Number(v === targets[i])) / rows.length),
    );
  }
  return { loss, gradient };
}

// Adam with the usual constants, as torch.optim.Adam.
function adam(net, rate) {
  const t = ++net.steps,
    [b1, b2] = [0.9, 0.999];
  for (const { value, grad, m, v } of Object.values(net.parameters)) {
    for (let n = 0; n < value.length; n++) {
      m[n] = b1 * m[n] + (1 - b1) * grad[n];
      v[n] = b2 * v[n] + (1 - b2) * grad[n] ** 2;
      value[n] -= (rate * m[n]) / (1 - b1 ** t) / (Math.sqrt(v[n] / (1 - b2 ** t)) + 1e-8);
    }
    grad.fill(0);
  }
}

// ---- the experiment: random digits, which nobody can guess ------------------------------------------------

const DIGITS = { vocab: 12, width: 24, layers: 2, heads: 2, positions: 8 }; // ten digits, [M] and [S]
const TRAINING = { samples: 16, rate: 7e-3, steps: 200, seed: 1, rows: 8 };

// Samples of six random digits, two neighbours blanked: eight tokens, five of them in Part A.
function digitBatch(rng, samples) {
  const ids = { "[M]": 10, "[S]": 11 },
    id = token => ids[token] ?? Number(token);
  const rows = range(0, samples).flatMap(() => {
    const text = range(0, 6).map(() => String(rng.integer(10))),
      start = rng.integer(5);
    return glmRows(text, [[start, start + 2]], [0], "token").rows;
  });
  return {
    tokens: rows.map(({ token }) => id(token)),
    positions: rows.map(({ position }) => position),
    blockPositions: rows.map(({ blockPosition }) => blockPosition),
    targets: rows.map(({ target }) => (target === "" || target === "[E]" ? -1 : id(target))),
  };
}

// The mask in the reader's hand: partALen tokens count as Part A; with `looks` these see everything.
function handKeys(partALen, looks) {
  return range(0, TRAINING.rows).map(i =>
    range(0, looks && i < partALen ? TRAINING.rows : keysOfRow(i, partALen)),
  );
}

// Two models with the same first weights and the same samples: one under GLM's mask, one under `keys`.
class Experiment {
  constructor(keys) {
    const { seed } = TRAINING;
    Object.assign(this, {
      keys,
      honest: new Net(DIGITS, seed),
      yours: new Net(DIGITS, seed),
      rng: new Rng(seed, 1),
      curve: [],
    });
  }

  // A step of both. Adds [loss under GLM's mask, under yours, of your weights under GLM's mask] to `curve`.
  step() {
    const batch = digitBatch(this.rng, TRAINING.samples),
      glm = handKeys(5, false),
      { honest, yours } = this;
    const [first, second] = [honest.loss(batch, glm), yours.loss(batch, this.keys)];
    this.curve.push([first.loss, second.loss, yours.loss(batch, glm).loss]);
    for (const [net, { back }] of [
      [honest, first],
      [yours, second],
    ]) {
      back();
      adam(net, TRAINING.rate);
    }
  }
}
