"""The arguments on which each puzzle is tried: a small case first, so that a mistake is easy to see."""

import math
import random
import zlib

import torch

from . import solution

PAPER = ("x1 x2 x3 x4 x5 x6".split(), [(2, 3), (4, 6)])
WORDS = "the old cat that lives on the farm eats mice in the dark barn".split()


class Predict:
    """A stand-in for a model, which keeps the calls it gets, so that they can be compared."""

    def __init__(self, name, answer):
        self.name, self.answer, self.calls = name, answer, []

    def __call__(self, tokens, positions, insides, A):
        call = [*tokens], [*map(int, positions)], [*map(int, insides)], int(A)
        self.calls.append(call)
        return self.answer(*call)

    def __deepcopy__(self, memo):
        return Predict(self.name, self.answer)

    def __repr__(self):
        return self.name


def cases(name):
    """A list of argument tuples for a puzzle. Deterministic, and tensors are float32 as in training."""
    return globals()[f"{name}_cases"]()


# ---- texts -----------------------------------------------------------------------------------------------


def spans_of(rng, count):
    """WORDS with `count` random spans and a random order of them."""
    cuts = sorted(rng.sample(range(len(WORDS) + 1), 2 * count))
    spans = list(zip(cuts[::2], cuts[1::2], strict=True))
    return WORDS, spans, rng.sample(range(count), count)


def texts():
    """(words, spans, order): the paper's example, spans at both ends, next to each other, three shuffled."""
    rng = random.Random(1)
    edges = [(WORDS[:5], [(0, 1), (4, 5)], [0, 1]), (WORDS[:4], [(1, 2), (2, 4)], [1, 0])]
    three = (WORDS, [(0, 2), (5, 6), (9, 12)], [2, 0, 1])
    return [(*PAPER, [1, 0]), *edges, three, *(spans_of(rng, n) for n in (1, 2, 3, 4, 4))]


def part_a_cases():
    return [(words, spans) for words, spans, _ in texts()] + [(WORDS[:3], [])]


mask_places_cases = part_a_cases
part_b_cases = targets_cases = positions_cases = inside_cases = texts


def restore_cases():
    samples = [solution.sample(*text) for text in texts()]
    return [(tokens, positions, targets, A) for tokens, positions, _, targets, A in samples]


# ---- masks -----------------------------------------------------------------------------------------------


def visible_cases():
    return [(i, A) for A in (5, 0, 10, 3) for i in range(10)]


def mask_cases():
    return [(6, 3), (10, 5), (5, 0), (4, 4), (1, 1), (7, 1)]


def part_a_len_cases():
    return [(solution.mask(T, A),) for T, A in ((6, 3), (10, 5), (7, 1), (4, 4), (9, 8))]


# ---- tensors ---------------------------------------------------------------------------------------------


def normal(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed + sum(shape)))


def softmax_cases():
    mask, small = (
        solution.mask(4, 2),
        torch.tensor([[0.0, 1, 2, 1], [2, 2, 1, 0], [1, 0, 1, 3], [0, 1, 0, 1]]),
    )
    large = torch.tensor([1000.0, 0, 30, 500])[:, None] + small
    deep = small - torch.tensor([0.0, 20000, 4e9, 0])[:, None]  # deeper than masks of -10000 and -1e9
    many = normal(2, 3, 5, 5), solution.mask(5, 3)[None, None].expand(2, 3, 5, 5)
    return [(small, mask), (large, mask), (deep, mask), many]


def attention_cases():
    mask = solution.mask(4, 2)
    one = [(normal(4, 2, seed=n) for n in range(3)), (normal(2, 3, 4, 9, seed=n) for n in range(3))]
    return [(*qkv, mask) for qkv in one]


def split_heads_cases():
    return [(torch.arange(12.0).view(2, 6), 3), (normal(4, 6), 2), (normal(3, 5, 8), 4)]


def layer_weights(C, seed=0):
    """Weights of a layer, with biases and scales that matter."""
    shapes = dict(norm1=(C,), qkv=(C, 3 * C), out=(C, C), norm2=(C,), up=(C, 4 * C), down=(4 * C, C))
    w = {}
    for n, (name, shape) in enumerate(shapes.items(), seed):
        w[name], w[name + "_bias"] = normal(*shape, seed=n) * 0.5, normal(shape[-1], seed=n + 50) * 0.5
    return w


def self_attention_cases():
    masks = solution.mask(5, 3), torch.stack([solution.mask(5, A) for A in (1, 4)])
    return [(normal(5, 6), layer_weights(6), 2, masks[0]), (normal(2, 5, 6), layer_weights(6), 3, masks[1])]


layer_cases = self_attention_cases


def layer_norm_cases():
    w = {"norm": normal(4, seed=3), "norm_bias": normal(4, seed=4)}
    small = torch.tensor([[1.0, 2, 3, 6], [0, 0, 4, 0]])
    return [(small, w, "norm"), (normal(2, 3, 4) + 5, w, "norm"), (0.004 * normal(3, 4), w, "norm")]


