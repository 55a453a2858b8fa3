"""The baseline of `bench train`: GLM as usually written in plain PyTorch, and one training step of it.

It has the same weights and samples, but as (S, T): samples of similar length go together, padded to the
longest of them, with a dense mask.

    every_row=True     logits and losses of every row, then a loss mask, as in the original code
    every_row=False    logits of the rows that learn only

It is not handicapped otherwise: fused attention and AdamW, bfloat16 by autocast, gradients set to None.
Weights have the same names as ours, so `load_state_dict` accepts them.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

ROWS = 1024  # of a group, with padding; for `tiny`, the fastest of 256 to 4,096 at 2,048 tokens a step


def groups_of_similar_length(examples, rows=ROWS):
    """Cut a list of Example, by length, into groups that are at most `rows` rows when padded.

    Example: samples of 7, 3, 8 and 3 rows, at most 16 rows -> [3, 3], [7, 8].
    """
    groups = [[]]
    for example in sorted(examples, key=lambda example: len(example.tokens)):
        if groups[-1] and (len(groups[-1]) + 1) * len(example.tokens) > rows:
            groups.append([])
        groups[-1].append(example)
    return groups


class PaddedBatch(NamedTuple):
    """S samples of T rows: (S, T) int64, but loss_mask (S, T) and may_attend (S, 1, T, T) are bool."""

    tokens: torch.Tensor
    position_ids: torch.Tensor
    block_position_ids: torch.Tensor
    targets: torch.Tensor
    loss_mask: torch.Tensor
    may_attend: torch.Tensor


def pad(examples):
    """Pad a list of Example to a PaddedBatch. Padded rows have token 0 and learn nothing.

    Example: samples of 10 and 7 rows with Part A of 5 and 4 -> (2, 10); loss_mask is True 5 and 3 times.
    """
    S, T = len(examples), max(len(e.tokens) for e in examples)
    tokens, position_ids, block_position_ids, targets = torch.zeros(4, S, T, dtype=torch.int64)
    loss_mask = torch.zeros(S, T, dtype=torch.bool)
    for s, e in enumerate(examples):
        A, length = e.part_a_len, len(e.tokens)
        tokens[s, :length] = torch.from_numpy(e.tokens)
        position_ids[s, :length] = torch.from_numpy(e.position_ids)
        block_position_ids[s, :length] = torch.from_numpy(e.block_position_ids)
        targets[s, A:length] = torch.from_numpy(e.targets)
        loss_mask[s, A:length] = True
    row, part_a_lens = torch.arange(T), torch.tensor([e.part_a_len for e in examples])
    may_attend = row < torch.maximum(part_a_lens[:, None, None, None], row[:, None] + 1)  # (S, 1, T, T)
    return PaddedBatch(tokens, position_ids, block_position_ids, targets, loss_mask, may_attend)


class PaddedLayer(nn.Module):
    """One transformer layer on (S, T, C)."""

    def __init__(self, config):
        super().__init__()
        C = config.hidden_size
        self.num_heads, self.gelu = config.num_heads, "tanh" if config.gelu == "tanh" else "none"
        self.norm1, self.norm2 = nn.LayerNorm(C), nn.LayerNorm(C)
        self.qkv, self.out = nn.Linear(C, 3 * C), nn.Linear(C, C)
        self.up, self.down = nn.Linear(C, 4 * C), nn.Linear(4 * C, C)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x, may_attend):
        S, T, C = x.shape
        qkv = self.qkv(self.norm1(x)).view(S, T, 3, self.num_heads, -1)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)  # each (S, H, T, D)
        attended = F.scaled_dot_product_attention(q, k, v, attn_mask=may_attend)
        x = x + self.dropout(self.out(attended.transpose(1, 2).reshape(S, T, C)))
        return x + self.dropout(self.down(F.gelu(self.up(self.norm2(x)), approximate=self.gelu)))


class PaddedGLM(nn.Module):
    """The whole model on padded batches. config: GLMConfig."""

    def __init__(self, config, every_row):
        super().__init__()
        self.every_row, C = every_row, config.hidden_size
        self.token_embedding = nn.Embedding(config.vocab_size, C)
        self.position_embedding = nn.Embedding(config.max_positions + 1, C)
        self.block_position_embedding = nn.Embedding(config.max_positions + 1, C)
        self.dropout = nn.Dropout(config.dropout)
        self.layers = nn.ModuleList(PaddedLayer(config) for _ in range(config.num_layers))
        self.final_norm = nn.LayerNorm(C)

    def forward(self, batch):
        """Return the sum of the cross-entropies of the rows that learn."""
        x = self.token_embedding(batch.tokens) + self.position_embedding(batch.position_ids)
        x = self.dropout(x + self.block_position_embedding(batch.block_position_ids))  # (S, T, C)
        for layer in self.layers:
            x = layer(x, batch.may_attend)
        h = self.final_norm(x)
        if not self.every_row:
            logits = F.linear(h[batch.loss_mask], self.token_embedding.weight)  # (M, V)
            return F.cross_entropy(logits, batch.targets[batch.loss_mask], reduction="sum")
        logits = F.linear(h, self.token_embedding.weight)  # (S, T, V)
        losses = F.cross_entropy(logits.flatten(0, 1), batch.targets.flatten(), reduction="none")
        return (losses * batch.loss_mask.flatten()).sum()


def padded_step(model, optimizer, examples, dtype, clip):
    """Train one step on a list of Example, including padding and mask. Returns (loss, gradient norm).

    dtype: of matrix products, torch.float32 or torch.bfloat16.
    """
    learned = sum(len(example.targets) for example in examples)
    optimizer.zero_grad(set_to_none=True)
    total = 0.0
    for group in groups_of_similar_length(examples):
        batch = pad(group)
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
            loss = model(batch) / learned
        loss.backward()
        total += loss.item()
    norm = nn.utils.clip_grad_norm_(model.parameters(), clip)
    optimizer.step()
    return total, norm.item()
