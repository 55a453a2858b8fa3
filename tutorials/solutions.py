"""Answers to the exercises of the chapters, and wrong ones that their checks must catch.

SOLUTIONS["NN_name"] is a list with one Exercise for each function `check_...` of tutorials/NN_name.py.
The pages show the right ones, folded away. `python tutorials/render.py --check` passes every answer to its
check: the right one must pass, each wrong one must raise AssertionError with a message.
"""

import numpy as np
import torch
import torch.nn.functional as F
from pages import Exercise

from minglm import masked_attention
from minglm.spans import poisson_cdf

SOLUTIONS = {}


# 00_one_blank


def count_rows(L, spans):
    cut = sum(end - start for start, end in spans)
    return (L - cut + len(spans)) + (cut + len(spans))


def part_b(words, spans, order, first="[S]", sort=False):
    rows = []
    for k in sorted(order) if sort else order:
        start, end = spans[k]
        rows += [first, *words[start:end]]
    return rows


SOLUTIONS["00_one_blank"] = [
    Exercise(
        "check_count_rows",
        right=count_rows,
        wrong=[
            lambda L, spans: L + len(spans),  # the [M]s are missing
            lambda L, spans: L + 3 * len(spans),  # [E] counted, which is never an input
            lambda L, spans: L - sum(end - start for start, end in spans) + len(spans),  # Part A alone
        ],
    ),
    Exercise(
        "check_part_b",
        right=part_b,
        wrong=[
            lambda words, spans, order: part_b(words, spans, order, sort=True),  # in the order of the text
            lambda words, spans, order: [
                w for k in order for w in (*words[slice(*spans[k])], "[E]")
            ],  # the targets, not what is read
        ],
    ),
    Exercise(
        "check_goose",
        right="The [MASK] eats weeds and lives by the river.",
        wrong=[
            "The [MASK] eats mice and lives on the farm.",
            "The goose is a [MASK].",
            "A text without a blank.",
        ],
    ),
]


# 04_filling_by_hand


def next_row(row, token):
    return None if token == "[E]" else (token, row[1], row[2] + 1)


def put_back(part_a, answers):
    return [word for i, token in enumerate(part_a) for word in answers.get(i, [token])]


def _put_back_while_it_grows(part_a, answers):
    for place, answer in sorted(answers.items()):  # the first answer moves all later places
        part_a[place : place + 1] = answer
    return part_a


SOLUTIONS["04_filling_by_hand"] = [
    Exercise(
        "check_next_row",
        right=next_row,
        wrong=[
            lambda row, token: (token, row[1], row[2] + 1),  # [E] is never read
            lambda row, token: None if token == "[E]" else (token, row[1] + 1, row[2] + 1),  # a new position
            lambda row, token: None if token == "[E]" else (token, row[1], row[2]),
            lambda row, token: None,  # no return
        ],
    ),
    Exercise(
        "check_put_back",
        right=put_back,
        wrong=[
            _put_back_while_it_grows,
            lambda part_a, answers: [token for token in part_a if token != "[M]"],
            lambda part_a, answers: None,
        ],
    ),
]


# 05_three_families


def _learned(model, text_len, lengths):
    """BERT learns each blanked word, GPT all words but the first, T5 also a sentinel per blank and one more,
    GLM also an [E] per blank."""
    blanked, blanks = sum(lengths), len(lengths)
    return {"bert": blanked, "gpt": text_len - 1, "t5": blanked + blanks + 1, "glm": blanked + blanks}[model]


SOLUTIONS["05_three_families"] = [
    Exercise(
        "check_one_integer",
        right={"bert": 7, "gpt": 1, "prefix": 3},  # gpt: 0 too, as a row sees itself anyway
        wrong=[
            {"bert": 0, "gpt": 7, "prefix": 3},
            {"bert": 7, "gpt": 0, "prefix": 2},
            {"bert": 6, "gpt": 0, "prefix": 3},
        ],
    ),
    Exercise(
        "check_independent",
        right=[("A", "x"), ("A", "y"), ("B", "x"), ("B", "y")],  # every first with every second word
        wrong=[
            [("A", "x"), ("B", "y")],
            [("A", "x"), ("A", "y")],
            [("A", "x"), ("A", "y"), ("B", "y")],
            [("A", "x"), ("B",)],
        ],
    ),
    Exercise(
        "check_learned",
        right=_learned,
        wrong=[
            lambda model, text_len, lengths: sum(lengths),
            lambda model, text_len, lengths: (
                text_len if model == "gpt" else _learned(model, text_len, lengths)
            ),
            lambda model, text_len, lengths: _learned("glm" if model == "t5" else model, text_len, lengths),
        ],
    ),
]


