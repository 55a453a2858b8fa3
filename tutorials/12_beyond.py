# %% [markdown]
# # 12 Beyond
# *What did the later GLMs keep?*
#
# After GLM came GLM-130B (2022), three ChatGLM of 6B (2023) and GLM-4-9B (2024). First a map:
# each part of this course, and what became of it. Then three of the changes, in a few lines each.
# Then the weights of the original GLM: how they lie on a disk, and how `minglm` reads them.
#
# *not stated* means: neither a published sentence nor a line of published code was found that says
# it. Numbers in brackets point to the list of sources at the end.

# %%
import json
import math
import subprocess
import sys
import tempfile
from os import environ
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
import torch.nn.functional as F

import minglm
from minglm import GLM, GLMConfig, GLMMask, MinglmError, Rng, Span, Tokenizer, build_example
from minglm.original import original_name
from minglm.viz.palette import KINDS

FAST = environ.get("MINGLM_FAST") == "1"
torch.set_num_threads(1)  # models as small as these gain nothing from a second thread
BLUE, SKY, SAND, RUST = (KINDS[kind].light for kind in ("AA", "BA", "BE", "BS"))

MODELS = "GLM, here", "GLM-130B", "ChatGLM-6B", "ChatGLM2-6B", "ChatGLM3-6B", "GLM-4-9B"
RMS, SWIGLU = "changed: before,\nRMSNorm", "changed: SwiGLU"
ROTARY, CAUSAL = "dropped: one,\nrotary", "dropped: A = 0"
PARTS = {  # part and chapter: how it is in each model
    "blanks in\npretraining (02)": (
        "[MASK] [sMASK]\n[gMASK]", "kept: [MASK]\n[gMASK]", "not stated", "kept: a mix",
        "not stated", "not stated"),
    "two positions\n(03)": (
        "two tables", ROTARY, "kept: two,\nrotary", ROTARY, ROTARY, "report: two\ncode: one"),
    "Part A sees\nitself (04)": ("any length A", "kept", "kept", CAUSAL, CAUSAL, CAUSAL),
    "keys, values\n(05)": (
        "of each head", "kept", "kept", "changed: 2 for\n32 heads", "not stated",
        "changed: 2 for\n32 heads"),
    "norm (06)": (
        "LayerNorm\nbefore", *["changed: after,\nDeepNorm"] * 2, RMS, RMS, RMS),
    "MLP (06)": ("GELU, 4 C", "changed: GeGLU", "kept", SWIGLU, SWIGLU, SWIGLU),
    "tied head (06)": ("tied", "kept", *["dropped"] * 4),
}
LOOKS = {"kept": (SKY, ""), "dropped": ("white", "/////"), "not": ("white", "")}

fig, ax = plt.subplots(figsize=(7, 3.9))
for i, cells in enumerate(PARTS.values()):
    for j, words in enumerate(cells):
        colour, hatch = LOOKS.get(words.split()[0].rstrip(":"), (SAND, "....."))
        if j == 0:
            colour, hatch = "#F3F4F6", ""
        ax.add_patch(plt.Rectangle((j, i), 1, 1, fc=colour, hatch=hatch, ec="#BBBBBB", lw=0.6))
        box = dict(fc=colour, ec="none", pad=1.2) if hatch else None
        ax.text(j + 0.5, i + 0.5, words, ha="center", va="center", fontsize=7, bbox=box)
ax.set(xlim=(0, len(MODELS)), ylim=(len(PARTS), 0))
ax.set_xticks(np.arange(len(MODELS)) + 0.5, MODELS, fontsize=8)
ax.set_yticks(np.arange(len(PARTS)) + 0.5, PARTS, fontsize=8)
ax.tick_params(length=0, labeltop=True, labelbottom=False)
fig.tight_layout(pad=0.3)
fig.alt_text = "Seven parts of GLM in five later models, each kept, changed, dropped or not stated."

