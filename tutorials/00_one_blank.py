# %% [markdown]
# # 00 One blank
# *What does GLM do?*
#
# It fills blanks. `The [MASK] lives on the farm and eats mice.` Whoever knows the animals in
# question looks at both sides of the blank and writes `cat`. In this chapter a network learns to do
# so from a few hundred simple sentences, and the same blank is filled before and after. The
# chapters behind this one take it apart; here is the whole, from far away.
# %%
import math
import re
from itertools import product

import matplotlib.pyplot as plt
import torch

from minglm import (
    GLM,
    GLMConfig,
    Rng,
    Span,
    Tokenizer,
    build_example,
    explain,
    fill,
    pack,
    sample_spans,
    score,
)
from minglm.use.models import BOX, read_model
from minglm.viz.figures import draw
from minglm.viz.palette import KINDS, THEMES

torch.set_num_threads(1)  # this model is too small to share
plt.rc("axes.spines", top=False, right=False)
BLUE, SAND, SOFT = KINDS["AA"].light, KINDS["BE"].light, THEMES["light"]["soft"]

# %% [markdown]
# ## A small world
# Nine animals. Three live in each place, and each has a food of its own. One plain sentence about
# each is kept back for a test: the model reads others like it, but never this one.
# %% exact
ANIMALS = {
    "deer": ("in the forest", "leaves"),
    "bear": ("in the forest", "honey"),
    "robin": ("in the forest", "worms"),
    "cow": ("on the farm", "grass"),
    "cat": ("on the farm", "mice"),
    "hen": ("on the farm", "corn"),
    "goose": ("by the river", "weeds"),
    "otter": ("by the river", "fish"),
    "frog": ("by the river", "flies"),
}
FORMS = (
    "{3} {0} lives {1} and eats {2}.",
    "{3} {0} eats {2} and lives {1}.",
    "{3} {0} {1} looks for {2}.",
    "{3} {0} finds {2} {1}.",
    "{3} {0}, which eats {2}, lives {1}.",
    "{3} {0} that lives {1} eats {2}.",
)
OPENINGS = (
    "The",
    "Our",
    "This",
    "Every",
    "Today the",
    "Today our",
    "At night the",
    "At night our",
    "In spring the",
    "In spring our",
)

kept = {animal: FORMS[0].format(animal, *facts, "The") for animal, facts in ANIMALS.items()}
every = [
    form.format(animal, *facts, opening)
    for animal, facts in ANIMALS.items()
    for form, opening in product(FORMS, OPENINGS)
]
read = Rng(0).shuffle([sentence for sentence in every if sentence not in kept.values()])[:400]
print(f"{len(read)} sentences to read:", *read[:4], "...", sep="\n    ")
print(f"{len(kept)} kept back:", *list(kept.values())[:2], "...", sep="\n    ")
QUESTION = kept["cat"].replace("cat", "[MASK]")
print("the question:", QUESTION, sep="\n    ")

# %% [markdown]
# The farm leaves three animals, and only the last word says which. A model that reads from left to
# right has to answer before it has read a single clue.
#
# ## Before
# A text becomes numbers, one for each word, piece of a word or mark. The network is a small GLM
# whose weights are random.
# %%
tokenizer = Tokenizer.train(read, 500)
special = tokenizer.special  # the tokens that are no text, [MASK] among them
torch.manual_seed(1)
model = GLM(
    GLMConfig(tokenizer.vocab_size, hidden_size=64, num_layers=2, num_heads=4, max_positions=32, dropout=0.0)
)
print("as tokens:", tokenizer.pieces(tokenizer.encode(QUESTION, special=True)))
print(f"{model.num_parameters():,} weights, {tokenizer.vocab_size} tokens to choose from\n")
print("before:", fill(model, tokenizer, QUESTION, max_tokens=6).text)


# %% [markdown]
# Rubbish, as it should be. How likely does it hold the nine animals to be? The probability of an
# answer is the product over its tokens and its end.
# %%
def probabilities(text):
    found = {}
    for animal in ANIMALS:
        [answer] = score(model, tokenizer, text, [animal])
        found[animal] = math.exp(answer.log_probability)
    return found


before = probabilities(QUESTION)
print(f"all nine animals together: {sum(before.values()):.6f}")

