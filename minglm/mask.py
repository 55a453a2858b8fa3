"""Who sees whom: the mask of GLM as one integer per sample.

Within one sample of length T whose Part A has length A, row i sees keys 0 .. max(A, i+1) - 1:

    Part A rows (i < A)    see all of Part A, in both directions;
    Part B rows (i >= A)   see all of Part A, and Part B up to themselves.

A = 0 is GPT, A = T is BERT, anything between is GLM and every prefix LM (paper section 2.1, figure 2d).
"""

from dataclasses import dataclass, field

import torch

from .errors import MinglmError
from .rule import keys_of_row


@dataclass(frozen=True, eq=False)
class GLMMask:
    """The mask of a packed batch: where each sample starts and how long its Part A is.

    cu_seqlens_q, cu_seqlens_k: (S+1,) int32; sample s has the rows cu_seqlens_q[s] .. cu_seqlens_q[s+1] - 1,
    and likewise its keys. part_a_lens: (S,) int32.
    seqlens_k: optional (S,) int32; sample s then has only its first seqlens_k[s] keys (a cache).

    Queries are aligned with the end of their sample's keys: row r of sample s is i = len_k - len_q + r. The
    lengths are checked once, here, on the host; MinglmError says which of them contradict each other.

    Threads may share a mask: its lengths never change, and everything it caches is derived from them. A copy
    starts with an empty cache. num_queries, num_keys: the rows of q, and of k and v.
    """

    cu_seqlens_q: torch.Tensor
    cu_seqlens_k: torch.Tensor
    part_a_lens: torch.Tensor
    seqlens_k: torch.Tensor | None = None
    num_queries: int = field(init=False, repr=False)
    num_keys: int = field(init=False, repr=False)
    _memory: dict = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self):
        for name in ("cu_seqlens_q", "cu_seqlens_k", "part_a_lens", "seqlens_k"):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, _int32(name, getattr(self, name)))
        for name in ("cu_seqlens_q", "cu_seqlens_k"):
            cu = getattr(self, name)
            if len(cu) != len(self.part_a_lens) + 1:
                raise MinglmError(
                    f"{name}: {len(cu)} entries for {len(self.part_a_lens)} samples; samples + 1 are needed"
                )
            if cu[0] != 0 or (cu.diff() < 0).any():
                raise MinglmError(f"{name}: {_short(cu)} must start at 0 and never fall")
        room = self.cu_seqlens_k.diff()
        if self.seqlens_k is not None:
            if len(self.seqlens_k) != len(room):
                raise MinglmError(f"seqlens_k: {len(self.seqlens_k)} entries for {len(room)} samples")
            if (self.seqlens_k < 0).any() or (self.seqlens_k > room).any():
                raise MinglmError(
                    f"seqlens_k: {_short(self.seqlens_k)} must lie between 0 and {_short(room)}"
                )
        if (self.part_a_lens < 0).any() or (self.part_a_lens > self.len_k).any():
            keys = _short(self.len_k)
            raise MinglmError(
                f"part_a_lens: {_short(self.part_a_lens)} must lie between 0 and the samples' keys {keys}"
            )

        object.__setattr__(self, "num_queries", int(self.cu_seqlens_q[-1]))
        object.__setattr__(self, "num_keys", int(self.cu_seqlens_k[-1]))

    def __reduce__(self):  # without the cache, which holds addresses
        return GLMMask, (self.cu_seqlens_q, self.cu_seqlens_k, self.part_a_lens, self.seqlens_k)

    @classmethod
    def packed(cls, seq_lens, part_a_lens):
        """The mask of samples of these lengths, end to end; queries and keys are the same rows (training)."""
        cu = torch.nn.functional.pad(_int32("seq_lens", seq_lens).cumsum(0, dtype=torch.int32), (1, 0))
        return cls(cu, cu, part_a_lens)

    @classmethod
    def gpt(cls, seq_lens):
        """Every row sees itself and its past: Part A is empty."""
        return cls.packed(seq_lens, torch.zeros(len(seq_lens), dtype=torch.int32))

    @classmethod
    def bert(cls, seq_lens):
        """Every row sees the whole sample: everything is Part A."""
        return cls.packed(seq_lens, seq_lens)

    def with_queries(self, len_q):
        """The same mask, but only the last len_q[s] rows of each sample are queries. len_q: (S,) ints."""
        cu_q = torch.nn.functional.pad(_int32("len_q", len_q).cumsum(0, dtype=torch.int32), (1, 0))
        return GLMMask(cu_q, self.cu_seqlens_k, self.part_a_lens, self.seqlens_k)

    def with_sample(self, n):
        """The mask with one more sample at the end: n rows that see only each other."""
        ends = [torch.cat([cu, cu[-1:] + n]) for cu in (self.cu_seqlens_q, self.cu_seqlens_k)]
        own = torch.tensor([n], dtype=torch.int32)
        used = None if self.seqlens_k is None else torch.cat([self.seqlens_k, own])
        return GLMMask(*ends, torch.cat([self.part_a_lens, own]), used)

    @property
    def len_q(self):
        """The number of queries of each sample, (S,) int32."""
        return self.cu_seqlens_q.diff()

    @property
    def len_k(self):
        """The number of keys of each sample, (S,) int32."""
        return self.cu_seqlens_k.diff() if self.seqlens_k is None else self.seqlens_k

    def rows(self):
        """The sample of every query row, and its index i among the sample's keys: two (Nq,) int64 tensors."""
        len_q = self.len_q.long()
        sample = torch.repeat_interleave(torch.arange(len(len_q)), len_q)
        r = torch.arange(len(sample)) - self.cu_seqlens_q.long()[sample]
        return sample, (self.len_k - self.len_q).long()[sample] + r

    def visible_keys(self):
        """How many keys of its sample each row sees: the rule, for all rows at once. (Nq,) int64."""
        sample, i = self.rows()
        return torch.minimum(self.len_k.long()[sample], keys_of_row(i, self.part_a_lens.long()[sample]))

    def dense(self):
        """The mask as a matrix, for pictures and for the reference: (Nq, Nk) bool, True = may attend."""
        sample, _ = self.rows()
        key = torch.arange(self.num_keys)
        first = self.cu_seqlens_k.long()[sample]
        return (key >= first[:, None]) & (key < (first + self.visible_keys())[:, None])

    def remember(self, key, make):
        """`make()`, cached under `key`: so backends prepare the lengths once per batch, not per layer."""
        if (known := self._memory.get(key)) is not None:
            return known
        if torch.compiler.is_compiling():  # the traced graph makes it, and it is kept after the first run
            self._memory[key] = make()
        else:
            with torch.inference_mode(False):  # a backward pass must be able to use it, too
                self._memory[key] = make()
        return self._memory[key]


def _int32(name, values):
    """A list, array or tensor of integers as a 1-D int32 tensor on the host."""
    values = torch.as_tensor(values)
    if values.numel() == 0:
        values = values.to(torch.int32)
    if values.dim() != 1 or values.is_floating_point() or values.dtype == torch.bool:
        kind = f"{values.dtype} of shape {tuple(values.shape)}"
        raise MinglmError(f"{name}: {kind}; a 1-D row of integers is needed")
    if len(values) and int(values.long().abs().max()) >= 2**31:
        raise MinglmError(f"{name}: {_short(values)} do not fit into 32 bits")
    # a copy, so that a checked mask cannot be changed from outside
    return values.to("cpu", torch.int32, copy=True).contiguous()


def _short(values):
    return f"[{', '.join(map(str, values[:8].tolist()))}{', ...' if len(values) > 8 else ''}]"