# %% [markdown]
# In words, with what did not fit:
#
# - **GLM-130B** kept blanks of short spans, Poisson(3), with `[MASK]` for 30 % of the tokens, and
#   `[gMASK]` to the end for 70 % [1]; Part A in both directions [1, 2]; and the tied head [3]. It
#   has no `[sMASK]`: no way was found to split Chinese, English and code into sentences alike [4].
#   It has one position, rotary: a short blank stays on the position of its mask, a long one counts
#   on [2, 5]. LayerNorm comes after the sum, where the residual is scaled by $\sqrt{2n}$ (DeepNorm)
#   [1, 3]. The MLP is a GeGLU of width $8C/3$ [1].
# - **ChatGLM-6B** kept Part A, the GELU of width $4C$ and both positions: each of the two turns
#   half of every head. It has the norm of GLM-130B and a matrix of its own for the head [6]. Made
#   for chat, it does not fill blanks; nor does the next one [14].
# - **ChatGLM2-6B** mixes objectives in pretraining as GLM does [7, 8]. Chat is trained with an
#   empty Part A, and so needs one position only [8]. It has RMSNorm before, a SwiGLU of width
#   13,696 at $C = 4096$, 2 keys and values for 32 heads, and biases on queries, keys and values
#   alone [9]. Every prompt begins with `[gMASK]`, `sop` [9]: by our rules a blank that runs on,
#   with nothing before it.
# - **ChatGLM3-6B** is in its published code what ChatGLM2 is: causal, one rotary position, RMSNorm,
#   SwiGLU [10].
# - **GLM-4-9B** is causal, with RMSNorm, SwiGLU, 2 keys and values for 32 heads and biases there
#   alone [11, 12]. The report speaks of rotary positions in two dimensions [11], the published code
#   has one [12]. The code of pretraining is not public [13].

# %% [markdown]
# ## A later mask is one of ours
#
# The later codes build a matrix: ones on and below the diagonal, and ones in all columns before
# `sop` [2, 6]. From ChatGLM2 on the second half is left out [9, 10, 12]. Both are one integer.

# %% exact
T, A = 8, 5
row, column = np.indices((T, T))
later = (column <= row) | (column < A)
assert (later == GLMMask.packed([T], [A]).dense().numpy()).all()
assert (column <= row).tolist() == GLMMask.packed([T], [0]).dense().tolist()
for name, a in (("GLM-130B, ChatGLM-6B", A), ("from ChatGLM2 on", 0)):
    print(f"{name:22} keys that the rows see: {GLMMask.packed([T], [a]).visible_keys().tolist()}")

# %% [markdown]
# Why give Part A up? In a chat each question sees all that was said before. If Part A looks in both
# directions, a longer Part A changes every row of it: all has to be read again at every turn, and
# training needs one sample for each turn. With $A = 0$ what was read stays as it is [8].
# On paper: four turns, each a question of 3 tokens and an answer of 2.

# %% exact
turns = [(3, 2)] * 4
ends = np.cumsum([question + answer for question, answer in turns])
print("rows computed, A = 0:          ", ends[-1])
print("rows computed, history = Part A:", sum(ends.tolist()), "=", " + ".join(map(str, ends)))

# %% [markdown]
# ## A later position is one of ours, or none
#
# Two samples under each rule: one with short blanks, and a text that runs on.

# %% exact
short = build_example(range(8, 14), [Span(2, 3), Span(4, 6)], [1, 0])
long = build_example(range(8, 14), [Span(3, 6)], [0], objective="document")
names = {3: "[M]", 5: "[gM]", 6: "[S]"} | {8 + i: f"x{i + 1}" for i in range(6)}


def show(what, values):
    print(f"{what:34}" + "".join(f"{value:>5}" for value in values))


for example in (short, long):
    show("", [names[t] for t in example.tokens.tolist()])
    show("GLM, ChatGLM-6B   position", example.position_ids)
    show("                  block position", example.block_position_ids)
    T = len(example.tokens)
    show("GLM-130B          position", range(T) if example is long else example.position_ids)
    print()
