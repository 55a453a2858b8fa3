"""What a model pays for what follows a prompt: running text by sliding windows, and the last word of a passage.

Part A is the prompt with a mask behind it, Part B is read with the right tokens in it, and each of its rows
is asked for the next one. A prompt that is read as Part A sees itself in both directions ("bidirectional");
with its first token alone in Part A, the model reads as GPT does ("left to right").
"""

import bz2
import math

import numpy as np
import torch
import torch.nn.functional as F
from tqdm import tqdm

from ..batch import columns, in_runs, pack
from ..checks import check_pair, finite
from ..data.corpus import encode_documents
from ..errors import MinglmError, note
from ..families import answer_example, refuse_bert
from ..files.jsonl import text_in, told_where
from ..modules import device_of, evaluating
from ..use.cloze import BATCH_ROWS
from .metrics import jackknife, mean_of, metric, perplexity_metric, standard_error

MASKS = {
    "MASK": "mask",
    "sMASK": "smask",
    "gMASK": "gmask",
}  # the argument: the name among the special tokens
READINGS = ("bidirectional", "left_to_right")
LOGIT_ROWS = 1024  # at a time: a row of logits is as long as the vocabulary
BZIP2_BYTES = 10_000  # in a shorter text, what bzip2 writes is mostly about itself


# ---- what follows a prompt -------------------------------------------------------------------------------


def read_answers(model, examples):
    """For each Example: what its targets cost, in nats, and the likeliest token of each row. Two (targets,) arrays.

    Examples may come without end. Raises MinglmError when the model's scores are not finite.
    """
    model, device = evaluating(model), device_of(model)
    with tqdm(disable=None, unit="sample", leave=False, dynamic_ncols=True) as bar:
        for run in in_runs(examples, lambda example: len(example.tokens), BATCH_ROWS):
            batch = pack(run).to(device)
            with torch.inference_mode():
                states, nats, best = model.hidden(*columns(batch), rows=batch.target_rows), [], []  # (M, C)
                for some, targets in zip(
                    states.split(LOGIT_ROWS), batch.targets.split(LOGIT_ROWS), strict=True
                ):
                    logits = model.head(some)
                    logits = logits if logits.dtype == torch.float64 else logits.float()
                    nats.append(F.cross_entropy(logits, targets, reduction="none").cpu())
                    best.append(logits.argmax(-1).cpu())
            nats, best = finite(torch.cat(nats)), torch.cat(best)
            lens = [len(example.targets) for example in run]
            yield from zip(
                (x.numpy() for x in nats.split(lens)), (x.numpy() for x in best.split(lens)), strict=True
            )
            bar.update(len(run))


def mask_id(tokenizer, mask):
    """The id of "MASK", "sMASK" or "gMASK"."""
    if mask not in MASKS:
        raise MinglmError(f"mask: {mask!r} is not accepted; {', '.join(MASKS)} are")
    return getattr(tokenizer.special, MASKS[mask])


# ---- running text ----------------------------------------------------------------------------------------


def windows(n, most, stride):
    """(start, end, first) of each window over n tokens: start:end is read, first:end is scored.

    Every token but the text's first is scored once. Example: windows(10, 6, 3) gives (0, 6, 1), (3, 9, 6),
    (6, 10, 9).
    """
    start, first = 0, 1
    while first < n:
        end = min(start + most, n)
        yield start, end, first
        start, first = start + stride, end


