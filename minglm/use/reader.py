"""Incremental reading: a KV cache, a Reader that adds rows to it, and log-probabilities of answers."""

from copy import copy

import torch
import torch.nn.functional as F

from ..checks import finite
from ..families import rows_of
from ..mask import GLMMask
from ..modules import device_of, evaluating


class Cache:
    """The keys and values of all rows read so far, so that each step computes only new rows.

    part_a_lens, room: for each of S samples, the length of its Part A and the most rows it can grow to. To
    read, call `mask = cache.next(len_q)` and then `model(..., mask, cache=cache)`: first all of Part A, then
    Part B as it is written. Part A never sees Part B, so nothing has to be read twice. A Cache belongs to one
    reading and so to one thread.
    """

    def __init__(self, part_a_lens, room):
        self.part_a_lens, self.used = torch.tensor(part_a_lens), torch.zeros(len(room), dtype=torch.int64)
        self.cu_seqlens_k = F.pad(torch.tensor(room).cumsum(0), (1, 0))
        self.kv = {}  # for each layer: keys and values, (2, sum of room, H, D)

    def next(self, len_q):
        """The GLMMask for the next len_q[s] rows of each sample; all rows read before are keys."""
        cu_seqlens_q = F.pad(torch.tensor(len_q).cumsum(0), (1, 0))
        mask = GLMMask(cu_seqlens_q, self.cu_seqlens_k, self.part_a_lens, self.used + torch.tensor(len_q))
        self.used = mask.len_k.long()
        sample, i = mask.rows()
        self.slots = self.cu_seqlens_k[sample] + i
        return mask

    def keep(self, layer, k, v):
        """Store a layer's new keys and values, (N, H, D) each -> all of that layer's, (room, H, D) each."""
        if layer not in self.kv:  # uninitialised on purpose: slots are written before they are read
            self.kv[layer] = k.new_empty(2, int(self.cu_seqlens_k[-1]), *k.shape[1:])
        kv, self.slots = self.kv[layer], self.slots.to(k.device)
        kv[0, self.slots], kv[1, self.slots] = k.to(kv.dtype), v.to(kv.dtype)
        return kv[0].to(k.dtype), kv[1].to(v.dtype)

    def select(self, samples):
        """Keep these samples, in this order and repeated if named twice: the beams that survive.

        All samples must have equal room.
        """
        room = self.cu_seqlens_k.diff()
        shape = (len(room), int(room[0]))
        self.kv = {layer: kv.unflatten(1, shape)[:, samples].flatten(1, 2) for layer, kv in self.kv.items()}
        self.part_a_lens, self.used = self.part_a_lens[samples], self.used[samples]
        self.cu_seqlens_k = torch.arange(len(samples) + 1) * room[0]


class Reader:
    """A model and a Cache of what it has read of each of S texts: Part A, and the answers in Part B.

    A Reader belongs to one thread, but several may share a model: each reads through its own view of it
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
        """A copy with the texts of `samples`, in this order; reading on in it does not change this Reader."""
        other = copy(self)
        other.cache = copy(self.cache)
        other.cache.select(samples)
        return other

    @torch.inference_mode()
    def read(self, rows, want="last"):
        """Read new rows of each text. rows: S times (tokens, positions, block positions), which may be empty.

        want: "last" -> log P(next token) after the last new row of each text that has new rows, (R, V);
        "all" -> after every new row, (N, V); False -> None.
        """
        lens = [len(tokens) for tokens, _, _ in rows]
        mask, device = self.cache.next(lens), device_of(self.model)
        columns = ([x for row in rows for x in row[c]] for c in range(3))
        columns = [torch.tensor(column, dtype=torch.int64, device=device) for column in columns]
        wanted = torch.arange(sum(lens))
        if want != "all":
            ends = torch.tensor(lens).cumsum(0)[torch.tensor(lens) > 0] - 1
            wanted = ends if want else ends[:0]
        logits = self.model(*columns, mask, rows=wanted.to(device), cache=self.cache)
        return finite(logits.float().log_softmax(-1).cpu()) if want else None


def log_probabilities(reader, start, answers, end):
    """The natural log-probabilities of each answer's tokens and of `end` after them: a list per answer.

    The reader must have read one text for each of the S answers; afterwards it has read the answers too.
    """
    first = len(start.tokens) - 1  # the row that predicts an answer's first token
    log_p = reader.read([rows_of(start, tokens) for tokens in answers], want="all")
    log_p = torch.cat([x[first:] for x in log_p.split([first + 1 + len(tokens) for tokens in answers])])
    targets = torch.tensor([t for tokens in answers for t in (*tokens, end)])
    log_p = log_p[torch.arange(len(targets)), targets]
    return [x.tolist() for x in log_p.split([len(tokens) + 1 for tokens in answers])]
