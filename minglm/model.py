"""GLM, from token ids to logits. Read top to bottom: settings, one layer, the whole.

    x = E[token] + P[position] + Q[block position]                   (the 2D positions of the paper, section 2.2)
    N times:   x += attention(norm(x))     x += MLP(norm(x))         (pre-LN: the residual x itself is never normalised)
    logits = norm(x) E^T                                             (the head is the embedding again)

Activations are (N, C): all samples of a batch end to end, no padding. Only attention needs to know where a
sample ends, and the GLMMask tells it.
"""

import math
from types import MethodType

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint

from .attention import masked_attention
from .checks import check_pair, finite
from .errors import MinglmError
from .model_config import GLMConfig as GLMConfig  # its other name: minglm.model.GLMConfig
from .modules import evaluating, table_of
from .suffixes import plan, row_multiple


class Layer(nn.Module):
    """One transformer layer: every row looks around (attention), then thinks for itself (MLP)."""

    def __init__(self, config):
        super().__init__()
        C = config.hidden_size
        self.num_heads, self.gelu = config.num_heads, "tanh" if config.gelu == "tanh" else "none"
        self.norm1 = nn.LayerNorm(C, eps=1e-5)
        self.qkv = nn.Linear(C, 3 * C)  # rows stacked [Q; K; V], heads contiguous inside each
        self.out = nn.Linear(C, C)
        self.norm2 = nn.LayerNorm(C, eps=1e-5)
        self.up = nn.Linear(C, 4 * C)
        self.down = nn.Linear(4 * C, C)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x, mask, backend, rows=None, keep=None):
        """x: (N, C) -> (N, C); with rows (R,), only those rows are computed, while all N serve as keys: -> (R, C).

        The mask's queries must be those R rows. keep: a function from these keys and values to all that were
        ever read.
        """
        q, k, v = self.project(x)
        if rows is not None:
            x, q = x.index_select(0, rows), q.index_select(0, rows)
        if keep is not None:
            k, v = keep(k, v)
        return self.combine(x, masked_attention(q, k, v, mask, backend=backend).flatten(1))

    def project(self, x):
        """Queries, keys and values of all rows: (N, H, D) each."""
        N, C = x.shape
        return self.qkv(self.norm1(x)).view(N, 3, self.num_heads, C // self.num_heads).unbind(1)

    def combine(self, x, attended):
        """What attention brought joins the residual, then the MLP's thought does: (R, C), (R, C) -> (R, C)."""
        x = x + self.dropout(self.out(attended))
        return x + self.dropout(self.down(F.gelu(self.up(self.norm2(x)), approximate=self.gelu)))


class GLM(nn.Module):
    """The whole model. `model.backend` chooses how attention is computed (see `masked_attention`), never what.

    `model.prune`: the last layer computes only the rows that are asked for (on by default; the result is the
    same). `model.checkpoint_activations`: keep one (N, C) per layer for the backward pass and recompute the
    rest.

    Threads may share a model, in either mode, to fill, score, classify or embed: none of these changes it.
    What changes it (to train it, load weights, move it, compile it, set the attributes above) is for one
    thread while no other uses it.
    """

    def __init__(self, config):
        super().__init__()
        self.config = config
        self.backend = "auto"
        self.prune = True
        self.checkpoint_activations = False
        self.token_embedding = nn.Embedding(config.vocab_size, config.hidden_size)
        self.position_embedding = nn.Embedding(config.max_positions + 1, config.hidden_size)
        self.block_position_embedding = nn.Embedding(config.max_positions + 1, config.hidden_size)
        self.dropout = nn.Dropout(config.dropout)
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.num_layers))
        self.final_norm = nn.LayerNorm(config.hidden_size, eps=1e-5)
        self.initialise()

    @torch.no_grad()
    def initialise(self):
        """N(0, 0.02) everywhere, but N(0, 0.02 / sqrt(2 layers)) where a layer writes to the residual; biases 0."""
        for name, p in self.named_parameters():
            if name.endswith("bias"):
                p.zero_()
            elif "norm" in name:
                p.fill_(1)
            else:
                into_residual = name.endswith(("out.weight", "down.weight"))
                p.normal_(0, 0.02 / math.sqrt(2 * self.config.num_layers) if into_residual else 0.02)

    def hidden(self, tokens, position_ids, block_position_ids, mask, rows=None, cache=None):
        """The normalised state of each row (or of `rows` only), from which the next token is read.

        tokens, position_ids, block_position_ids: (N,) int64. mask: GLMMask. rows: (R,) int64, ascending.
        cache: a Cache, mask is then what its `next` gave, and the rows are new ones -> (N, C), or (R, C).
        """
        prune = self.prune and isinstance(self.layers[-1], Layer)  # another module may know nothing of rows
        todo = plan((tokens, position_ids, block_position_ids), mask, rows, prune, cache)
        x = self.embed(*todo.columns)
        for layer, how in zip(self.layers, todo.of_layers(len(self.layers), cache), strict=True):
            x = self.run(layer, x, *how)
        return self.final_norm(todo.chosen(x))

    def embed(self, tokens, position_ids, block_position_ids):
        """What the first layer reads: (N,) int64 three times -> (N, C)."""
        x = self.token_embedding(tokens) + self.position_embedding(position_ids)
        return self.dropout(x + self.block_position_embedding(block_position_ids))

    def run(self, layer, x, mask, rows, keep):
        if self.checkpoint_activations and self.training:
            return checkpoint(layer, x, mask, self.backend, rows, keep, use_reentrant=False)
        return layer(x, mask, self.backend, rows, keep)

    def head(self, states, tokens=None):
        """Scores of every token (or of `tokens` only) as the next one: (R, C) -> logits (R, V)."""
        table = table_of(self.token_embedding, self.config.vocab_size)  # (V, C)
        return F.linear(states, table if tokens is None else F.embedding(tokens, table))

    def forward(self, tokens, position_ids, block_position_ids, mask, rows=None, cache=None):
        """Scores of every token as the next one: logits (N, V), or (R, V) for `rows`. Arguments as in `hidden`."""
        return self.head(self.hidden(tokens, position_ids, block_position_ids, mask, rows, cache))

    def loss(self, batch, reduction="mean"):
        """Cross-entropy of the learned rows of a Batch, in nats; logits of other rows are never computed.

        reduction: "mean" over the M learned rows, "sum", or "none" -> (M,). The mean of no rows is 0.
        """
        rows, targets, M = batch.target_rows, batch.targets, len(batch.targets)
        if extra := -M % row_multiple(rows.device):  # the last row once more, and its loss thrown away
            rows, targets = (torch.cat([x, x[-1:].expand(extra)]) for x in (rows, targets))
        logits = self(batch.tokens, batch.position_ids, batch.block_position_ids, batch.mask, rows)  # (M, V)
        logits = logits.float() if logits.dtype != torch.float64 else logits
        losses = F.cross_entropy(logits, targets, reduction="none")[:M]
        if reduction == "none":
            return losses
        if reduction not in ("mean", "sum"):
            raise MinglmError(f'reduction: {reduction!r} is not accepted; "mean", "sum" or "none" is')
        return losses.sum() if reduction == "sum" else losses.sum() / max(1, len(losses))

    def queries_and_keys(self, x, layer):
        """What is compared in one layer that reads x (N, C), to be looked at: (N, H, D) twice."""
        if not hasattr(self.layers[layer], "project"):
            kind = type(self.layers[layer]).__name__
            raise MinglmError(
                f"layers.{layer}: it was replaced by a {kind}, whose attention cannot be looked at"
            )
        q, k, _ = self.layers[layer].project(x)
        return q, k

    @torch.no_grad()
    def attention_weights(self, batch, layer):
        """Who looked at whom in one layer, for pictures: a list of (H, T, T), one per sample of the batch.

        Always computed by the plain formula; each row sums to 1. layer: 0 .. num_layers - 1, negative from
        the end.
        """
        if not -len(self.layers) <= layer < len(self.layers):
            raise MinglmError(f"layer: {layer} is not one of the {len(self.layers)} layers")
        model = evaluating(self)
        x = model.embed(batch.tokens, batch.position_ids, batch.block_position_ids)
        for earlier in model.layers[: layer % len(model.layers)]:
            x = earlier(x, batch.mask, model.backend)
        q, k = model.queries_and_keys(x, layer)
        lens, weights = batch.mask.len_q.tolist(), []
        for qs, ks, visible in zip(
            q.split(lens), k.split(lens), batch.mask.visible_keys().split(lens), strict=True
        ):
            may_attend = (torch.arange(len(ks)) < visible[:, None]).to(x.device)  # (T, T)
            scores = torch.einsum("qhd,khd->hqk", qs, ks) / math.sqrt(q.shape[-1])
            weights.append(finite(scores).masked_fill(~may_attend, -math.inf).softmax(-1))
        return weights

    def compile(self, **options):
        """torch.compile what works row by row, once for any number of rows; the attention backends stay as they are."""
        project, combine = (torch.compile(f, dynamic=True, **options) for f in (Layer.project, Layer.combine))
        for layer in filter(lambda module: isinstance(module, Layer), self.modules()):
            # methods, so that a copy of the model computes with its own weights
            layer.project, layer.combine = MethodType(project, layer), MethodType(combine, layer)

    def num_parameters(self):
        """How many weights there are (the tied head counts once)."""
        return sum(p.numel() for p in self.parameters())

    @classmethod
    def from_pretrained(cls, directory, device="cpu"):
        """A GLM from a folder with model.safetensors and config.json, or from a run folder (its last checkpoint)."""
        from .files.checkpoint import from_pretrained

        return from_pretrained(cls, directory, device)

    def save_pretrained(self, directory, tokenizer=None):
        """Write model.safetensors, config.json, manifest.json (and tokenizer.json): the folder appears whole or not at all."""
        from .files.checkpoint import save_pretrained

        if tokenizer is not None:
            check_pair(self, tokenizer)
        save_pretrained(self, directory, tokenizer)

    @classmethod
    def from_original(cls, path_or_state_dict, config=None):
        """A GLM with the original's weights: a Megatron or Hugging Face folder, a file or a state dict (`original.py`)."""
        from .original.weights import from_original

        return from_original(cls, path_or_state_dict, config)