def evaluate_text(model, tokenizer, documents, *, stride=None, mask="gMASK"):
    """Perplexity (per token and per word) and bits per byte of texts that may be longer than the model reads.

    Windows of max_positions - 1 tokens, `stride` apart (None: half of max_positions); Part A is cls, the
    prompt and the mask. Bidirectional: all that an earlier window has scored is the prompt. Left to right:
    the first token is, and the rest of what was scored stands in Part B. (In a document's first window, the
    only one of a short document, both are the same.) Words are what white space parts; their perplexity is
    exp(nats / (words - 1)), as the original adjusts it. A document's first token is given and not scored, so
    its bytes do not count. Documents under 2 tokens are skipped, with a note. Raises MinglmError when no
    document has 2 tokens.
    """
    check_pair(model, tokenizer)
    most, special, blank = model.config.max_positions - 1, tokenizer.special, mask_id(tokenizer, mask)
    family = refuse_bert(model.config.family)
    if most < 2:
        raise MinglmError(f"max_positions: {most + 1} is too few for a window of running text; 3 are needed")
    stride = (most + 1) // 2 if stride is None else stride
    if not 1 <= stride < most:
        raise MinglmError(
            f"stride: {stride} is not accepted; a whole number from 1 to {most - 1} is, for this model"
        )
    byte_lengths, texts, units = (
        tokenizer.byte_lengths(),
        [],
        [],
    )  # units: a window's (document, tokens, bytes)
    packed, packer = 0, bz2.BZ2Compressor()

    def kept():
        """The documents, seen in passing."""
        nonlocal packed
        for number, document in enumerate([documents] if isinstance(documents, str) else documents):
            texts.append(dict(document=number, words=len(document.split()), tokens=0, bytes=0))
            packed += len(packer.compress(document.encode("utf-8", "replace") + b"\n"))
            yield document

    def examples():
        """Two samples of each window, bidirectional and left to right."""
        for number, (ids, n_bytes) in enumerate(encode_documents(kept(), tokenizer, np.int64)):
            texts[number] |= dict(tokens=len(ids), bytes=n_bytes)
            for start, end, first in windows(len(ids), most, stride):
                units.append((number, end - first, int(byte_lengths[ids[first:end]].sum())))
                for prompt_end in (first, start + 1):
                    part_a = [special.cls, *ids[start:prompt_end].tolist(), blank]
                    answer, at = ids[prompt_end:end].tolist(), len(part_a) - 1
                    yield answer_example(family, part_a, at, answer, special, "document", end=False)

    nats = [[], []]
    for n, (costs, _) in enumerate(read_answers(model, examples())):
        nats[n % 2].append(float(costs[-units[n // 2][1] :].sum(dtype=np.float64)))
    if not units:
        raise MinglmError(f"documents: none of {len(texts):,} has 2 tokens or more; running text is accepted")
    read = [text for text in texts if text["tokens"] > 1]
    if skipped := len(texts) - len(read):
        note(f"{skipped:,} of {len(texts):,} documents were skipped: they have fewer than 2 tokens")
    number, tokens, n_bytes = np.array(units).T
    words, n = sum(max(0, text["words"] - 1) for text in read), int(tokens.sum())
    metrics = {}
    for reading, costs in zip(READINGS, nats, strict=True):
        bits = np.array(costs) / math.log(2)
        metrics |= {
            f"bits_per_byte_{reading}": metric(
                *jackknife(mean_of(bits, n_bytes), len(units)), int(n_bytes.sum()), "bytes"
            ),
            f"perplexity_{reading}": perplexity_metric(costs, tokens, n, "tokens"),
        }
        if words > 0:  # a text without white space is one word
            metrics[f"perplexity_per_word_{reading}"] = perplexity_metric(
                costs, tokens, words, "words", n / words
            )
        of_document = np.bincount(number, weights=costs)
        for text in read:
            text[f"nats_{reading}"] = float(of_document[text["document"]])
    packed, plain = packed + len(packer.flush()), sum(text["bytes"] for text in texts)
    yardsticks = {"bits_per_byte_of_bzip2": 8 * packed / plain} if plain >= BZIP2_BYTES else {}
    return dict(
        task="text",
        metrics=metrics,
        yardsticks=yardsticks,
        documents=len(read),
        skipped=skipped,
        windows=len(units),
        window=most,
        stride=stride,
        mask=mask,
        predictions=read,
        meaning=f"bits for each byte of text, so models with other tokenizers compare: 8 is no model at all"
        f"{', bzip2 has learnt from this very text' * bool(yardsticks)}; windows of {most} tokens, {stride} apart",
    )


# ---- the last word ---------------------------------------------------------------------------------------


def evaluate_last_word(model, tokenizer, rows, *, mask="gMASK"):
    """How often the last word of a passage is the model's first choice, and its perplexity; read in both ways.

    rows: {where it stands: {"context", "answer"}}. Part A = cls, the context, the mask, eos. Right is a word
    each token of which is the likeliest, given those before it; what follows it does not matter. A context
    that is too long keeps its end, the same for both readings. Raises MinglmError for rows that are no such
    passages.
    """
    check_pair(model, tokenizer)
    special, positions, blank = tokenizer.special, model.config.max_positions, mask_id(tokenizer, mask)
    family = refuse_bert(model.config.family)
    if positions < 3:
        raise MinglmError(f"max_positions: {positions} is too few for a passage; 3 are needed")
    examples, answers, cut = [], [], 0
    for where, row in rows.items():
        with told_where(where):
            context, word = text_in(row, "context"), text_in(row, "answer").strip()
            if not word:
                raise MinglmError("answer: it is empty; a word is needed")
            ids, answer = tokenizer.encode(context.rstrip()), tokenizer.encode(" " + word)
            if len(answer) > positions:
                raise MinglmError(f"answer: {len(answer)} tokens; at most {positions} are accepted")
        room = min(
            positions - 3, positions + 1 - len(answer)
        )  # what Part A holds, and what a blank may come to
        kept = ids[max(0, len(ids) - room) :]
        cut += len(kept) < len(ids)
        for prompt in (kept, kept[:1]):
            part_a = [special.cls, *prompt, blank, special.eos]
            asked = [*kept[len(prompt) :], *answer]
            examples.append(
                answer_example(family, part_a, len(part_a) - 2, asked, special, "document", end=False)
            )
        answers.append(answer)
    if cut:
        note(
            f"{cut:,} of {len(rows):,} passages were too long for this model, which reads {positions} tokens: they lost "
            "their beginning"
        )
    found, metrics, n = list(read_answers(model, examples)), {}, len(rows)
    predictions = [dict(row) for row in rows.values()]
    for number, reading in enumerate(READINGS):
        nats, right = [], []
        for (costs, best), answer, line in zip(found[number::2], answers, predictions, strict=True):
            said = best[-len(answer) :].tolist()
            nats.append(float(costs[-len(answer) :].sum(dtype=np.float64)))
            right.append(said == answer)
            line |= {
                f"predicted_{reading}": tokenizer.decode(said),
                f"correct_{reading}": right[-1],
                f"log_probability_{reading}": -nats[-1],
            }
        share = sum(right) / n
        metrics |= {
            f"accuracy_{reading}": metric(share, standard_error(share, n), n, "passages"),
            f"word_perplexity_{reading}": perplexity_metric(nats, np.ones(n), n, "passages"),
        }
    return dict(
        task="last_word",
        metrics=metrics,
        yardsticks={},
        cut=cut,
        mask=mask,
        predictions=predictions,
        meaning="the share of passages whose last word is the model's first choice of all its vocabulary; the perplexity is "
        "of the whole word, its tokens together",
    )
