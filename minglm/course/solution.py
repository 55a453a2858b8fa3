"""GLM from an empty file: the solutions of the puzzles. This file imports no minglm.

The reader's file is made of this one and world.py (stubs.py): puzzles lose their bodies, all else stays.
"""

import math
import random  # noqa: F401 (world.py needs it in the reader's file)

import torch

# ---- Cut a text ------------------------------------------------------------------------------------------
# A text is a list of words. The words start, ..., end - 1 of a span (start, end) are blanked. The examples
# blank (2, 3) and (4, 6) of x1 x2 x3 x4 x5 x6, and write the second span first: order [1, 0].


def part_a(words, spans):
    """The text with one "[M]" in place of each span. The spans are in the order of the text.

    Example: x1 x2 [M] x4 [M]
    """
    tokens, end = [], 0
    for start, stop in spans:
        tokens += [*words[end:start], "[M]"]
        end = stop
    return tokens + words[end:]


def mask_places(words, spans):
    """Where the "[M]"s are in Part A, counted from 0.

    Example: [2, 4]
    """
    return [i for i, token in enumerate(part_a(words, spans)) if token == "[M]"]


def part_b(words, spans, order):
    """The blanked words as the model reads them: the spans in this order, each after an "[S]".

    Example: [S] x5 x6 [S] x3
    """
    tokens = []
    for k in order:
        start, end = spans[k]
        tokens += ["[S]", *words[start:end]]
    return tokens


def targets(words, spans, order):
    """What each token of the sample (Part A, then Part B) learns to say next.

    A token of Part A learns nothing: None. A token of Part B learns the next word of its span, and the last
    one learns "[E]".

    Example: None None None None None x5 x6 [E] x3 [E]
    """
    learned = [None] * len(part_a(words, spans))
    for k in order:
        start, end = spans[k]
        learned += [*words[start:end], "[E]"]
    return learned


# ---- Two positions ---------------------------------------------------------------------------------------


def positions(words, spans, order):
    """The first position of each token of the sample: which blank?

    Part A counts 0, 1, 2, ...; a token of Part B has the position of its blank's "[M]".

    Example: [0, 1, 2, 3, 4, 4, 4, 4, 2, 2]
    """
    places = mask_places(words, spans)
    numbers = list(range(len(part_a(words, spans))))
    for k in order:
        start, end = spans[k]
        numbers += [places[k]] * (end - start + 1)
    return numbers


def inside(words, spans, order):
    """The second position of each token: where inside the blank? 0 in Part A; 1 at "[S]", then 2, 3, ...

    Example: [0, 0, 0, 0, 0, 1, 2, 3, 1, 2]
    """
    numbers = [0] * len(part_a(words, spans))
    for k in order:
        start, end = spans[k]
        numbers += range(1, end - start + 2)
    return numbers


def sample(words, spans, order):
    """Given: everything about one sample. -> tokens, positions, insides, targets, length A of Part A"""
    first = part_a(words, spans)
    tokens = first + part_b(words, spans, order)
    how = words, spans, order
    return tokens, positions(*how), inside(*how), targets(*how), len(first)


def restore(tokens, positions, targets, A):
    """The original words of a sample: put the words that Part B learns back where they were.

    tokens, positions and targets are lists for the whole sample; A is the length of Part A.

    Example: x1 x2 x3 x4 x5 x6
    """
    spans = {}
    for place, target in zip(positions[A:], targets[A:], strict=True):
        spans.setdefault(place, []).append(target)
    words = []
    for i, token in enumerate(tokens[:A]):
        words += spans[i][:-1] if i in spans else [token]
    return words


# ---- Who sees whom ---------------------------------------------------------------------------------------
# A sample of T tokens is T rows of the mask, and the first A of them are Part A.


def visible(i, A):
    """How many tokens row i may see, counted from the first one.

    Every row sees all of Part A. A row of Part B also sees Part B up to itself.

    Example: for A = 5, the rows 0, 1, ..., 9 see 5, 5, 5, 5, 5, 6, 7, 8, 9, 10
    """
    return max(A, i + 1)


def mask(T, A):
    """The mask of a sample: a (T, T) tensor of bool, True where row i may see token j.

    for i in range(T):
        for j in range(T):
            mask[i, j] = j < visible(i, A)
    """
    return torch.arange(T) < torch.tensor([visible(i, A) for i in range(T)])[:, None]


def part_a_len(mask):
    """The length of Part A (at least 1), read from a mask: one integer says it all.

    Example: 5 for the (10, 10) mask with A = 5
    """
    return int(mask[0].sum())


# ---- Attention -------------------------------------------------------------------------------------------
# From here on, "..." in a shape stands for any leading dimensions, also none: use dimensions -1, -2, -3.


