"""`minglm bench generate`: tokens generated per second, with and without the KV cache.

Both fill one [gMASK] per text by greedy decoding, to a fixed number of tokens. Without the cache every step
reads everything again, as in a first implementation. Before timing, both must choose the same tokens with the
same log-probabilities, up to rounding.
"""

import statistics

import torch

from ..errors import MinglmError
from ..families import start_of
from ..infilling import SpecialTokens
from ..machine import machine as machine_here
from ..machine import machine_line
from ..mask import GLMMask
from ..model import GLM
from ..modules import evaluating
from ..train.config import resolve
from ..use.drafts import Dials, Draft, Gap, write_blanks
from ..use.reader import Reader
from . import timing
from .check import seconds_asked

VERSION = 1  # of the result of run(); goes up when a field changes its meaning
FAIR = 1e-3  # nats between the two log-probabilities: about a hundred times the observed rounding
SHAPES = ((32, 32, 1), (64, 64, 1), (64, 64, 8), (32, 96, 8))  # tokens read, tokens written, texts at once
FIRST_TEXT_ID = 24  # after the special tokens


class Forgetful(Reader):
    """A Reader without a cache: each step reads every text from its beginning."""

    def __init__(self, model, drafts):
        self.model = evaluating(model)
        self.texts = [([], [], []) for _ in drafts]
        self.part_a_lens = [len(draft.part_a) for draft in drafts]
        self.read([(d.part_a, range(len(d.part_a)), [0] * len(d.part_a)) for d in drafts], want=False)

    @torch.inference_mode()
    def read(self, rows, want="last"):
        for text, new in zip(self.texts, rows, strict=True):
            for column, more in zip(text, new, strict=True):
                column += more
        if not want:
            return None
        every = zip(self.texts, self.part_a_lens, rows, strict=True)
        reading = [(text, A) for text, A, new in every if new[0]]
        lens = [len(tokens) for (tokens, _, _), _ in reading]
        columns = [torch.tensor([x for text, _ in reading for x in text[c]]) for c in range(3)]
        mask = GLMMask.packed(lens, [A for _, A in reading])
        logits = self.model(*columns, mask, rows=torch.tensor(lens).cumsum(0) - 1)
        return logits.float().log_softmax(-1)


def drafts_of(model, read, write, texts):
    """Return drafts of random tokens, each with a Part A of `read` tokens that ends in one [gMASK]."""
    special, V = SpecialTokens(), model.config.vocab_size
    generator, drafts = torch.Generator().manual_seed(0), []
    for _ in range(texts):
        ids = torch.randint(FIRST_TEXT_ID, V, (read - 2,), generator=generator).tolist()
        draft = object.__new__(Draft)
        draft.part_a, draft.part_a_len = [special.cls, *ids, special.gmask], read
        draft.is_text = torch.arange(V) >= FIRST_TEXT_ID
        start = start_of("glm", draft.part_a, read - 1, special)
        draft.blanks = draft.todo = [Gap(special.gmask, read - 1, start, frozenset({special.eop}), write, 0)]
        drafts.append(draft)
    return drafts


def writes(model, reader, shape):
    """Read and generate once. -> a list of Gaps"""
    drafts = drafts_of(model, *shape)
    write_blanks(reader(model, drafts), drafts, Dials(min_tokens=shape[1] + 1))  # never ends early
    return [draft.blanks[0] for draft in drafts]


def check(model, shape):
    """Return how the two differ, in one line, or None."""
    with_cache, without = (writes(model, reader, shape) for reader in (Reader, Forgetful))
    for n, (a, b) in enumerate(zip(with_cache, without, strict=True)):
        if a.tokens != b.tokens:
            return f"text {n}: the tokens differ with and without the cache"
        if not max(abs(x - y) for x, y in zip(a.scores, b.scores, strict=True)) <= FAIR:
            return f"text {n}: log-probabilities differ by more than {FAIR} nats"


def measure(model, shape, seconds):
    """Check, then time one shape. Returns the results as a dict."""
    read, write, texts = shape
    row = dict(read=read, write=write, texts=texts, wrong=check(model, shape))
    if row["wrong"]:
        return row
    readers = {"cache": Reader, "no cache": Forgetful}
    runs = {name: lambda r=reader: writes(model, r, shape) for name, reader in readers.items()}
    taken = timing.alternate(runs, seconds)
    for name, times in taken.items():
        row[name] = dict(tokens_per_s=texts * write / statistics.median(times), runs=len(times))
    return row | dict(times=timing.speedup(taken["no cache"], taken["cache"])._asdict())


def run(args):
    """Check, time and print; returns all results."""
    seconds_asked(args.seconds)
    config = resolve(args.preset).model
    torch.manual_seed(0)
    model = GLM(config).eval()
    shapes = [shape for shape in SHAPES if max(shape[:2]) < config.max_positions]
    if not shapes:
        most = config.max_positions
        raise MinglmError(f"--preset: {args.preset} reads {most} tokens; more than 32 are needed")
    machine, size = machine_here(), f"{model.num_parameters() / 1e6:.1f} M parameters"
    print(f"machine     {machine_line(machine)}")
    print(f"model       {args.preset}, {size}, random weights, float32, greedy decoding")
    print("x           speedup by the cache, run by run: the median ± half the interquartile range\n")
    print(f"{'read':>6}{'written':>9}{'texts':>7}{'tokens/s':>12}{'no cache':>12}{'x':>15}{'runs':>7}")
    rows = []
    for shape in shapes:
        row = measure(model, shape, args.seconds)
        rows.append(row)
        line = f"{row['read']:>6}{row['write']:>9}{row['texts']:>7}"
        if row["wrong"]:
            print(f"{line}  WRONG: {row['wrong']}; not timed")
            continue
        times = row["times"]
        ratio = f"{times['median']:.2f} ± {(times['high'] - times['low']) / 2:.2f}"
        speeds = "".join(f"{row[name]['tokens_per_s']:>12,.0f}" for name in ("cache", "no cache"))
        print(f"{line}{speeds}{ratio:>15}{row['no cache']['runs']:>7}", flush=True)
    ok = not any(row["wrong"] for row in rows)
    return dict(bench="generate", version=VERSION, ok=ok, machine=machine, preset=args.preset, rows=rows)
