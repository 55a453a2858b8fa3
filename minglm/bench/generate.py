"""`minglm bench generate`: tokens a second that a model writes, with the cache of keys and values and without.

Both write the same: one [gMASK] a text, greedily, always as many tokens as are asked for. Without the cache
every step reads everything again, as one would write it first. Before anything is timed, both have to choose
the same tokens with the same log-probabilities, up to rounding.
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

VERSION = 1  # of what run() returns; goes up when a field changes its meaning
FAIR = 1e-3  # nats between the log-probabilities of the two: some hundred times what rounding was seen to do
SHAPES = ((32, 32, 1), (64, 64, 1), (64, 64, 8), (32, 96, 8))  # tokens read, tokens written, texts at once
FIRST_TEXT_ID = 24  # behind the special tokens


class Forgetful(Reader):
    """A Reader that keeps nothing but the tokens: each step reads every text from its beginning."""

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
        reading = [
            (text, A) for text, A, new in zip(self.texts, self.part_a_lens, rows, strict=True) if new[0]
        ]
        lens = [len(tokens) for (tokens, _, _), _ in reading]
        columns = [torch.tensor([x for text, _ in reading for x in text[c]]) for c in range(3)]
        mask = GLMMask.packed(lens, [A for _, A in reading])
        logits = self.model(*columns, mask, rows=torch.tensor(lens).cumsum(0) - 1)
        return logits.float().log_softmax(-1)


def drafts_of(model, read, write, texts):
    """Texts of random tokens that run on: each a Part A of `read` rows and one [gMASK]."""
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
    """One run: read, and write all tokens -> a list of Gaps."""
    drafts = drafts_of(model, *shape)
    write_blanks(reader(model, drafts), drafts, Dials(min_tokens=shape[1] + 1))  # never an end
    return [draft.blanks[0] for draft in drafts]


def check(model, shape):
    """What is wrong between the two, in one line; None if nothing is."""
    for n, (a, b) in enumerate(
        zip(writes(model, Reader, shape), writes(model, Forgetful, shape), strict=True)
    ):
        if a.tokens != b.tokens:
            return f"text {n}: other tokens with the cache than without"
        if not max(abs(x - y) for x, y in zip(a.scores, b.scores, strict=True)) <= FAIR:
            return f"text {n}: log-probabilities differ by more than {FAIR} nats"


def measure(model, shape, seconds):
    """Check, then time: everything about one shape, as a dict."""
    read, write, texts = shape
    found = dict(read=read, write=write, texts=texts, wrong=check(model, shape))
    if found["wrong"]:
        return found
    variants = {"cache": Reader, "no cache": Forgetful}
    taken = timing.alternate(
        {name: lambda r=reader: writes(model, r, shape) for name, reader in variants.items()}, seconds
    )
    for name, runs in taken.items():
        found[name] = dict(tokens_per_s=texts * write / statistics.median(runs), runs=len(runs))
    return found | dict(times=timing.speedup(taken["no cache"], taken["cache"])._asdict())


def run(args):
    """Check, time, print; returns everything that was found."""
    seconds_asked(args.seconds)
    config = resolve(args.preset).model
    torch.manual_seed(0)
    model = GLM(config).eval()
    shapes = [shape for shape in SHAPES if max(shape[:2]) < config.max_positions]
    if not shapes:
        raise MinglmError(
            f"--preset: {args.preset} reads {config.max_positions} tokens; more than 32 are needed"
        )
    machine = machine_here()
    print(f"machine     {machine_line(machine)}")
    print(
        f"model       {args.preset}, {model.num_parameters() / 1e6:.1f} M parameters, random weights, float32, greedy"
    )
    print(
        "x           times as fast with the cache, run by run, median; ± half the distance of the quartiles\n"
    )
    print(f"{'read':>6}{'written':>9}{'texts':>7}{'tokens/s':>12}{'no cache':>12}{'x':>15}{'runs':>7}")
    rows = []
    for shape in shapes:
        found = measure(model, shape, args.seconds)
        rows.append(found)
        line = f"{found['read']:>6}{found['write']:>9}{found['texts']:>7}"
        if found["wrong"]:
            print(f"{line}  WRONG: {found['wrong']}; not timed")
            continue
        times = found["times"]
        ratio = f"{times['median']:.2f} ± {(times['high'] - times['low']) / 2:.2f}"
        speeds = "".join(f"{found[name]['tokens_per_s']:>12,.0f}" for name in ("cache", "no cache"))
        print(f"{line}{speeds}{ratio:>15}{found['no cache']['runs']:>7}", flush=True)
    ok = not any(row["wrong"] for row in rows)
    return dict(bench="generate", version=VERSION, ok=ok, machine=machine, preset=args.preset, rows=rows)
