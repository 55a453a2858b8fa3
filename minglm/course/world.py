"""The last task: the reader's own GLM learns a small world. stubs.py puts this behind solution.py."""

import math
import random

import torch

from .solution import adam, batch, fill, loss, mask, model, random_spans, sample

# ---- A small world ---------------------------------------------------------------------------------------
# Given: nine animals, a network of two layers, and a minute of training. The plain sentence about each
# animal, "the cat lives on the farm and eats mice", is never read.
FOOD = dict(deer="leaves", bear="honey", robin="worms", cow="grass", cat="mice", hen="corn")
FOOD |= dict(goose="weeds", otter="fish", frog="flies")
HOMES = ("in the forest", "on the farm", "by the river")  # of three animals each
ANIMALS = {animal: (HOMES[n // 3], food) for n, (animal, food) in enumerate(FOOD.items())}
FORMS = (
    "{3} {0} lives {1} and eats {2}",
    "{3} {0} eats {2} and lives {1}",
    "{3} {0} {1} looks for {2}",
    "{3} {0} finds {2} {1}",
    "{3} {0} that lives {1} eats {2}",
)
READ = [
    form.format(animal, *facts, first).split()
    for animal, facts in ANIMALS.items()
    for form in FORMS
    for first in ("the", "our", "this", "every")
    if (form, first) != (FORMS[0], "the")
]
VOCABULARY = ["[M]", "[S]", "[E]", *sorted({word for words in READ for word in words})]
IDS = {word: n for n, word in enumerate(VOCABULARY)} | {None: -1}
C, H, LAYERS, STEPS = 64, 4, 2, 1200


def new_weights():
    """Small random weights, tensors in dicts and lists."""

    def block(**shapes):
        weights = {}
        for name, shape in shapes.items():
            std = 0.02 / math.sqrt(2 * LAYERS) if name in ("out", "down") else 0.02
            weights[name] = torch.randn(shape) * std if len(shape) > 1 else torch.ones(shape)
            weights[name + "_bias"] = torch.zeros(shape[-1])
        return weights

    one = dict(norm1=(C,), qkv=(C, 3 * C), out=(C, C), norm2=(C,), up=(C, 4 * C), down=(4 * C, C))
    tables = dict(token=(len(VOCABULARY), C), position=(16, C), inside=(16, C))
    w = {name: torch.randn(shape) * 0.02 for name, shape in tables.items()}
    return w | block(norm=(C,)) | {"layers": [block(**one) for _ in range(LAYERS)]}


def ids_of(one):
    """A sample with ids in place of words."""
    tokens, places, insides, learned, A = one
    return [IDS[t] for t in tokens], places, insides, [IDS[t] for t in learned], A


def train():
    """Trained weights of the small world."""
    torch.manual_seed(0)
    rng, w = random.Random(0), new_weights()
    every = [w] + w["layers"]
    tensors = [x.requires_grad_() for part in every for x in part.values() if torch.is_tensor(x)]
    moments = [(torch.zeros_like(x), torch.zeros_like(x)) for x in tensors]
    for t in range(1, STEPS + 1):
        texts = rng.choices(READ, k=32)
        samples = [ids_of(sample(words, *random_spans(len(words), rng))) for words in texts]
        *inputs, learned, seen = batch(samples)
        value = loss(model(w, H, *inputs, seen), learned)
        grads = torch.autograd.grad(value, tensors)
        lr = 3e-3 * min(1, t / 30, 2 - 2 * (t - 1) / STEPS)  # rises for 30 steps, falls in the second half
        with torch.no_grad():
            for x, grad, (m, v) in zip(tensors, grads, moments, strict=True):
                adam(x, grad, m, v, t, lr)
        if t == 1 or t % (STEPS // 6) == 0:
            print(f"    step {t:4}   loss {value.item():.2f}", flush=True)
    return w


def predictor(w):
    """The `predict` of trained weights."""

    @torch.no_grad()
    def predict(tokens, places, insides, A):
        columns = (torch.tensor(numbers) for numbers in ([IDS[t] for t in tokens], places, insides))
        p = model(w, H, *columns, mask(len(tokens), A))[-1].softmax(-1)
        return dict(zip(VOCABULARY, p.tolist(), strict=True))

    return predict


if __name__ == "__main__":
    torch.set_num_threads(1)
    predict = predictor(train())
    for home, food in ANIMALS.values():
        text = f"the [M] lives {home} and eats {food}"
        print(f"{text:44} ->  {' '.join(fill(text.split(), predict))}")