show("", ["[gM]", "[S]", *(f"x{i + 1}" for i in range(6))])
show("ChatGLM2-6B       position", range(8))

# %% [markdown]
# In GLM-130B the rows of a short blank share a position; which comes first is told by the mask
# alone: each sees one row more than the one before it [5].
#
# ## Rotary positions
#
# GLM adds a learned row to the token. A rotary position adds nothing: it *turns* queries and keys.
# Take one pair of numbers and 30 degrees for each position. On paper: $q = (1, 0)$ at position 1
# turns to 30 degrees, $k = (1, 0)$ at position 3 to 90; their product is $\cos 60° = 0.5$. At
# positions 5 and 7 the angles are 150 and 210 and the product is the same: only distance counts.


# %%
def turn(x, positions, theta):
    """Each pair (x[2j], x[2j + 1]) of row i is turned by positions[i] * theta[j] radians."""
    turned = x.clone()
    for i, position in enumerate(positions):
        for j, angle in enumerate(position * theta):
            a, b = x[i, 2 * j], x[i, 2 * j + 1]
            turned[i, 2 * j] = angle.cos() * a - angle.sin() * b
            turned[i, 2 * j + 1] = angle.sin() * a + angle.cos() * b
    return turned


def turn_at_once(x, positions, theta):
    pairs = torch.view_as_complex(x.unflatten(-1, (-1, 2)))
    angles = torch.as_tensor(positions)[:, None] * theta
    return torch.view_as_real(pairs * torch.polar(torch.ones_like(angles), angles)).flatten(-2)


q = k = torch.tensor([[1.0, 0.0]])
thirty = torch.tensor([math.pi / 6])
for i, j in ((1, 3), (5, 7), (0, 2)):
    product = float((turn(q, [i], thirty) * turn(k, [j], thirty)).sum())
    print(f"positions {i} and {j}: {product:.3f}")

T, D = 24, 16
theta = 10000.0 ** (-torch.arange(0, D, 2) / D)  # (D / 2,) fast pairs and slow ones
torch.manual_seed(0)
q, k = torch.randn(1, D).expand(T, D), torch.randn(1, D).expand(T, D)  # the same token everywhere
torch.testing.assert_close(turn(q, range(T), theta), turn_at_once(q, range(T), theta))
rotary = turn_at_once(q, range(T), theta) @ turn_at_once(k, range(T), theta).T / math.sqrt(D)
added = (q + torch.randn(T, D)) @ (k + torch.randn(T, D)).T / math.sqrt(D)
for distance in range(-T + 1, T):
    assert rotary.diagonal(distance).std(correction=0) < 1e-5

fig, axes = plt.subplots(1, 2, figsize=(6.6, 3.6), sharey=True)
for ax, scores, title in ((axes[0], added, "tables that are added"), (axes[1], rotary, "rotary")):
    ax.imshow(scores, cmap="cividis", aspect="auto")
    ax.set_title(title, fontsize=10)
    ax.set_xlabel("position of the key")
axes[0].set_ylabel("position of the query")
fig.tight_layout(pad=0.4)
fig.alt_text = "Scores of two tokens at all positions: rotary ones are equal along each diagonal."

# %% [markdown]
# Scores of the same two tokens wherever they stand, bright is high. Tables begin without any notion
# of distance and have to learn it; rotary scores have it built in, and no table ends anywhere.
#
# ## Weights of the original GLM
#
# `GLM.from_original` and `Tokenizer.from_original` read what the authors published for GLM itself:
# base, large, 410M, 515M, 2B, 10B and the Chinese ones. They cannot read the later models, which
# are other networks. No published file was at hand when this page was made, so a checkpoint is made
# up here, laid out as the original training code does it. First, a small GLM learns eight sentences
# by heart, with a vocabulary in the form of BERT's `vocab.txt`.

