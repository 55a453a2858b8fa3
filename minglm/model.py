"""GLM, from token ids to logits. Read top to bottom: one layer, then the whole model.

    x = E[token] + P[position] + Q[block position]       the 2D positions of the paper, section 2.2
    x = x + attention(norm(x));  x = x + MLP(norm(x))    in every layer; x itself is never normalised (pre-LN)
    logits = norm(x) E^T                                 the head is the token embedding again

Activations are (N, C): the samples of a batch end to end, without padding. Only attention needs to know where
a sample ends; the GLMMask tells it.
"""

import math
from types import MethodType

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint

from .attention import attention_weights, masked_attention, parts_of
from .batch import columns
from .checks import check_pair
from .errors import MinglmError
from .kernel.gelu import gelu
from .model_config import GLMConfig as GLMConfig  # also importable as minglm.model.GLMConfig
from .modules import evaluating, table_of
from .suffixes import plan, repeat_last


class Layer(nn.Module):
    """One transformer layer: rows exchange information (attention), then each is processed alone (MLP)."""

    def __init__(self, config):
        super().__init__()
        C = config.hidden_size
        self.num_heads, self.gelu = config.num_heads, config.gelu
        self.norm1 = nn.LayerNorm(C, eps=1e-5)
        self.qkv = nn.Linear(C, 3 * C)  # rows stacked [Q; K; V], heads contiguous inside each
        self.out = nn.Linear(C, C)
        self.norm2 = nn.LayerNorm(C, eps=1e-5)
        self.up = nn.Linear(C, 4 * C)
        self.down = nn.Linear(4 * C, C)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x, mask, backend, rows=None, keep=None):
        """(N, C) -> (N, C), or (R, C) if only `rows` (R,) are computed; all N rows are keys in either case.

        mask: its queries are the computed rows. keep: adds the new keys and values to a cache, returns all.
        """
        q, k, v = self.project(x)
        if rows is not None:
            x, q = x.index_select(0, rows), q.index_select(0, rows)
        if keep is not None:
            k, v = keep(k, v)
        attended = masked_attention(q, k, v, mask, backend=backend)  # (R, H, D)
        return self.combine(x, attended.flatten(1), backend)

    def project(self, x):
        """Queries, keys and values of all rows: (N, H, D) each."""
        N, C = x.shape
        return parts_of(self.qkv(self.norm1(x)).view(N, 3, self.num_heads, C // self.num_heads))

    def combine(self, x, attended, backend="auto"):
        """Add the output of attention to the residual, then that of the MLP: (R, C), (R, C) -> (R, C)."""
        x = x + self.dropout(self.out(attended))
        return x + self.dropout(self.down(gelu(self.up(self.norm2(x)), self.gelu, backend)))


class GLM(nn.Module):
    """The whole model.

    Three attributes choose how it is computed, never what: `backend` (see `masked_attention` and `gelu`),
    `prune` (the last layer computes only the rows that are needed; on by default) and
    `checkpoint_activations` (keep one (N, C) per layer for the backward pass and recompute the rest).

    Threads may share a model, in train or eval mode, to fill, score, classify or embed: none of these changes
    it. Training, loading weights, moving, compiling and setting attributes need it to themselves.
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
        """Weights from N(0, 0.02), or N(0, 0.02 / sqrt(2 layers)) if they write to the residual; biases 0."""
        for name, p in self.named_parameters():
            if name.endswith("bias"):
                p.zero_()
            elif "norm" in name:
                p.fill_(1)
            else:
                into_residual = name.endswith(("out.weight", "down.weight"))
                p.normal_(0, 0.02 / math.sqrt(2 * self.config.num_layers) if into_residual else 0.02)

    def embed(self, tokens, position_ids, block_position_ids):
        """The input of the first layer: three times (N,) int64 -> (N, C)."""
        x = self.token_embedding(tokens) + self.position_embedding(position_ids)
        return self.dropout(x + self.block_position_embedding(block_position_ids))

    def hidden(self, tokens, position_ids, block_position_ids, mask, rows=None, cache=None):
        """The final state of each row (or of `rows` only), which predicts the next token: (N, C), or (R, C).

        tokens, position_ids, block_position_ids: (N,) int64. mask: GLMMask. rows: (R,) int64, ascending.
        cache: a Cache; then the N rows are new ones, and mask is what its `next` returned.
        """
        prune = self.prune and isinstance(self.layers[-1], Layer)  # a replaced layer may not take `rows`
        todo = plan((tokens, position_ids, block_position_ids), mask, rows, prune, cache)
        recompute = self.checkpoint_activations and self.training
        x = self.embed(*todo.columns)
        for layer, mask, rows, keep in todo.steps(self.layers, cache):
            inputs = x, mask, self.backend, rows, keep
            x = checkpoint(layer, *inputs, use_reentrant=False) if recompute else layer(*inputs)
        return self.final_norm(todo.chosen(x))

    def head(self, states, tokens=None):
        """Logits of every token (or of `tokens` only) as the next one: (R, C) -> (R, V)."""
        table = table_of(self.token_embedding, self.config.vocab_size)  # (V, C)
        return F.linear(states, table if tokens is None else F.embedding(tokens, table))

    def forward(self, tokens, position_ids, block_position_ids, mask, rows=None, cache=None, states=False):
        """Logits of the next token: (N, V), or (R, V) for `rows`; with states=True, what `hidden` returns.

        Arguments as in `hidden`. Every use calls this, so that hooks of the whole model are called, too.
        """
        x = self.hidden(tokens, position_ids, block_position_ids, mask, rows, cache)
        return x if states else self.head(x)

    def loss(self, batch, reduction="mean"):
        """Cross-entropy of a Batch at its M target rows, in nats; no logits are computed for other rows.

        reduction: "mean" over the target rows (0 if there are none), "sum", or "none" -> (M,).
        """
        if reduction not in ("mean", "sum", "none"):
            raise MinglmError(f'reduction: {reduction!r} is not accepted; "mean", "sum" or "none" is')
        M = len(batch.targets)
        rows, targets = repeat_last(batch.target_rows, batch.targets)
        logits = self(*columns(batch), rows)  # (M, V), and a few rows more in bfloat16
        losses = self.token_losses(logits, targets)[:M]
        if reduction == "none":
            return losses
        return losses.sum() if reduction == "sum" else losses.sum() / max(1, M)

    def token_losses(self, logits, targets):
        """Cross-entropy of each row, at least in float32: (M, V), (M,) int64 -> (M,)."""
        logits = logits.float() if logits.dtype != torch.float64 else logits
        return F.cross_entropy(logits, targets, reduction="none")

    @torch.no_grad()
    def attention_weights(self, batch, layer):
        """The attention weights of one layer, for pictures: a list of (H, T, T), one per sample of the batch.

        Always computed by the plain formula; each row sums to 1. layer: 0 .. num_layers - 1, negative from
        the end.
        """
        if not -len(self.layers) <= layer < len(self.layers):
            raise MinglmError(f"layer: {layer} is not one of the {len(self.layers)} layers")
        model = evaluating(self)
        x = model.embed(batch.tokens, batch.position_ids, batch.block_position_ids)
        for earlier in model.layers[: layer % len(model.layers)]:
            x = earlier(x, batch.mask, model.backend)
        return attention_weights(*model.queries_and_keys(x, layer), batch.mask)

    def queries_and_keys(self, x, layer):
        """The queries and keys of a layer whose input is x (N, C): (N, H, D) each."""
        if not hasattr(self.layers[layer], "project"):
            kind = type(self.layers[layer]).__name__
            what = f"it was replaced by a {kind}, whose attention cannot be looked at"
            raise MinglmError(f"layers.{layer}: {what}")
        q, k, _ = self.layers[layer].project(x)
        return q, k

    def compile(self, **options):
        """Apply torch.compile to all that works row by row, once for any number of rows.

        That is the embedding sum, the layers but for attention, and the losses. What is left are single
        operations: the last norm, the product with the head, and attention.
        """
        for kind, names in ((GLM, ("embed", "token_losses")), (Layer, ("project", "combine"))):
            for name in names:
                compiled = torch.compile(getattr(kind, name), dynamic=True, **options)
                for part in self.modules():
                    if isinstance(part, kind):  # a bound method, so that a copy of the model uses its weights
                        setattr(part, name, MethodType(compiled, part))

    def num_parameters(self):
        """The number of weights (the tied head counts once)."""
        return sum(p.numel() for p in self.parameters())

    @classmethod
    def from_pretrained(cls, directory, device="cpu"):
        """The GLM of a folder with model.safetensors and config.json, or of a run's last checkpoint."""
        from .files.checkpoint import from_pretrained

        return from_pretrained(cls, directory, device)

    def save_pretrained(self, directory, tokenizer=None):
        """Atomically write a folder of model.safetensors, config.json, manifest.json (and tokenizer.json).

        Raises MinglmError while another process or thread is writing to that folder.
        """
        from .files.checkpoint import save_pretrained
        from .files.lock import claimed

        if tokenizer is not None:
            check_pair(self, tokenizer)
        with claimed(directory):
            save_pretrained(self, directory, tokenizer)

    @classmethod
    def from_original(cls, path_or_state_dict, config=None):
        """A GLM with the original's weights: a Megatron or Hugging Face folder, a file or a state dict."""
        from .original.weights import from_original

        return from_original(cls, path_or_state_dict, config)