# 01_breaking_a_text
def slots_of(spans):
    shift, slots = 0, []
    for start, end in spans:
        slots.append(start - shift)
        shift += end - start + 1  # what `place` added for this span: its tokens and the gap after it
    return slots


def slots_without_gaps(spans):
    shift, slots = 0, []
    for start, end in spans:
        slots.append(start - shift)
        shift += end - start
    return slots


def mean_blanked(budget):
    """f(0) = 0, f(b) = sum of p(n) (n + f(b - n)): after the first length n, a budget of b - n is left."""
    law = np.diff(poisson_cdf(3.0, 40), prepend=0.0)
    f = [0.0]
    for b in range(1, budget + 1):
        f.append(sum(p * (n + f[max(0, b - n)]) for n, p in enumerate(law, 1)))
    return f[budget]


SOLUTIONS["01_breaking_a_text"] = [
    Exercise(
        "check_slots_of",
        right=slots_of,
        wrong=[
            lambda spans: [start for start, _ in spans],  # places in the text are not slots
            slots_without_gaps,
            lambda spans: [start + 1 for start in slots_of(spans)],
        ],
    ),
    Exercise("check_mean_blanked", right=mean_blanked(3), wrong=[3.0, 3.157, mean_blanked(2), 3 + 3.157]),
    Exercise(
        "check_puzzle",
        right=([(0, 2), (5, 6), (10, 13)], [2, 0, 1]),
        wrong=[
            ([(0, 2), (5, 6), (10, 13)], [1, 2, 0]),  # the inverse permutation
            ([(0, 2), (4, 5), (9, 12)], [2, 0, 1]),  # positions in Part A, not in the text
            ([(0, 1), (5, 5), (10, 12)], [2, 0, 1]),  # the end is not in the span
            ([(1, 3), (6, 7), (11, 14)], [2, 0, 1]),  # counted from 1
        ],
    ),
]


# 02_two_positions
def layout(position_ids, block_position_ids):
    rows = {}  # how many rows of Part B stand at each mask; a dict keeps the order in which they came
    for position, block in zip(position_ids, block_position_ids, strict=True):
        if block:
            rows[position] = rows.get(position, 0) + 1
    spans, longer = [], 0  # longer: how far the text is ahead of Part A
    for position in sorted(rows):
        length = rows[position] - 1  # sop is a row, but not a token of the span
        spans.append((position + longer, position + longer + length))
        longer += length - 1
    return spans, [sorted(rows).index(position) for position in rows]


def layout_in_part_a(position_ids, block_position_ids):
    spans, order = layout(position_ids, block_position_ids)
    masks = sorted({p for p, b in zip(position_ids, block_position_ids, strict=True) if b})
    return [(at, at + end - start) for at, (start, end) in zip(masks, spans, strict=True)], order


def layout_with_sop(position_ids, block_position_ids):
    spans, order = layout(position_ids, block_position_ids)
    return [(start, end + 1) for start, end in spans], order


def first_row(part_a, n):
    return "[S]", [i for i, token in enumerate(part_a) if token == "[M]"][n], 1


SOLUTIONS["02_two_positions"] = [
    Exercise(
        "check_layout",
        right=layout,
        wrong=[
            layout_in_part_a,  # a mask is one token, a span is not
            layout_with_sop,
            lambda *rows: (layout(*rows)[0], sorted(layout(*rows)[1])),
            lambda *rows: (
                layout(*rows)[0],
                np.argsort(layout(*rows)[1]).tolist(),
            ),  # the inverse permutation
        ],
    ),
    Exercise(
        "check_first_row",
        right=first_row,
        wrong=[
            lambda part_a, n: ("[S]", first_row(part_a, n)[1], 0),  # that is where the mask stands
            lambda part_a, n: ("[S]", len(part_a), 1),  # Part B takes no new positions
            lambda part_a, n: ("[M]", first_row(part_a, n)[1], 1),
            lambda part_a, n: ("[S]", first_row(part_a, n)[1] + 1, 1),  # counted from 1
            lambda part_a, n: ("[S]", n, 1),
        ],
    ),
]


