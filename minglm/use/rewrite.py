"""Text to text as filling a blank: the source is Part A, and the answer is written into its one mask (paper section 2.3).

    "{src} [gMASK]"       Part A   [CLS] He saith unto them. [gMASK]
                          Part B   sop He says to them.                  each row learns the next token, the last one eop

Nothing is new in the model: learning is the loss of pretraining on these rows, smoothed; an answer is written
as `fill` and `write` do. How good it is, is said in BLEU, chrF, ROUGE and exact matches, beside what costs
nothing: copying the source.
"""

from collections.abc import Mapping

import torch
from tqdm import tqdm

from ..batch import in_runs
from ..checks import check_pair
from ..errors import MinglmError
from ..families import text_limit
from .cloze import MAX_ROWS
from .drafts import Dials, Draft, fill_drafts
from .questions import ask_all
from .tasks import TextToText, read_task

# ---- learning ---------------------------------------------------------------------------------------------


# ---- answers ---------------------------------------------------------------------------------------------


def dials_of(task, **given):
    """The Dials that a task sets, but for what is given and not None."""
    return Dials(**{**task.dials, **{name: value for name, value in given.items() if value is not None}})


@torch.inference_mode()
def generate(model, tokenizer, pairs, dials):
    """What the model writes for each Pair -> texts, in their order: many side by side, each as it would be alone.

    dials: Dials. Their beams search one text at a time, the beams side by side.
    """
    check_pair(model, tokenizer)
    most, texts = dials.max_tokens or model.config.max_positions, [""] * len(pairs)
    alike = sorted(
        range(len(pairs)), key=lambda i: len(pairs[i].part_a)
    )  # those that go together end together, about
    with tqdm(total=len(pairs), disable=None, unit="text", leave=False, dynamic_ncols=True) as bar:
        for run in (
            ([i] for i in alike)
            if dials.width
            else in_runs(alike, lambda i: len(pairs[i].part_a) + most, MAX_ROWS)
        ):
            drafts = [Draft(model, tokenizer, _text_of(pairs[i]), dials) for i in run]
            for i, draft in zip(run, fill_drafts(model, drafts, dials), strict=True):
                texts[i] = tokenizer.decode(draft.blanks[0].tokens).strip()
            bar.update(len(run))
    return texts


def _text_of(pair):
    """Part A without its cls and eos, which Draft adds by itself."""
    return pair.part_a[1:-1] if pair.part_a[-1] == pair.special.eos else pair.part_a[1:]


def rewrite(model, tokenizer, task, texts, **dials):
    """What a model makes of a text -> a text; of a list of them -> a list.

    task: a TextToText, or what `read_task` reads. texts: a row with the task's columns as a dict, or its text
    where the task has one column. dials: fields of `Dials` that differ from the task's, e.g. beams=5. Raises
    MinglmError as `ask` does.

    Example: rewrite(model, tokenizer, "modernise", "He saith unto them.") -> "He says to them."
    """
    task = task if isinstance(task, TextToText) else read_task(task, TextToText)
    single = isinstance(texts, str | Mapping)
    rows = {}
    for n, text in enumerate([texts] if single else texts, 1):
        if isinstance(text, str) and len(task.columns) > 1:
            raise MinglmError(
                f"{task.name}: a text for each of {', '.join(task.columns)} is needed, as a dict"
            )
        rows["text" if single else f"text {n}"] = {task.columns[0]: text} if isinstance(text, str) else text
    pairs = ask_all(task, tokenizer, rows, text_limit(model.config, True))
    found = generate(model, tokenizer, pairs, dials_of(task, **dials))
    return found[0] if single else found


# ---- how good an answer is -------------------------------------------------------------------------------