def softmax(scores, mask):
    """Weights from scores: exp, divided by its sum over the cells that are open. Shut cells get 0.

    scores: (..., T, T) floats. mask: (..., T, T) bool. Huge scores must not overflow: exp(1000) is inf, but
    a constant subtracted from a whole row changes nothing.

    for i in range(T):
        total = sum(exp(scores[i, j]) for j in range(T) if mask[i, j])
        for j in range(T):
            weights[i, j] = exp(scores[i, j]) / total if mask[i, j] else 0
    """
    scores = scores.masked_fill(~mask, -math.inf)
    powers = (scores - scores.amax(-1, keepdim=True)).exp()
    return powers / powers.sum(-1, keepdim=True)


def attention(q, k, v, mask):
    """One head. q, k, v: (..., T, D), mask: (..., T, T) -> (..., T, D)

    for i in range(T):
        for j in range(T):
            scores[i, j] = sum(q[i, d] * k[j, d] for d in range(D)) / sqrt(D)
    weights = softmax(scores, mask)
    for i in range(T):
        for d in range(D):
            out[i, d] = sum(weights[i, j] * v[j, d] for j in range(T))
    """
    scores = q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])
    return softmax(scores, mask) @ v


def split_heads(x, H):
    """Cut the columns of x into H heads: (..., T, C) -> (..., H, T, C / H)

    D = C // H
    for h in range(H):
        for t in range(T):
            for d in range(D):
                out[h, t, d] = x[t, h * D + d]
    """
    return x.unflatten(-1, (H, -1)).transpose(-2, -3)


def linear(x, w, name):
    """Given: a linear layer. Its weights are w[name] and w[name + "_bias"]."""
    return x @ w[name] + w[name + "_bias"]


def self_attention(x, w, H, mask):
    """Attention with H heads, side by side: (..., T, C) -> (..., T, C)

    linear(x, w, "qkv") has 3 C columns: those of q, then of k, then of v. Each head attends with its own
    columns and the same mask (..., T, T). The heads are joined again, and linear(..., w, "out") mixes them.
    """
    q, k, v = (split_heads(part, H) for part in linear(x, w, "qkv").chunk(3, -1))
    heads = attention(q, k, v, mask[..., None, :, :])
    return linear(heads.transpose(-2, -3).flatten(-2), w, "out")


# ---- The network -----------------------------------------------------------------------------------------


def layer_norm(x, w, name):
    """Every row on the same scale: (..., C) -> (..., C). Its weights are w[name] and w[name + "_bias"], (C,).

    for t in range(T):
        mean = sum(x[t, c] for c in range(C)) / C
        variance = sum((x[t, c] - mean) ** 2 for c in range(C)) / C
        for c in range(C):
            out[t, c] = (x[t, c] - mean) / sqrt(variance + 1e-5) * w[name][c] + w[name + "_bias"][c]
    """
    x = x - x.mean(-1, keepdim=True)
    variance = (x * x).mean(-1, keepdim=True)
    return x / (variance + 1e-5).sqrt() * w[name] + w[name + "_bias"]


def gelu(x):
    """A soft switch, for each number: 0.5 x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3)))"""
    return 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def layer(x, w, H, mask):
    """One layer of a transformer: (..., T, C) -> (..., T, C)

    a = self_attention of layer_norm "norm1" of x; add a to x. Then b = linear "down" of gelu of linear "up"
    of layer_norm "norm2" of that sum; add b, too. (x itself is never normalised.)
    """
    x = x + self_attention(layer_norm(x, w, "norm1"), w, H, mask)
    return x + linear(gelu(linear(layer_norm(x, w, "norm2"), w, "up")), w, "down")


def embed(w, tokens, positions, insides):
    """The input of the network: the sum of three embeddings. Three times (..., T) int64 -> (..., T, C)

    The tables are w["token"], w["position"] and w["inside"], one row of C numbers for each id.
    """
    return w["token"][tokens] + w["position"][positions] + w["inside"][insides]


def model(w, H, tokens, positions, insides, mask):
    """The whole GLM, from ids to logits: (..., T) -> (..., T, V)

    Embed; go through each layer, whose weights are the entries of the list w["layers"]; layer_norm "norm".
    The logit of a word is the dot product of that with the word's row in w["token"], which is (V, C).
    """
    x = embed(w, tokens, positions, insides)
    for weights in w["layers"]:
        x = layer(x, weights, H, mask)
    return layer_norm(x, w, "norm") @ w["token"].T


# ---- Learning --------------------------------------------------------------------------------------------