# %% [markdown]
# ## What it learns from
# Nobody writes questions and answers. Some words of a sentence are cut out, and these words are
# what the model has to write.
#
# - **Part A** is the sentence with one `[M]` (`[MASK]`) for each blank, of however many words.
# - **Part B** is what was cut out: the blanks in a random order, each begun by `[S]`. Behind its
#   last word the model has to say `[E]`: the blank ends here.
# - **Two positions** tell where a token belongs: the first, which blank; the second, where inside.
# %% exact
words = "The bear lives in the forest and eats honey .".split()
spans, order = [(1, 2), (5, 8)], [1, 0]  # words 1 and 5, 6, 7; the second blank comes first
d = explain(words, spans, order)
for name, row in (
    ("", d.tokens),
    ("learns", d.targets),
    ("position", d.position_ids),
    ("block position", d.block_position_ids),
):
    print(f"{name:15}" + "".join(f"{'' if x is None else str(x):>7}" for x in row))

# %%
draw("positions", derivation=d, width=700)


# %% [markdown]
# A row of Part B says the next token of its blank. The loss is how surprised it was by the right
# one: minus the logarithm of the probability that it gave to it, averaged over these rows. By hand
# on one sentence, then by the library:
# %%
def tokens_of(sentence):
    return [special.cls, *tokenizer.encode(sentence), special.eos]  # a first and a last token


sample = build_example(tokens_of(read[0]), [Span(2, 3), Span(6, 8)], [1, 0], special)
batch = pack([sample])  # one sample or many, end to end
with torch.no_grad():
    logits = model(batch.tokens, batch.position_ids, batch.block_position_ids, batch.mask)
p = logits.softmax(-1)  # (N, V)
surprise = 0.0
for row, target in zip(batch.target_rows.tolist(), batch.targets.tolist(), strict=True):
    surprise -= math.log(p[row, target])
    print(
        f"after {tokenizer.token_str(batch.tokens[row]):16} the right next token is "
        f"{tokenizer.token_str(target):14} probability {p[row, target]:.4f}"
    )
by_hand = surprise / len(batch.targets)
print(f"\nloss by hand {by_hand:.4f}, by the library {model.loss(batch).item():.4f}")
assert abs(by_hand - model.loss(batch).item()) < 1e-4

# %% [markdown]
# (`[S]` and `[E]` are `<|startofpiece|>` and `<|endofpiece|>` in full.) A model that knows nothing
# gives each of $V$ tokens the probability $1/V$, which costs $\ln V$.
#
# ## Training
# Each step takes 32 sentences, cuts new blanks into them, and moves every weight a little so that
# the loss becomes smaller. That is all.
# %%
model.train()
optimizer = torch.optim.AdamW(model.parameters())
steps, losses = 2000, []
for step in range(steps):
    samples = []
    for n in range(32):
        rng = Rng(1, step, n)
        ids = tokens_of(read[rng.integer(len(read))])
        spans = sample_spans(ids, "token", rng, has_eos=True, mask_ratio=0.3, mean_length=1.5)
        order = rng.shuffle(list(range(len(spans))))
        samples.append(build_example(ids, spans, order, special))
    loss = model.loss(pack(samples))
    optimizer.zero_grad()
    loss.backward()
    # warmed up for 30 steps, and brought down to 0 in the second half
    optimizer.param_groups[0]["lr"] = 3e-3 * min(1, (step + 1) / 30, 2 * (1 - step / steps))
    optimizer.step()
    losses.append(loss.item())
model.eval()
ln_V, end = math.log(tokenizer.vocab_size), sum(losses[-20:]) / 20
print(f"{steps} steps; loss {losses[0]:.2f} at first, {end:.2f} at the end; ln V = {ln_V:.2f}")
assert abs(losses[0] - ln_V) < 0.3 and end < 2

fig, ax = plt.subplots(figsize=(6.4, 2.8), layout="constrained")
ax.plot(losses, color=BLUE, lw=1)
ax.axhline(ln_V, color=SOFT, ls=":")
ax.text(steps, ln_V * 1.02, "ln V: knows nothing", ha="right", va="bottom", color=SOFT)
ax.set(xlabel="step", ylabel="loss, nats a token", ylim=(0, ln_V * 1.15))
fig.alt_text = "The loss begins at ln V, falls steeply, and then levels off above 0."

# %% [markdown]
# The loss does not reach 0, and cannot: where both the animal and its food are cut out, nobody can
# know which one it was, and which word opened a sentence is anybody's guess.
#
# ## After
# The same blank, which the model has never seen filled:
# %%
print("after:", fill(model, tokenizer, QUESTION, max_tokens=6).text)
after = probabilities(QUESTION)
print(f"all nine animals together: {sum(after.values()):.4f}")
assert max(after, key=after.get) == "cat" and after["cat"] > 0.5

fig, (left, right) = plt.subplots(1, 2, figsize=(6.4, 3.0), layout="constrained", sharey=True)
for ax, title, found, colour in ((left, "before", before, SAND), (right, "after", after, BLUE)):
    ax.barh(list(found), found.values(), color=colour)
    ax.set(title=title, xlabel="probability of the answer")