# %%
SENTENCES = """the cat sat on the mat. the dog slept under the tree. a bird sang in the garden.
the old man read a book by the fire. two children played near the river. a ship came with the tide.
the baker sold warm bread in the morning. the king lost his crown in the snow."""
sentences = [sentence + "." for sentence in SENTENCES.replace("\n", " ")[:-1].split(". ")]
temporary = tempfile.TemporaryDirectory()
folder = Path(temporary.name)
words = sorted({word for sentence in sentences for word in sentence[:-1].split()})
vocab = ["[PAD]", "[unused0]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", ".", *words]
(folder / "vocab.txt").write_text("\n".join(vocab))
tokenizer = Tokenizer.from_original(folder / "vocab.txt")
special = tokenizer.special
print(special)
print(len(vocab), "lines and two tokens of GLM in a table of", tokenizer.vocab_size, "rows")

torch.manual_seed(0)
model = GLM(GLMConfig(tokenizer.vocab_size, 128, 2, 2, max_positions=32, dropout=0.0))
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.0)
texts = [[special.cls, *tokenizer.encode(sentence), special.eos] for sentence in sentences]
steps = 300 if FAST else 600
for step in range(steps):
    examples = []
    for n, text in enumerate(2 * texts):
        rng = Rng(0, step, n)
        spans = minglm.sample_spans(text, "token", rng, has_eos=True)
        order = rng.shuffle(list(range(len(spans))))
        examples.append(build_example(text, spans, order, special))
    loss = model.loss(minglm.pack(examples))
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
print(f"loss after {steps} steps {loss.item():.2f}, ln V = {math.log(tokenizer.vocab_size):.2f}")

# %% [markdown]
# `[sMASK]` and `[gMASK]` share the id of `[MASK]`, and pad is eos: so it is in the models that were
# trained on BERT's vocabulary. The weights go by other names there:

# %% exact
for name in model.state_dict():
    if "layers.1" not in name and not name.endswith("bias"):
        print(f"{name:34} {original_name(name)}")
weights = {original_name(name): w.clone() for name, w in model.state_dict().items()}

# %% [markdown]
# Large checkpoints are cut into *ranks*, one file for each GPU. A rank holds whole heads: its share
# of $Q$, of $K$ and of $V$, which do not lie side by side in the matrix. On paper, with $C = 4$ and
# two ranks:


# %% exact
def share(name, weight, rank, ranks):
    if "query_key_value" in name:
        return torch.cat([third.chunk(ranks)[rank] for third in weight.chunk(3)])
    if "word_embeddings" in name or "dense_h_to_4h" in name:
        return weight.chunk(ranks)[rank].clone()  # rows
    if name.endswith(("attention.dense.weight", "dense_4h_to_h.weight")):
        return weight.chunk(ranks, dim=1)[rank].clone()  # columns
    return weight  # norms, positions and the biases of these two: on every rank


labels = [f"{part}{column}" for part in "QKV" for column in range(4)]
for rank in range(2):
    rows = share("query_key_value", torch.arange(12), rank, 2)
    print(f"rank {rank} holds", *(labels[row] for row in rows))

# %% [markdown]
# Why rows of one matrix and columns of the next? So that each GPU computes its part alone, and the
# parts only have to be added:

# %%
x, layer = torch.randn(3, 128), model.layers[0]
up, down = "transformer.layers.0.mlp.dense_h_to_4h", "transformer.layers.0.mlp.dense_4h_to_h"
total = weights[f"{down}.bias"].clone()
for rank in range(2):
    up_w, up_b, down_w = (share(name, weights[name], rank, 2)
                          for name in (f"{up}.weight", f"{up}.bias", f"{down}.weight"))
    total = total + F.gelu(x @ up_w.T + up_b, approximate="tanh") @ down_w.T
whole = layer.down(F.gelu(layer.up(x), approximate="tanh"))
torch.testing.assert_close(total, whole)