def loss(logits, targets):
    """How surprised the model is by the right words: the mean of -log p(target) over the learned rows.

    logits: (..., V). targets: (...) int64, -1 where nothing is learned. p is the softmax of a row of logits.

    for row in range(rows):
        if targets[row] >= 0:
            total += -log(exp(logits[row, targets[row]]) / sum(exp(logits[row, v]) for v in range(V)))
            count += 1
    out = total / count
    """
    learned = targets >= 0
    log_p = logits[learned].log_softmax(-1)
    return -log_p.gather(-1, targets[learned][:, None]).mean()


def place_spans(lengths, slots):
    """Random spans that never touch: GLM shrinks each span, and the one word after it, to a point.

    slots[n] is the place of point n among the words that are left, in ascending order. Expand the points
    again, from left to right: each span takes lengths[n] words, and one more word stays free after it.

    Example: lengths [2, 3] and slots [1, 3] give [(1, 3), (6, 9)]
    """
    spans, shift = [], 0
    for length, slot in zip(lengths, slots, strict=True):
        spans.append((slot + shift, slot + shift + length))
        shift += length + 1
    return spans


def random_spans(n, rng):
    """Given: one or two random spans of a text of n words, and the order in which they are written."""
    lengths = [rng.choice((1, 1, 1, 2, 3)) for _ in range(rng.choice((1, 2)))]
    free = n - sum(lengths) - len(lengths) + 1
    spans = place_spans(lengths, sorted(rng.randint(0, free) for _ in lengths))
    return spans, rng.sample(range(len(spans)), len(spans))


def batch(samples):
    """Samples of different lengths as tensors: tokens, positions, insides, targets (n, T), mask (n, T, T).

    A sample is (tokens, positions, insides, targets, A); the first four are lists of ids. T is the longest
    length. Shorter samples get 0s at the end, and -1 as target. The mask of a sample is mask(T, A): no row
    sees what comes after it in Part B, so the padding needs no mask of its own.
    """
    T = max(len(tokens) for tokens, *_ in samples)
    columns = [
        torch.tensor([list(one[n]) + [filler] * (T - len(one[n])) for one in samples])
        for n, filler in enumerate((0, 0, 0, -1))
    ]
    return *columns, torch.stack([mask(T, one[4]) for one in samples])


def adam(w, grad, m, v, t, lr):
    """One step of Adam, in place: w, m and v change, nothing is returned. t counts the steps from 1.

    m = 0.9 m + 0.1 grad                 the mean of recent gradients
    v = 0.999 v + 0.001 grad^2           and of their squares
    w = w - lr (m / (1 - 0.9^t)) / (sqrt(v / (1 - 0.999^t)) + 1e-8)
    """
    m += 0.1 * (grad - m)
    v += 0.001 * (grad * grad - v)
    w -= lr * (m / (1 - 0.9**t)) / ((v / (1 - 0.999**t)).sqrt() + 1e-8)


# ---- Using it --------------------------------------------------------------------------------------------
# predict(tokens, positions, insides, A) -> {word: probability}: what comes after the last token. The three
# lists are as in a sample, and "[E]" is one of the words.


def fill(words, predict, limit=6):
    """The words with every "[M]" filled, from left to right.

    A blank starts with "[S]". Then, again and again, the likeliest next word is added to it, until that is
    "[E]" (not part of the text) or the blank has `limit` words. Earlier blanks stay in Part B.

    Example: the [M] sleeps -> the old cat sleeps, if predict says "old", then "cat", then "[E]"
    """
    tokens, places, insides = list(words), list(range(len(words))), [0] * len(words)
    filled = []
    for place, word in enumerate(words):
        answer, token = [], "[S]"
        while word == "[M]" and token != "[E]" and len(answer) < limit:
            tokens.append(token)
            places.append(place)
            insides.append(len(answer) + 1)
            p = predict(tokens, places, insides, len(words))
            token = max(p, key=p.get)
            answer += [token] if token != "[E]" else []
        filled += answer if word == "[M]" else [word]
    return filled


def score(words, answer, predict):
    """The log-probability of an answer (a list of words) for the only "[M]" of a text.

    The sum of log p of each of its words and of the "[E]" after them. Each is predicted from the true words
    before it, not from what the model would have said.
    """
    A, place, total = len(words), words.index("[M]"), 0.0
    read = ["[S]", *answer]
    for n, word in enumerate([*answer, "[E]"], 1):
        insides = [0] * A + list(range(1, n + 1))
        p = predict(words + read[:n], list(range(A)) + [place] * n, insides, A)
        total += math.log(p[word])
    return total


def cloze(words, labels, predict):
    """Classification is filling a blank: the label whose words have the highest score.

    labels: {label: its words}. Example: {"good": ["great"], "bad": ["not", "great"]} for "it was [M]"
    """
    return max(labels, key=lambda label: score(words, labels[label], predict))
