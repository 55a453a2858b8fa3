"""Text to text as filling a blank: the source is Part A, the answer fills its one mask (paper section 2.3).

    "{src} [gMASK]"       Part A   [CLS] He saith unto them. [gMASK]
                          Part B   sop He says to them.      each row learns the next token, the last row eop

The model needs no new parts: training minimises the pretraining loss on these rows, with label smoothing, and
an answer is written as in `fill` and `write`.
"""

import torch
from tqdm import tqdm

from ..batch import in_runs
from ..checks import check_pair
from ..families import text_limit
from .cloze import BATCH_ROWS
from .drafts import Dials, Draft, fill_drafts
from .questions import ask_all, records_of
from .tasks import TextToText, read_task


def dials_of(task, **overrides):
    """The Dials of a task, except those that are overridden with a value that is not None."""
    return Dials(**task.dials | {name: value for name, value in overrides.items() if value is not None})


@torch.inference_mode()
def generate(model, tokenizer, pairs, dials):
    """The answers that a model writes to Pairs: a list of texts, the same as if each were written alone.

    dials: Dials. Sampling and greedy decoding write many texts side by side; beam search takes one at a time.
    """
    check_pair(model, tokenizer)
    most, texts = dials.max_tokens or model.config.max_positions, [""] * len(pairs)
    order = sorted(range(len(pairs)), key=lambda i: len(pairs[i].part_a))  # similar lengths end together
    runs = in_runs(order, lambda i: len(pairs[i].part_a) + most, BATCH_ROWS)
    if dials.width:
        runs = ([i] for i in order)
    with tqdm(total=len(pairs), disable=None, unit="text", leave=False, dynamic_ncols=True) as bar:
        for run in runs:
            drafts = [Draft(model, tokenizer, _text_of(pairs[i]), dials) for i in run]
            for i, draft in zip(run, fill_drafts(model, drafts, dials), strict=True):
                texts[i] = tokenizer.decode(draft.blanks[0].tokens).strip()
            bar.update(len(run))
    return texts


def _text_of(pair):
    """Part A without its cls and eos, which Draft adds."""
    return pair.part_a[1:-1] if pair.part_a[-1] == pair.special.eos else pair.part_a[1:]


def rewrite(model, tokenizer, task, texts, **dials):
    """Rewrite a text -> a text; a list of texts -> a list of texts.

    task: a TextToText, or a name or path that `read_task` reads. texts: a dict of the task's columns, or a
    str if the task has just one column. dials: fields of `Dials` that differ from the task's, e.g. beams=5.
    Raises MinglmError as `TextToText.ask` does.

    Example: rewrite(model, tokenizer, "modernise", "He saith unto them.") -> "He says to them."
    """
    check_pair(model, tokenizer)
    task = task if isinstance(task, TextToText) else read_task(task, TextToText)
    records, single = records_of(task, texts)
    pairs = ask_all(task, tokenizer, records, text_limit(model.config, True))
    answers = generate(model, tokenizer, pairs, dials_of(task, **dials))
    return answers[0] if single else answers