fig, ax = plt.subplots(figsize=(6.6, 3.7))
left, two = 0, plt.matplotlib.colors.ListedColormap([SAND, BLUE])
for key in ("attention.query_key_value", "attention.dense", "mlp.dense_h_to_4h",
            "mlp.dense_4h_to_h"):
    name = f"transformer.layers.0.{key}.weight"
    places = torch.arange(weights[name].numel()).view(weights[name].shape)
    rows, columns = places.shape
    on_rank_0 = torch.isin(places, share(name, places, 0, 2))
    ax.imshow(on_rank_0, cmap=two, interpolation="none", extent=(left, left + columns, -rows, 0))
    ax.text(left + columns / 2, 12, f"{rows} x {columns}", ha="center", fontsize=8)
    ax.text(left + columns / 2, 40, key.replace(".", "\n"), ha="center", fontsize=8)
    left += columns + 70
ax.set(xlim=(-30, left - 40), ylim=(-520, 110))
ax.text(700, -330, "dark: on rank 0\nlight: on rank 1", fontsize=9)
ax.axis("off")
fig.tight_layout(pad=0.2)
fig.alt_text = "Rank 0 has the upper half of Q, K, V and h_to_4h, the left half of the other two."

# %% [markdown]
# Now the files. The training code writes a folder for each checkpoint, a file for each rank, and
# one line that says which checkpoint is the last:

# %% exact
checkpoint = folder / "blocklm-tiny"
(checkpoint / "500").mkdir(parents=True)
(checkpoint / "latest_checkpointed_iteration.txt").write_text("500")
for rank in range(2):
    shares = {name: share(name, weight, rank, 2) for name, weight in weights.items()}
    state = {"iteration": 500, "mp_world_size": 2, "module": shares}
    torch.save(state, checkpoint / "500" / f"mp_rank_{rank:02}_model_states.pt")
for path in sorted(folder.rglob("*")):
    print("    " * (len(path.relative_to(folder).parts) - 1) + path.name + "/" * path.is_dir())

# %% [markdown]
# Two lines read it, put the ranks together, and it fills blanks:

# %%
loaded = GLM.from_original(checkpoint)
tokenizer = Tokenizer.from_original(folder / "vocab.txt", vocab_size=loaded.config.vocab_size)
config = loaded.config
print(f"{config.num_layers} layers of width {config.hidden_size}, {config.num_heads} heads, "
      f"{config.vocab_size} tokens, {config.max_positions} positions")
for text in ("The cat [MASK] on the mat.", "The [MASK] lost his [MASK] in the snow."):
    print(minglm.fill(loaded, tokenizer, text).text)
for name, weight in model.state_dict().items():
    assert torch.equal(weight, loaded.state_dict()[name]), name

# %% [markdown]
# The number of heads cannot be read off the weights; all published GLMs have heads 64 wide, so that
# is taken. On the Hugging Face hub the same names lie in one file beside a `config.json`. The
# code there computes GELU by the error function instead of the tanh, and so does a model read from
# such a folder:

# %%
hub = folder / "hub"
hub.mkdir()
hub_config = {"model_type": "glm", "hidden_size": 128, "num_attention_heads": 2}
(hub / "config.json").write_text(json.dumps(hub_config))
torch.save(weights, hub / "pytorch_model.bin")
other = GLM.from_original(hub)
batch = minglm.pack(examples)
inputs = batch.tokens, batch.position_ids, batch.block_position_ids, batch.mask
with torch.no_grad():
    off = (loaded(*inputs) - other(*inputs)).abs().max().item()
print(f"gelu: {config.gelu} and {other.config.gelu}; largest difference of a logit {off:.4f}")

# %% [markdown]
# A later model, or a damaged one, is refused in words. And a `.pt` file is a pickle, which can name
# any function to be called when it is opened; here none is:


# %%
class Trap:
    def __reduce__(self):
        return print, ("this must never be seen",)


no_tables = {name: weight for name, weight in weights.items() if "position" not in name}
torch.save({"module": weights, "args": Trap()}, folder / "trap.pt")
for source in (no_tables, folder / "trap.pt"):
    try:
        GLM.from_original(source)
    except MinglmError as error:
        print(str(error).replace(str(folder), "..."))