# 03_who_sees_whom
SOLUTIONS["03_who_sees_whom"] = [
    Exercise(
        "check_part_a_lens_of",
        right=lambda visible: [
            n for n in range(len(visible) + 1) if visible == [max(n, i + 1) for i in range(len(visible))]
        ],
        wrong=[
            lambda visible: [visible[0]],
            lambda visible: [visible.count(visible[0])],
            lambda visible: [0, 1],
            lambda visible: range(len(visible) + 1),
        ],
    ),
    Exercise(
        "check_open_cells",
        right=lambda T, A: A * T + (T - A) * (T - A + 1) // 2,
        wrong=[
            lambda T, A: A * T + (T - A) * (T - A) // 2,
            lambda T, A: A * A + (T - A) * (T - A + 1) // 2,
            lambda T, A: T * (T + 1) // 2,
            lambda T, A: A * T + (T - A) * (T - A - 1) // 2,
        ],
    ),
    Exercise(
        "check_cheating_rows",
        right={6: [], 7: [5], 8: [5, 6], 9: [5, 6], 10: [5, 6, 8]},
        wrong=[
            {6: [5], 7: [5, 6], 8: [5, 6], 9: [5, 6, 8], 10: [5, 6, 8]},  # off by one
            {6: [], 7: [5], 8: [5, 6], 9: [5, 6, 7], 10: [5, 6, 7, 8]},  # row 7 says [E], which no row reads
            {6: [], 7: [6], 8: [6, 7], 9: [6, 7], 10: [6, 7, 9]},
            {7: [5]},
        ],
    ),
]


# 06_attention_by_hand
def weights_of(scores, may_attend):
    powers = np.zeros(scores.shape)
    for i in range(len(scores)):
        seen = may_attend[i]
        if seen.any():
            powers[i, seen] = np.exp(scores[i, seen] - scores[i, seen].max())
            powers[i] /= powers[i].sum()
    return powers


def weights_with_minus_infinity(scores, may_attend):  # a blind row is NaN
    scores = np.where(may_attend, scores, -np.inf)
    powers = np.exp(scores - scores.max(1, keepdims=True))
    return powers / powers.sum(1, keepdims=True)


def weights_with_a_wall(scores, may_attend):  # -10000 hides nothing from scores of -20000
    scores = np.where(may_attend, scores, -10000)
    powers = np.exp(scores - scores.max(1, keepdims=True)) * may_attend.any(1, keepdims=True)
    return powers / np.maximum(powers.sum(1, keepdims=True), 1e-300)


def weights_zeroed_after(scores, may_attend):
    powers = np.exp(scores - scores.max(1, keepdims=True))
    return powers / powers.sum(1, keepdims=True) * may_attend


def weights_that_overflow(scores, may_attend):
    powers = np.exp(scores) * may_attend
    return powers / np.maximum(powers.sum(1, keepdims=True), 1e-300)


SOLUTIONS["06_attention_by_hand"] = [
    Exercise(
        "check_weights_of_sat",
        right=[4 / 80, 16 / 80, 4 / 80, 8 / 80, 32 / 80, 16 / 80],
        wrong=[
            [1 / 16, 1 / 4, 1 / 16, 1 / 8, 1 / 2, 0],  # under GLM's mask
            [2 / 28, 8 / 28, 2 / 28, 4 / 28, 8 / 28, 4 / 28],  # row 3
            [1 / 20, 4 / 20, 1 / 20, 2 / 20, 8 / 20],
            [2 / 20, 4 / 20, 2 / 20, 3 / 20, 5 / 20, 4 / 20],
        ],
    ),
    Exercise(
        "check_foot_of_the_wall", right=-10000 - np.log(2), wrong=[-10000, -10000 + np.log(2), -5000, 0]
    ),
    Exercise(
        "check_weights_of",
        right=weights_of,
        wrong=[weights_with_minus_infinity, weights_with_a_wall, weights_zeroed_after, weights_that_overflow],
    ),
]


# 07_the_model


def key_rows(head, C, H):
    D = C // H
    return list(range(C + head * D, C + (head + 1) * D))


def post_ln(layer, x, mask, norm_at_the_end=True, causal=False):
    q, k, v = layer.qkv(x).view(len(x), 3, layer.num_heads, -1).unbind(1)
    x = x + layer.out(masked_attention(q, k, v, mask.gpt(mask.len_q) if causal else mask).flatten(1))
    x = layer.norm1(x)
    x = x + layer.down(F.gelu(layer.up(x), approximate="tanh"))
    return layer.norm2(x) if norm_at_the_end else x