left.invert_yaxis()
left.ticklabel_format(axis="x", style="sci", scilimits=(0, 0))
right.set_xlim(0, 1)
fig.alt_text = (
    "The probability of each of nine animals as the answer: about equal and near 0 "
    "before training, mostly on cat after it."
)


# %% [markdown]
# Mind the left scale: an animal was one answer among very many. And if half of the question is
# taken away? The first text below leaves three animals possible, the second only one.
# %%
def likeliest(model, tokenizer, text):
    """The three likeliest answers for the first blank of a text."""
    answers = fill(model, tokenizer, text, top=3).blanks[0].alternatives
    return ", ".join(f"{a.text.strip()} ({math.exp(a.log_probability):.2f})" for a in answers)


for text in ("The [MASK] lives on the farm and [MASK].", "The [MASK] eats mice and [MASK]."):
    print(f"{text}\n    {likeliest(model, tokenizer, text)}")

# %% [markdown]
# All nine sentences that were kept back, with the animal, the place or the food cut out. A blank
# may hold several words: nothing tells the model how many.
# %%
correct = {"animal": 0, "place": 0, "food": 0}
for animal, (place, food) in ANIMALS.items():
    for kind, answer in (("animal", animal), ("place", place), ("food", food)):
        text = kept[animal].replace(answer, "[MASK]", 1)
        filled = fill(model, tokenizer, text, max_tokens=8).blanks[0].text.strip()
        correct[kind] += filled == answer
        if animal == "otter":
            print(f"{text:45} -> {filled}")
print("\ncorrect, of nine each:", correct)

# %% [markdown]
# ## A model that has read stories
# The same network with more weights comes with minglm. It has read simple stories. The three
# likeliest answers for each blank:
# %%
box, its_tokenizer = read_model(BOX)
print(f"{box.num_parameters():,} weights")
for text in (
    "She was very [MASK] to see him.",
    "And God [MASK] the light.",
    "My dear [MASK], I am not well.",
    "He took the [MASK] and went out of the house.",
):
    print(f"{text}\n    {likeliest(box, its_tokenizer, text)}")


# %% [markdown]
# It is small and knows little of the world. But the idea is the same: cut words out, and write them
# back, seeing both sides. GLM's claim is that nearly every task can be put as such a blank: a
# label, a translation, a continuation.
#
# ## Exercises
# **1.** A text of $L$ tokens has spans `(start, end)` cut out, `end` not included. How many rows
# does the sample have, Part A and Part B together? Write `count_rows(L, spans)`.
# %%
def check_count_rows(count_rows):
    for n in range(50):
        rng = Rng(7, n)
        text = list(range(8, 8 + 5 + rng.integer(60)))
        spans = sample_spans(text, "token", rng)
        rows = len(build_example(text, spans, list(range(len(spans)))).tokens)
        answer = count_rows(len(text), [tuple(span) for span in spans])
        assert answer == rows, f"{len(text)} tokens, spans {spans}: {answer} came, not {rows}"


# check_count_rows(count_rows)   # uncomment


# %% [markdown]
# **2.** Write `part_b(words, spans, order)`: the tokens of Part B as the model reads them, with
# `"[S]"` in front of each span, the spans in the order given.
# %%
def check_part_b(part_b):
    words = "a b c d e f g h i j k l".split()
    for n in range(50):
        rng = Rng(8, n)
        spans = sample_spans(words, "token", rng, has_cls=False, mask_ratio=0.4)
        order = rng.shuffle(list(range(len(spans))))
        d = explain(words, spans, order)
        rows, answer = list(d.tokens)[d.part_a_len :], part_b(words, spans, order)
        assert list(answer) == rows, f"spans {spans}, order {order}: {answer} came, not {rows}"


# check_part_b(part_b)   # uncomment


# %% [markdown]
# **3.** Find a text with one `[MASK]` that names no animal and that the trained model answers with
# `goose`. It may be like the sentences above or unlike them.
# %%
def check_goose(text):
    assert text.count("[MASK]") == 1, "exactly one [MASK] is needed"
    named = set(re.findall(r"\w+", text.lower())) & set(ANIMALS)
    assert not named, f"the text names {named}"
    filled = fill(model, tokenizer, text, max_tokens=6).blanks[0].text.strip()
    assert filled == "goose", f"the model answers {filled!r}"
    return f"the model answers {filled}"


# check_goose("...")   # uncomment

# %% [markdown]
# ## Read on
# - [`tests/test_tour.py`](../tests/test_tour.py): what minglm promises, in ten small tests.
# - [`minglm/infilling.py`](../minglm/infilling.py): `build_example`, which made every sample here.
# - Chapter 01: why filling blanks in this way, when GPT, BERT and T5 were there already.