# %% [markdown]
# `minglm convert` does all this in one line and writes a model folder for every other command:

# %%
command = ["convert", checkpoint, "--tokenizer", folder / "vocab.txt", "--out", folder / "tiny"]
run = subprocess.run([sys.executable, "-m", "minglm", *command], capture_output=True, text=True)
assert run.returncode == 0, run.stderr
print(run.stdout.replace(str(folder), "..."))

# %% [markdown]
# ## Exercises
#
# **1.** ChatGLM-6B keeps GLM's two positions [6]: the first half of each head is turned by the
# position, the second half by the block position, each half with its own `theta` of $D / 4$ angles,
# $10000^{-2j / (D/2)}$. Write `rotary_2d(x, position_ids, block_position_ids)` for $x$ of shape
# $(T, D)$, with pairs as in `turn`.


# %%
def check_rotary_2d(rotary_2d):
    torch.manual_seed(2)
    q, k = torch.randn(1, 8).expand(5, 8), torch.randn(1, 8).expand(5, 8)
    ids = torch.tensor([0, 1, 2, 2, 2]), torch.tensor([0, 0, 0, 1, 2])
    a, b = rotary_2d(q, *ids), rotary_2d(k, *ids)
    assert a.shape == q.shape, f"shape {tuple(a.shape)}; {tuple(q.shape)} came in"
    assert torch.allclose(a[0], q[0], atol=1e-6), "at positions 0 and 0 nothing is turned"
    assert torch.allclose(a.norm(dim=1), q.norm(dim=1), atol=1e-5), "turning keeps lengths"
    moved = [(a[i] != a[j]).nonzero().flatten().tolist() for i, j in ((0, 1), (2, 3))]
    assert moved[0] == [0, 1, 2, 3], f"the position alone moves columns {moved[0]}"
    assert moved[1] == [4, 5, 6, 7], f"the block position alone moves columns {moved[1]}"
    pairs = torch.view_as_complex(a[:2, :4].unflatten(1, (2, 2)).contiguous())  # rows 0 and 1
    angles = (pairs[1] / pairs[0]).angle().tolist()
    assert np.allclose(angles, (1, 0.01), atol=1e-4), f"one position turns the pairs by {angles}"
    assert torch.allclose(a[3] @ b[2], a[4] @ b[3], atol=1e-5), "scores depend on distances only"


# check_rotary_2d(rotary_2d)   # uncomment

# %% [markdown]
# **2.** With $G$ keys and values for $H$ heads, how many rows has `qkv.weight`? Write
# `qkv_rows(C, H, G)`. ($G = H$ is GLM. ChatGLM2-6B has $C = 4096$, $H = 32$, $G = 2$.)