def gelu_cases():
    return [(torch.tensor([-3.0, -1, -0.5, 0, 0.5, 1, 3]),), (normal(3, 4),)]


def tables(V, C):
    """The embeddings of a network."""
    return {name: normal(V, C, seed=n) for n, name in enumerate(("token", "position", "inside"))}


def ids(*shape, below, seed=0):
    return torch.randint(below, shape, generator=torch.Generator().manual_seed(seed))


def embed_cases():
    w = tables(7, 3)
    three = [[ids(*shape, below=7, seed=n) for n in range(3)] for shape in ((4,), (2, 5))]
    return [(w, *columns) for columns in three]


def model_cases():
    made = []
    for shape, layers in (((5,), 1), ((2, 5), 2)):
        w = tables(7, 6) | {"norm": normal(6, seed=7), "norm_bias": normal(6, seed=8)}
        w["layers"] = [layer_weights(6, 10 * n) for n in range(layers)]
        columns = [ids(*shape, below=7, seed=n) for n in range(3)]
        made.append((w, 2, *columns, solution.mask(5, 3).expand(*shape[:-1], 5, 5)))
    return made


def loss_cases():
    logits = torch.tensor([[2.0, 0, 0], [0, 3, 0], [0, 1, 5], [1, 0, 0]])
    targets = torch.tensor([-1, 1, -1, 2])
    all_of = torch.tensor([0, 1, 2, 2])
    large = 500 * logits, torch.tensor([0, 0, -1, 0])
    many = normal(2, 4, 5), torch.tensor([[-1, -1, 4, 0], [-1, 1, 2, -1]])
    return [(logits, targets), (logits, all_of), large, many]


# ---- learning and using ----------------------------------------------------------------------------------


def place_spans_cases():
    return [([2, 3], [1, 3]), ([1], [0]), ([1, 1, 2], [0, 0, 0]), ([3, 1, 2, 1], [2, 2, 5, 9])]


def batch_cases():
    short, long = (
        ([3, 0, 1, 5], [0, 1, 1, 1], [0, 0, 1, 2], [-1, -1, 5, 2], 2),
        ([3, 4, 0, 1, 7, 8], *[[]] * 3, 3),
    )
    long = (long[0], [0, 1, 2, 2, 2, 2], [0, 0, 0, 1, 2, 3], [-1, -1, -1, 7, 8, 2], 3)
    return [([short, long],), ([long, short, short],), ([short],)]


def adam_cases():
    made = []
    for seed, t in ((0, 1), (1, 2), (2, 300)):
        w, grad, m = (normal(2, 3, seed=seed + n) for n in range(3))
        v = normal(2, 3, seed=seed + 9) ** 2
        made.append((w, grad, m * (t > 1), v * (t > 1), t, 0.1))
    return made


def story(**answers):
    """A Predict that knows what belongs at which place: story(at1="old cat")."""
    answers = {int(name[2:]): [*text.split(), "[E]"] for name, text in answers.items()}
    others = dict.fromkeys(("[E]", "dog", "old", "cat", "not", "great", "(nonsense)"), 0.01)

    def answer(tokens, positions, insides, A):
        rest = answers.get(positions[-1], [])[insides[-1] - 1 : insides[-1]] if insides[-1] > 0 else []
        return others | {rest[0] if rest and tokens[-1] != "[E]" else "(nonsense)": 0.9}

    return Predict("predict", answer)


def chance(end):
    """A Predict whose probabilities depend on everything that it is given. end: how likely "[E]" is."""

    def answer(tokens, positions, insides, A):
        p, total = {}, 0.0
        for word in ("old", "cat", "not", "great", "[E]"):
            bits = zlib.crc32(repr((word, tokens, positions, insides, A)).encode())
            p[word] = math.exp(bits % 1000 / 250) * (end if word == "[E]" else 1)
            total += p[word]
        return {word: value / total for word, value in p.items()}

    return Predict("predict", answer)


def fill_cases():
    two = "the [M] that lives on the [M] eats mice".split()
    return [
        ("the [M] sleeps".split(), story(at1="old cat")),
        (two, story(at1="old cat", at6="farm")),
        (two, story(at1="", at6="small green farm")),
        ("the [M]".split(), story(at1="very " * 9)),
        *[(two, chance(end)) for end in (0.5, 1.0, 1.5)],
    ]


def score_cases():
    text = "it was [M] today".split()
    answers = ["cat"], ["not", "great"], ["old", "old", "cat"]
    return [(text, ["old", "cat"], story(at2="old cat"))] + [(text, a, chance(0.7)) for a in answers]


def cloze_cases():
    text, labels = (
        "it was [M] today".split(),
        {"good": ["great"], "bad": ["not", "great"], "animal": ["old", "cat"]},
    )
    knows = [(text, labels, story(at2=words)) for words in ("not great", "great", "old cat")]
    return knows + [(text, labels, chance(end)) for end in (0.3, 5.0)]
