"""GLM, from token ids to logits. Read top to bottom: settings, one layer, the whole.

    x = E[token] + P[position] + Q[block position]                   (the 2D positions of the paper, section 2.2)
    N times:   x += attention(norm(x))     x += MLP(norm(x))         (pre-LN: the residual x itself is never normalised)
    logits = norm(x) E^T                                             (the head is the embedding again)

Activations are (N, C): all samples of a batch end to end, no padding. Only attention needs to know where a sample ends,
and the GLMMask tells it.
"""

import math
from functools import partial
from types import MethodType

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint

from .attention import masked_attention
from .errors import MinglmError
from .mask import GLMMask
from .model_config import GLMConfig as GLMConfig  # its other name: minglm.model.GLMConfig


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

        The mask's queries must be those R rows. keep: a function from these keys and values to all that were ever read.
        """
        q, k, v = self.project(x, rows)
        if keep is not None:
            k, v = keep(k, v)
        attended = masked_attention(q, k, v, mask, backend=backend).flatten(1)  # (R, C)
        return self.combine(x if rows is None else x.index_select(0, rows), attended)

    def combine(self, x, attended):
        """What attention brought joins the residual, then the MLP's thought does: (R, C), (R, C) -> (R, C)."""
        x = x + self.dropout(self.out(attended))
        return x + self.dropout(self.down(F.gelu(self.up(self.norm2(x)), approximate=self.gelu)))

    def project(self, x, rows=None):
        """Queries of the wanted rows, keys and values of all rows: (R, H, D), (N, H, D), (N, H, D)."""
        C, H, h = x.shape[1], self.num_heads, self.norm1(x)
        if rows is None:
            return self.qkv(h).view(len(x), 3, H, C // H).unbind(1)
        q = F.linear(h.index_select(0, rows), self.qkv.weight[:C], self.qkv.bias[:C]).view(len(rows), H, C // H)
        k, v = F.linear(h, self.qkv.weight[C:], self.qkv.bias[C:]).view(len(x), 2, H, C // H).unbind(1)
        return q, k, v


class Cache:
    """The keys and values of all that was read, so that a new row is all that a step computes.

    part_a_lens, room: for each of S samples, how long its Part A is and how many rows it may come to. Read with
    `mask = cache.next(len_q)`, then `model(..., mask, cache=cache)`: first Part A as a whole, then Part B as it is written.
    Part A never sees Part B, so nothing that was read has to be read again.
    """

    def __init__(self, model, part_a_lens, room):
        like, config = model.token_embedding.weight, model.config
        self.part_a_lens, self.used = torch.tensor(part_a_lens), torch.zeros(len(room), dtype=torch.int64)
        self.cu_seqlens_k = F.pad(torch.tensor(room).cumsum(0), (1, 0))
        rows, head_dim = int(self.cu_seqlens_k[-1]), config.hidden_size // config.num_heads
        shape = config.num_layers, 2, rows, config.num_heads, head_dim
        self.kv = torch.empty(shape, dtype=like.dtype, device=like.device)  # what nobody has written is never read

    def next(self, len_q):
        """The GLMMask under which the next len_q[s] rows of each sample are read, all that was read before being keys."""
        cu_seqlens_q = F.pad(torch.tensor(len_q).cumsum(0), (1, 0))
        mask = GLMMask(cu_seqlens_q, self.cu_seqlens_k, self.part_a_lens, self.used + torch.tensor(len_q))
        self.used = mask.len_k.long()
        sample, i = mask.rows()
        self.slots = (self.cu_seqlens_k[sample] + i).to(self.kv.device)
        return mask

    def keep(self, layer, k, v):
        """Write the new rows of a layer: (N, H, D) each -> everything that was read there, (room, H, D) each."""
        self.kv[layer, 0, self.slots], self.kv[layer, 1, self.slots] = k.to(self.kv.dtype), v.to(self.kv.dtype)
        return self.kv[layer, 0].to(k.dtype), self.kv[layer, 1].to(v.dtype)

    def select(self, samples):
        """Go on with these samples, in this order and as often as they are named: the beams that survive. Equal rooms only."""
        room = self.cu_seqlens_k.diff()
        S, n = len(room), len(samples)
        self.kv = self.kv.unflatten(2, (S, int(room[0])))[:, :, samples].flatten(2, 3)
        self.part_a_lens, self.used = self.part_a_lens[samples], self.used[samples]
        self.cu_seqlens_k = torch.arange(n + 1) * room[0]


class GLM(nn.Module):
    """The whole model. `model.backend` chooses how attention is computed (see `masked_attention`), never what.

    `model.prune`: the last layer computes only the rows that are asked for (on by default; the result is the same).
    `model.checkpoint_activations`: keep one (N, C) per layer for the backward pass and recompute the rest.
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

        tokens, position_ids, block_position_ids: (N,) int64. mask: GLMMask. rows: (R,) int64, ascending. cache: a Cache,
        mask is then what its `next` gave, and the rows are new ones -> (N, C), or (R, C).
        """
        N, multiple = len(tokens), 1 if cache else row_multiple(tokens.device)
        tokens, position_ids, block_position_ids, mask = fill_up(tokens, position_ids, block_position_ids, mask, multiple)
        last_rows, last_mask, wanted = None, mask, rows
        if rows is not None and self.prune:
            last_rows, last_mask, wanted = shortest_suffixes(mask, rows, multiple)
        x = self.token_embedding(tokens) + self.position_embedding(position_ids)
        x = self.dropout(x + self.block_position_embedding(block_position_ids))  # (N, C)
        *earlier, last = [partial(cache.keep, n) if cache else None for n in range(len(self.layers))]
        for layer, keep in zip(self.layers[:-1], earlier, strict=True):
            x = self.run(layer, x, mask, keep=keep)
        x = self.run(self.layers[-1], x, last_mask, last_rows, last)
        return self.final_norm(x[:N] if wanted is None else x.index_select(0, wanted))

    def run(self, layer, x, mask, rows=None, keep=None):
        if self.checkpoint_activations and self.training:
            return checkpoint(layer, x, mask, self.backend, rows, keep, use_reentrant=False)
        return layer(x, mask, self.backend, rows, keep)

    def forward(self, tokens, position_ids, block_position_ids, mask, rows=None, cache=None):
        """Scores of every token as the next one: logits (N, V), or (R, V) for `rows`. Arguments as in `hidden`."""
        states = self.hidden(tokens, position_ids, block_position_ids, mask, rows, cache)
        return F.linear(states, self.token_embedding.weight)

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

    @torch.no_grad()
    def attention_weights(self, batch, layer):
        """Who looked at whom in one layer, for pictures: a list of (H, T, T), one per sample of the batch.

        Always computed by the plain formula; each row sums to 1. layer: 0 .. num_layers - 1, negative from the end.
        """
        if not -len(self.layers) <= layer < len(self.layers):
            raise MinglmError(f"layer: {layer} is not one of the {len(self.layers)} layers")
        x = self.token_embedding(batch.tokens) + self.position_embedding(batch.position_ids)
        x = x + self.block_position_embedding(batch.block_position_ids)
        training, _ = self.training, self.eval()
        try:
            for earlier in self.layers[: layer % len(self.layers)]:
                x = earlier(x, batch.mask, self.backend)
            q, k, _ = self.layers[layer].project(x)
        finally:
            self.train(training)
        lens, weights = batch.mask.len_q.tolist(), []
        for qs, ks, visible in zip(q.split(lens), k.split(lens), batch.mask.visible_keys().split(lens), strict=True):
            may_attend = (torch.arange(len(ks)) < visible[:, None]).to(x.device)  # (T, T)
            scores = torch.einsum("qhd,khd->hqk", qs, ks) / math.sqrt(q.shape[-1])
            weights.append(scores.masked_fill(~may_attend, -math.inf).softmax(-1))
        return weights

    def compile(self, **options):
        """torch.compile what works row by row, once for any number of rows; the attention backends stay as they are."""
        project, combine = (torch.compile(f, dynamic=True, **options) for f in (Layer.project, Layer.combine))
        for layer in self.layers:  # methods, so that a copy of the model computes with its own weights
            layer.project, layer.combine = MethodType(project, layer), MethodType(combine, layer)

    def num_parameters(self):
        """How many weights there are (the tied head counts once)."""
        return sum(p.numel() for p in self.parameters())

    @classmethod
    def from_pretrained(cls, directory, device="cpu"):
        """A GLM from a folder with model.safetensors and config.json, or from a run folder (its last checkpoint)."""
        from .checkpoint import from_pretrained

        return from_pretrained(directory, device)

    def save_pretrained(self, directory, tokenizer=None):
        """Write model.safetensors, config.json, manifest.json (and tokenizer.json): the folder appears whole or not at all."""
        from .checkpoint import save_pretrained

        save_pretrained(self, directory, tokenizer)

    @classmethod
    def from_original(cls, path_or_state_dict, config=None):
        """A GLM with the original's weights: a Megatron or Hugging Face folder, a file or a state dict (`original.py`)."""
        from .original import from_original

        return from_original(path_or_state_dict, config)


def row_multiple(device):
    """What the numbers of rows are rounded up to: 16 in bfloat16 on a CPU, else 1.

    There oneDNN prepares a matrix product for the shape it meets, which takes about as long as the product itself, and keeps
    what it has prepared. A batch of packed samples hardly ever has the same number of rows twice; in sixteens it does.
    """
    return 16 if device.type == "cpu" and torch.is_autocast_enabled("cpu") else 1


def fill_up(tokens, position_ids, block_position_ids, mask, multiple):
    """The batch with one more sample at its end, of fewer than `multiple` rows that nobody sees and nobody learns from."""
    extra = -len(tokens) % multiple
    if not extra:
        return tokens, position_ids, block_position_ids, mask
    tokens, position_ids, block_position_ids = (F.pad(x, (0, extra)) for x in (tokens, position_ids, block_position_ids))
    return tokens, position_ids, block_position_ids, mask.remember(("filled", extra), lambda: mask.with_sample(extra))


def shortest_suffixes(mask, rows, multiple=1):
    """The rows a last layer must compute so that `rows` come out: in each sample, everything from its first wanted row on.

    A few more, from the first samples that have them, make it a multiple of `multiple` rows.
    mask: GLMMask, rows: (R,) int64 ascending -> the suffix rows (R',) int64, the GLMMask whose queries they are, and
    where among them the wanted rows stand, (R,) int64.

    Example: one sample of 6 rows, rows = [4, 5] -> [4, 5], a mask with 2 queries and 6 keys, [0, 1].
    """
    start = mask.cu_seqlens_q.long()
    host = rows.cpu()
    sample = torch.searchsorted(start, host, right=True) - 1
    first = start[1:].scatter_reduce(0, sample, host, "amin")  # (S,) samples without wanted rows keep their end
    spare = first - start[:-1]  # rows that nobody wants
    more = (-int((start[1:] - first).sum()) % multiple - spare.cumsum(0) + spare).clamp(min=0).minimum(spare)
    first = first - more
    len_q = start[1:] - first
    which = torch.repeat_interleave(torch.arange(len(len_q)), len_q)
    end_of_suffix = len_q.cumsum(0)
    shift = first - (end_of_suffix - len_q)  # suffix row j of sample s is packed row j + shift[s]
    suffix = torch.arange(len(which)) + shift[which]
    return suffix.to(rows.device), mask.with_queries(len_q), (host - shift[sample]).to(rows.device)