# %%
def check_qkv_rows(qkv_rows):
    for C, H, G in ((128, 2, 2), (128, 2, 1), (4096, 32, 2), (4096, 32, 4)):
        with torch.device("meta"):
            parts = [torch.nn.Linear(C, heads * C // H) for heads in (H, G, G)]
        right = len(torch.cat([part.weight for part in parts]))
        answer = qkv_rows(C, H, G)
        assert answer == right, f"C={C}, H={H}, G={G}: {answer}; queries, keys, values have {right}"


# check_qkv_rows(qkv_rows)   # uncomment

# %% [markdown]
# **3.** Put ranks together again. Write `join_qkv(pieces)`, the whole `query_key_value` matrix from
# the pieces of all ranks (a list of tensors). Do not look into `minglm/original.py` first.


# %%
def check_join_qkv(join_qkv):
    for C, ranks in ((4, 1), (4, 2), (12, 3), (8, 4)):
        whole = torch.randn(3 * C, C)
        joined = join_qkv([share("query_key_value", whole, rank, ranks) for rank in range(ranks)])
        assert joined.shape == whole.shape, f"{ranks} ranks: shape {tuple(joined.shape)}"
        wrong = (joined != whole).any(1).nonzero().flatten().tolist()
        assert not wrong, f"C={C}, {ranks} ranks: rows {wrong} are not where they were"


# check_join_qkv(join_qkv)   # uncomment

# %% [markdown]
# ## What to build next
#
# Larger things, each with a way to know that it is done.
#
# - **A rotary GLM.** Drop both position tables; turn queries and keys in `Layer.project`. Done: a
#   text moved by ten positions gives the same logits, and the held-out loss of the preset `page`
#   stands beside that of the tables, with the same seed.
# - **DeepNorm.** Norms as in exercise 2 of chapter 06, the residual scaled by $\sqrt{2n}$. Done:
#   you have a learning rate and a depth at which one of the two norms learns a batch by heart and
#   the other does not, or can show that there is none at this size.
# - **Fewer keys.** Give `Layer` and `Cache` $G$ keys and values instead of $H$. Done: $G = H$ is
#   bit for bit what it was, and the cache is $H / G$ times smaller.
# - **A chat.** Fine-tune with $A = 0$, several turns in one sample. Done: a second turn reads only
#   its own rows, and answers as if everything had been read again.
# - **GLM-130B's blanks.** One position for each row, as in the table above. Done: you can say what
#   it costs, in the scores of chapter 11 before and after.
# - **Your language.** Train a tokenizer and the preset `small` on some hundred megabytes of text.
#   Done: bits a byte on held-out text, beside those of bzip2.
#
# ## Where it is said
#
# 1. GLM-130B, [README](https://github.com/THUDM/GLM-130B).
# 2. GLM-130B, [generate.py](https://github.com/THUDM/GLM-130B/blob/main/generate.py).
# 3. SwissArmyTransformer, `glm130B_model.py` in the folder [official].
# 4. GLM-130B, [issue 74](https://github.com/zai-org/GLM-130B/issues/74). (In
#    [issue 12](https://github.com/zai-org/GLM-130B/issues/12) efficiency is given as the reason.)
# 5. GLM-130B, [arXiv 2210.02414](https://arxiv.org/abs/2210.02414), appendix B.3, as quoted in
#    [this issue](https://github.com/mymusise/ChatGLM-Tuning/issues/11).
# 6. SwissArmyTransformer, `chatglm_model.py` in [official]; code and `config.json` of the model
#    folder, read in public copies.
# 7. ChatGLM2-6B, [README](https://github.com/THUDM/ChatGLM2-6B).
# 8. ChatGLM2-6B, [issue 16](https://github.com/zai-org/ChatGLM2-6B/issues/16).
# 9. ChatGLM2-6B, code and `config.json` of the model folder, likewise.
# 10. SwissArmyTransformer, `chatglm3_model.py` in [official].
# 11. GLM-4, [arXiv 2406.12793](https://arxiv.org/abs/2406.12793), section 2.
# 12. SwissArmyTransformer, `chatglm4_model.py` in [official]; Transformers, `GlmConfig` in
#     [models/glm](https://github.com/huggingface/transformers/tree/main/src/transformers/models/glm).
# 13. GLM-4, [issue 355](https://github.com/zai-org/GLM-4/issues/355).
# 14. ChatGLM-6B, [issue 242](https://github.com/zai-org/ChatGLM-6B/issues/242), and ChatGLM2-6B,
#     [issue 188](https://github.com/zai-org/ChatGLM2-6B/issues/188).
#
# [official]: https://github.com/THUDM/SwissArmyTransformer/tree/main/sat/model/official
#
# ## Read on
#
# - [`minglm/original.py`](../minglm/original.py): `NAMES`, `joined`, and `allowed`, the list of
#   what a file may hold. [`minglm/original_tokenizers.py`](../minglm/original_tokenizers.py): the
#   three kinds of vocabulary.
# - [`tests/test_original.py`](../tests/test_original.py): every published form, and the recorded
#   numbers of the original code.
