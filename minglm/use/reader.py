"""A model that has read something and reads on: keys and values are kept, log-probabilities come out."""

from copy import copy

import torch
import torch.nn.functional as F

from ..checks import finite
from ..families import rows_of
from ..mask import GLMMask
from ..modules import evaluating


class Cache:
    """The keys and values of all that was read, so that a new row is all that a step computes.

    part_a_lens, room: for each of S samples, how long its Part A is and how many rows it may come to. Read
    with `mask = cache.next(len_q)`, then `model(..., mask, cache=cache)`: first Part A as a whole, then Part
    B as it is written. Part A never sees Part B, so nothing that was read has to be read again. A Cache
    serves one reading, so one thread.
    """

    def __init__(self, part_a_lens, room):
        self.part_a_lens, self.used = torch.tensor(part_a_lens), torch.zeros(len(room), dtype=torch.int64)
        self.cu_seqlens_k = F.pad(torch.tensor(room).cumsum(0), (1, 0))
        self.kv = {}  # of each layer: keys and values, (2, all room, H, D)

    def next(self, len_q):
        """The GLMMask under which the next len_q[s] rows of each sample are read, all that was read before being keys."""
        cu_seqlens_q = F.pad(torch.tensor(len_q).cumsum(0), (1, 0))
        mask = GLMMask(cu_seqlens_q, self.cu_seqlens_k, self.part_a_lens, self.used + torch.tensor(len_q))
        self.used = mask.len_k.long()
        sample, i = mask.rows()
        self.slots = self.cu_seqlens_k[sample] + i
        return mask

    def keep(self, layer, k, v):
        """Write the new rows of a layer: (N, H, D) each -> everything that was read there, (room, H, D) each."""
        if layer not in self.kv:  # uninitialised on purpose: slots are written before they are read
            self.kv[layer] = k.new_empty(2, int(self.cu_seqlens_k[-1]), *k.shape[1:])
        kv, self.slots = self.kv[layer], self.slots.to(k.device)
        kv[0, self.slots], kv[1, self.slots] = k.to(kv.dtype), v.to(kv.dtype)
        return kv[0].to(k.dtype), kv[1].to(v.dtype)

    def select(self, samples):
        """Go on with these samples, in this order and as often as they are named: the beams that survive. Equal rooms only."""
        room = self.cu_seqlens_k.diff()
        S, n = len(room), len(samples)
        rows = {
            layer: kv.unflatten(1, (S, int(room[0])))[:, samples].flatten(1, 2)
            for layer, kv in self.kv.items()
        }
        self.kv, self.part_a_lens, self.used = rows, self.part_a_lens[samples], self.used[samples]
        self.cu_seqlens_k = torch.arange(n + 1) * room[0]


class Reader:
    """What a model has read of each of S texts, kept as keys and values: Part A, and the answers that stand in Part B.

    A Reader serves one thread. Several may share its model: each reads through a view of its own
    (`evaluating`).
    """

    def __init__(self, model, drafts, room=None):
        self.model, parts_a = evaluating(model), [draft.part_a for draft in drafts]
        room = room or [draft.room() for draft in drafts]
        rooms = [len(part_a) + rows for part_a, rows in zip(parts_a, room, strict=True)]
        self.cache = Cache([draft.part_a_len for draft in drafts], rooms)
        if any(parts_a):
            self.read([(part_a, range(len(part_a)), [0] * len(part_a)) for part_a in parts_a], want=False)

    def fork(self, samples):
        """The same texts, picked and repeated as `samples` says, to be read on without this Reader noticing."""
        other = copy(self)
        other.cache = copy(self.cache)
        other.cache.select(samples)
        return other

    @torch.inference_mode()
    def read(self, rows, want="last"):
        """Read new rows of each text: S times (tokens, positions, block positions), any of which may be empty.

        want: "last" -> log P(next token) after the last new row of every text that has one, (R, V); "all" ->
        after every new row, (N, V); False -> None.
        """
        lens = [len(tokens) for tokens, _, _ in rows]
        mask, device = self.cache.next(lens), next(self.model.parameters()).device
        columns = [
            torch.tensor([x for row in rows for x in row[c]], dtype=torch.int64, device=device)
            for c in range(3)
        ]
        ends = torch.tensor(lens).cumsum(0)[torch.tensor(lens) > 0] - 1
        wanted = torch.arange(sum(lens)) if want == "all" else ends if want else ends[:0]
        logits = self.model(*columns, mask, rows=wanted.to(device), cache=self.cache)
        return finite(logits.float().log_softmax(-1).cpu()) if want else None


def log_probabilities(reader, start, answers, end):
    """Natural logs of the probabilities of each answer's tokens and of `end` after them: a list for each of the S answers.

    The reader has read one text for each answer, and these answers afterwards.
    """
    first = len(start.tokens) - 1  # the row that says an answer's first token
    log_p = reader.read([rows_of(start, tokens) for tokens in answers], want="all")
    log_p = torch.cat([x[first:] for x in log_p.split([first + 1 + len(tokens) for tokens in answers])])
    targets = torch.tensor([t for tokens in answers for t in (*tokens, end)])
    return [
        x.tolist() for x in log_p[torch.arange(len(targets)), targets].split([len(t) + 1 for t in answers])
    ]