SOLUTIONS["07_the_model"] = [
    Exercise(
        "check_key_rows",
        right=key_rows,
        wrong=[
            lambda head, C, H: list(range(C, 2 * C)),  # of all heads
            lambda head, C, H: [
                3 * (C // H) * head + C // H + d for d in range(C // H)
            ],  # each head's q, k, v together
            lambda head, C, H: list(range(head * (C // H), (head + 1) * (C // H))),  # the queries
        ],
    ),
    Exercise(
        "check_post_ln",
        right=post_ln,
        wrong=[
            lambda layer, x, mask: layer(x, mask, "reference"),  # pre-LN
            lambda layer, x, mask: post_ln(layer, x, mask, norm_at_the_end=False),
            lambda layer, x, mask: post_ln(layer, x, mask, causal=True),  # not GLM's mask
        ],
    ),
]


# 11_tiles
def merge(a, b):
    m = max(a[0], b[0])
    parts = [(np.exp(x[0] - m), x) for x in (a, b)]
    return m, sum(f * x[1] for f, x in parts), sum(f * x[2] for f, x in parts)


def merge_without_shrinking(a, b):
    return max(a[0], b[0]), a[1] + b[1], a[2] + b[2]


def merge_of_outputs(a, b):  # o divided by l too early
    m, total, o = merge(a, b)
    return m, total, o / total


def merge_that_shrinks_only_the_first(a, b):
    m = max(a[0], b[0])
    f = np.exp(a[0] - m)
    return m, f * a[1] + b[1], f * a[2] + b[2]


SOLUTIONS["11_tiles"] = [
    Exercise(
        "check_merge",
        right=merge,
        wrong=[merge_without_shrinking, merge_of_outputs, merge_that_shrinks_only_the_first],
    ),
    Exercise(
        "check_first_row",
        right=lambda j, part_a_len: j if j >= part_a_len else 0,
        wrong=[
            lambda j, part_a_len: j,
            lambda j, part_a_len: max(j, part_a_len),
            lambda j, part_a_len: j + 1 if j >= part_a_len else 0,
        ],
    ),
    Exercise("check_tiles", right=[38, 4], wrong=[[42, 0], [34, 8], [64, 0], [37, 5]]),
]


# 12_the_cpu_kernel
def exp_of(x):
    n = np.round(x * 1.4426950408889634)
    f = (x * 1.4426950408889634 + -1 * n) * 0.6931471805599453
    y = np.ones_like(f)
    for k in range(8, 0, -1):
        y = 1 + y * f * (1 / k)
    return np.ldexp(y, n.astype(int))


def exp_without_reduction(x):
    y = np.ones_like(x)
    for k in range(8, 0, -1):
        y = 1 + y * x * (1 / k)
    return y


def exp_with_too_few_terms(x):
    n = np.round(x * 1.4426950408889634)
    f = x + -0.6931471805599453 * n
    return np.ldexp(1 + f + f * f * 0.5, n.astype(int))


SOLUTIONS["12_the_cpu_kernel"] = [
    Exercise(
        "check_loads_of",
        # each number of A is loaded once per column of tiles, each of B once per row of tiles
        right=lambda M, K, N, rows, columns: K * (M * N // columns + N * M // rows),
        wrong=[
            lambda M, K, N, rows, columns: 2 * M * K * N,  # no tiles
            lambda M, K, N, rows, columns: K * (M + N),  # every number once
            lambda M, K, N, rows, columns: K * (rows + columns),  # one tile alone
        ],
    ),
    Exercise("check_best_tile", right=(5, 5), wrong=[(6, 4), (6, 5), (1, 15), (4, 6)]),
    Exercise(
        "check_exp",
        right=exp_of,
        wrong=[
            exp_without_reduction,
            exp_with_too_few_terms,
            lambda x: np.ldexp(np.ones_like(x), np.round(x * 1.4426950408889634).astype(int)),
        ],
    ),
]


# 13_the_cuda_kernel
SOLUTIONS["13_the_cuda_kernel"] = [
    Exercise(
        "check_holder",
        right=lambda row, column: (row % 8 * 4 + column // 2, row // 8 * 2 + column % 2),
        wrong=[
            lambda row, column: (row // 2 * 4 + column // 2, row % 2 * 2 + column % 2),
            lambda row, column: (row % 8 * 4 + column % 4, row // 8 * 2 + column // 4),
            lambda row, column: (row % 8 * 4 + column // 2, row // 8 + column % 2 * 2),
        ],
    ),
    Exercise(
        "check_place",
        right=lambda row, chunk: 4 * row + (chunk ^ row // 2 % 4),
        wrong=[
            lambda row, chunk: 4 * row + chunk,
            lambda row, chunk: 4 * row + (chunk ^ row % 4),
            lambda row, chunk: 8 * row + chunk,
        ],
    ),
]


# 08_full_pretraining
SOLUTIONS["08_full_pretraining"] = [
    Exercise(
        "check_batch_loss",
        right=lambda means, targets: sum(m * n for m, n in zip(means, targets, strict=True)) / sum(targets),
        wrong=[
            lambda means, targets: sum(means) / len(means),  # the mean of means
            lambda means, targets: sum(means) / sum(targets),  # sums and means mixed up
        ],
    ),
    Exercise(
        "check_warm",
        right=lambda step, warmup, peak: peak * (step + 1) / warmup,
        wrong=[
            lambda step, warmup, peak: peak * step / warmup,  # the first step learns nothing
            lambda step, warmup, peak: peak,
        ],
    ),
]


# 09_filling_writing_classifying


def rows_read(part_a_len, lens):
    steps = sum(n + 1 for n in lens)  # each token, and the end
    return sum(part_a_len + n for n in range(1, steps + 1)), part_a_len + steps


def label_probabilities(row, words):
    p = torch.stack([row[ids].logsumexp(0) for ids in words.values()]).softmax(0)
    return dict(zip(words, p.tolist(), strict=True))


def _best_word(row, words):
    p = torch.stack([row[ids].max() for ids in words.values()]).softmax(0)
    return dict(zip(words, p.tolist(), strict=True))


SOLUTIONS["09_filling_writing_classifying"] = [
    Exercise(
        "check_rows_read",
        right=rows_read,
        wrong=[
            lambda A, lens: (
                sum(A + n for n in range(1, sum(lens) + 1)),
                A + sum(lens),
            ),  # the end is predicted too
            lambda A, lens: (
                sum(rows_read(A, [n])[0] for n in lens),
                rows_read(A, lens)[1],
            ),  # earlier blanks forgotten
            lambda A, lens: (rows_read(A, lens)[0], sum(n + 1 for n in lens)),  # Part A is read once
        ],
    ),
    Exercise("check_temperature", right=2.0, wrong=[0.5, 3.0, 1.0, 9 / 3 / 2]),
    Exercise(
        "check_label_probabilities",
        right=label_probabilities,
        wrong=[
            lambda row, words: {
                label: row.softmax(0)[ids].sum() for label, ids in words.items()
            },  # among all tokens
            _best_word,
            lambda row, words: dict(
                zip(words, torch.stack([row[ids].mean() for ids in words.values()]).softmax(0), strict=True)
            ),
        ],
    ),
]


# 10_beyond


def _turn(x, positions, n):
    theta = 10000.0 ** (-2 * torch.arange(n) / (2 * n))
    angles = positions[:, None] * theta
    a, b = x[:, 0::2], x[:, 1::2]
    turned = angles.cos() * a - angles.sin() * b, angles.sin() * a + angles.cos() * b
    return torch.stack(turned, dim=-1).flatten(1)


def rotary_2d(x, position_ids, block_position_ids):
    half = x.shape[1] // 2
    first, second = (
        _turn(x[:, :half], position_ids, half // 2),
        _turn(x[:, half:], block_position_ids, half // 2),
    )
    return torch.cat([first, second], dim=1)


def _one_theta(x, position_ids, block_position_ids):
    theta = 10000.0 ** (
        -2 * torch.arange(x.shape[1] // 2) / x.shape[1]
    )  # the angles of a whole head, cut in two
    half, n = x.shape[1] // 2, len(theta) // 2
    halves = (x[:, :half], position_ids, theta[:n]), (x[:, half:], block_position_ids, theta[n:])
    turned = []
    for part, ids, angle in halves:
        a, b, angles = part[:, 0::2], part[:, 1::2], ids[:, None] * angle
        turned += [
            torch.stack(
                (angles.cos() * a - angles.sin() * b, angles.sin() * a + angles.cos() * b), -1
            ).flatten(1)
        ]
    return torch.cat(turned, dim=1)


SOLUTIONS["10_beyond"] = [
    Exercise(
        "check_rotary_2d",
        right=rotary_2d,
        wrong=[
            lambda x, p, b: _turn(x, p, x.shape[1] // 2),  # one position for the whole head
            lambda x, p, b: rotary_2d(x, b, p),
            _one_theta,
            lambda x, p, b: rotary_2d(x, p, b) * 2,
        ],
    ),
    Exercise(
        "check_join_qkv",
        right=lambda pieces: torch.cat(
            [torch.cat(thirds) for thirds in zip(*(p.chunk(3) for p in pieces), strict=True)]
        ),
        wrong=[
            torch.cat,  # rank after rank
            lambda pieces: torch.cat([third for p in pieces[::-1] for third in p.chunk(3)]),
        ],
    ),
]


# museum
SOLUTIONS["museum"] = [
    Exercise(
        "check_one_cell",
        right=[0, 1, 2, 3, 4, 5, 6],  # every row looks at row 2, which passes it on
        wrong=[[2], [0, 1, 2, 3, 4], list(range(10)), [5, 6]],
    )
]
