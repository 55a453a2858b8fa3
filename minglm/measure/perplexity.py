"""The loss on text after a prompt: running text by sliding windows, and the last word of a passage.

Part A is the prompt and a mask; Part B holds the true tokens, and each of its rows predicts the next one. If
the whole prompt is in Part A, it is read in both directions ("bidirectional"); if only its first token is,
the model reads as GPT does ("left to right").
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

MASKS = {"MASK": "mask", "sMASK": "smask", "gMASK": "gmask"}  # argument: name among the special tokens
READINGS = ("bidirectional", "left_to_right")
LOGIT_ROWS = 1024  # at a time: a row of logits is as long as the vocabulary
BZIP2_BYTES = 10_000  # for shorter texts, bzip2's own overhead dominates


# ---- what follows a prompt -------------------------------------------------------------------------------


def read_answers(model, examples):
    """Yields for each Example the losses of its targets in nats and the likeliest tokens: (targets,) arrays.

    Examples may be an endless iterator. Raises MinglmError when the model's scores are not finite.
    """
    model, device = evaluating(model), device_of(model)
    with tqdm(disable=None, unit="sample", leave=False, dynamic_ncols=True) as bar:
        for run in in_runs(examples, lambda example: len(example.tokens), BATCH_ROWS):
            batch = pack(run).to(device)
            nats, best = [], []
            with torch.inference_mode():
                states = model(*columns(batch), rows=batch.target_rows, states=True).split(
                    LOGIT_ROWS
                )  # (M, C)
                for part, targets in zip(states, batch.targets.split(LOGIT_ROWS), strict=True):
                    logits = model.head(part)
                    logits = logits if logits.dtype == torch.float64 else logits.float()
                    nats.append(F.cross_entropy(logits, targets, reduction="none").cpu())
                    best.append(logits.argmax(-1).cpu())
            lens = [len(example.targets) for example in run]
            nats, best = finite(torch.cat(nats)).split(lens), torch.cat(best).split(lens)
            for losses, tokens in zip(nats, best, strict=True):
                yield losses.numpy(), tokens.numpy()
            bar.update(len(run))


def mask_id(tokenizer, mask):
    """The token id of "MASK", "sMASK" or "gMASK"."""
    if mask not in MASKS:
        raise MinglmError(f"mask: {mask!r} is not accepted; {', '.join(MASKS)} are")
    return getattr(tokenizer.special, MASKS[mask])


# ---- running text ----------------------------------------------------------------------------------------


def windows(n, most, stride):
    """Yields (start, end, first) of each window over n tokens: start:end is read, first:end is scored.

    Every token except the first of the text is scored once. Example: windows(10, 6, 3) yields (0, 6, 1),
    (3, 9, 6), (6, 10, 9).
    """
    start, first = 0, 1
    while first < n:
        end = min(start + most, n)
        yield start, end, first
        start, first = start + stride, end


def evaluate_text(model, tokenizer, documents, *, stride=None, mask="gMASK"):
    """Perplexity (per token and per word) and bits per byte of texts that may be longer than the model reads.

    Windows of max_positions - 1 tokens, `stride` apart (None: half of max_positions); Part A is cls, the
    prompt and the mask. Bidirectional: the prompt is all that earlier windows have scored. Left to right: it
    is only the first token, and the rest is at the start of Part B. (In the first window of a document, both
    are the same.) Words are separated by white space; their perplexity is exp(nats / (words - 1)), as in the
    original. The first token of a document is given, not scored, so its bytes do not count. Documents under 2
    tokens are skipped, with a note. Raises MinglmError when no document has 2 tokens.
    """
    check_pair(model, tokenizer)
    most, family = model.config.max_positions - 1, refuse_bert(model.config.family)
    if most < 2:
        raise MinglmError(f"max_positions: {most + 1} is too few for a window of running text; 3 are needed")
    stride = (most + 1) // 2 if stride is None else stride
    if not 1 <= stride < most:
        accepted = f"a whole number from 1 to {most - 1} is, for this model"
        raise MinglmError(f"stride: {stride} is not accepted; {accepted}")
    text = RunningText(tokenizer, [documents] if isinstance(documents, str) else documents)
    nats = {reading: [] for reading in READINGS}  # of each window
    examples = text.examples(family, mask_id(tokenizer, mask), most, stride)
    for n, (losses, _) in enumerate(read_answers(model, examples)):
        scored = text.windows[n // 2][1]
        nats[READINGS[n % 2]].append(float(losses[-scored:].sum(dtype=np.float64)))
    if not text.windows:
        what = f"none of {len(text.documents):,} has 2 tokens or more"
        raise MinglmError(f"documents: {what}; running text is accepted")
    read = [document for document in text.documents if document["tokens"] > 1]
    if skipped := len(text.documents) - len(read):
        what = f"{skipped:,} of {len(text.documents):,} documents were skipped"
        note(f"{what}: they have fewer than 2 tokens")
    yardsticks, bzip2 = text.bzip2(), ""
    if yardsticks:
        bzip2 = ", and bzip2 is compressing this very text"
    meaning = (
        f"bits per byte of text can be compared between tokenizers: 8 means no model at all{bzip2}; "
        f"windows of {most} tokens, {stride} apart"
    )
    return dict(
        task="text",
        metrics=text_metrics(nats, text.windows, read),
        yardsticks=yardsticks,
        documents=len(read),
        skipped=skipped,
        windows=len(text.windows),
        window=most,
        stride=stride,
        mask=mask,
        predictions=read,
        meaning=meaning,
    )


class RunningText:
    """Documents that are tokenised as they are read, and what is counted on the way.

    documents: a dict each, with its number, words, tokens and bytes. windows: (document, scored tokens, their
    bytes) each.
    """

    def __init__(self, tokenizer, documents):
        self.tokenizer, self.source = tokenizer, documents
        self.documents, self.windows = [], []
        self.packed, self.packer = 0, bz2.BZ2Compressor()

    def read(self):
        """Yields the documents, counted and compressed in passing."""
        for number, document in enumerate(self.source):
            self.documents.append(dict(document=number, words=len(document.split()), tokens=0, bytes=0))
            self.packed += len(self.packer.compress(document.encode("utf-8", "replace") + b"\n"))
            yield document

    def examples(self, family, mask, most, stride):
        """Yields two Examples of each window: bidirectional and left to right."""
        special, byte_lengths = self.tokenizer.special, self.tokenizer.byte_lengths()
        for number, (ids, n_bytes, _) in enumerate(encode_documents(self.read(), self.tokenizer, np.int64)):
            self.documents[number] |= dict(tokens=len(ids), bytes=n_bytes)
            for start, end, first in windows(len(ids), most, stride):
                self.windows.append((number, end - first, int(byte_lengths[ids[first:end]].sum())))
                for prompt_end in (first, start + 1):
                    part_a = [special.cls, *ids[start:prompt_end].tolist(), mask]
                    answer, position = ids[prompt_end:end].tolist(), len(part_a) - 1
                    yield answer_example(family, part_a, position, answer, special, "document", end=False)

    def bzip2(self):
        """{"bits_per_byte_of_bzip2"} of all documents; empty for a short text."""
        packed, plain = self.packed + len(self.packer.flush()), sum(x["bytes"] for x in self.documents)
        return {"bits_per_byte_of_bzip2": 8 * packed / plain} if plain >= BZIP2_BYTES else {}


def text_metrics(nats, units, documents):
    """The metrics of running text from {reading: nats of each window}; adds its nats to each document."""
    number, tokens, n_bytes = np.array(units).T
    words, n, metrics = sum(max(0, x["words"] - 1) for x in documents), int(tokens.sum()), {}
    for reading, losses in nats.items():
        bits = mean_of(np.array(losses) / math.log(2), n_bytes)
        bits = metric(*jackknife(bits, len(units)), int(n_bytes.sum()), "bytes")
        metrics[f"bits_per_byte_{reading}"] = bits
        metrics[f"perplexity_{reading}"] = perplexity_metric(losses, tokens, n, "tokens")
        if words > 0:  # a text without white space is one word
            per_word = perplexity_metric(losses, tokens, words, "words", n / words)
            metrics[f"perplexity_per_word_{reading}"] = per_word
        of_document = np.bincount(number, weights=losses)
        for document in documents:
            document[f"nats_{reading}"] = float(of_document[document["document"]])
    return metrics


# ---- the last word ---------------------------------------------------------------------------------------


def evaluate_last_word(model, tokenizer, rows, *, mask="gMASK"):
    """How often the last word of a passage is the model's first choice, and its perplexity; both readings.

    rows: {where a record comes from: {"context", "answer"}}. Part A = cls, the context, the mask, eos. A word
    is right if each of its tokens is the likeliest after those before it; what follows does not matter. A
    context that is too long loses its beginning, in both readings. Raises MinglmError for other records.
    """
    check_pair(model, tokenizer)
    positions, mask_token = model.config.max_positions, mask_id(tokenizer, mask)
    family = refuse_bert(model.config.family)
    if positions < 3:
        raise MinglmError(f"max_positions: {positions} is too few for a passage; 3 are needed")
    examples, answers, cut = [], [], 0
    for where, record in rows.items():
        with told_where(where):
            context, answer = passage(tokenizer, record, positions)
        # Part A has to fit, and so does Part B, which holds the context when reading left to right
        room = min(positions - 3, positions + 1 - len(answer))
        cut += len(context) > room
        context = context[max(0, len(context) - room) :]
        examples += last_word_examples(family, context, answer, mask_token, tokenizer.special)
        answers.append(answer)
    if cut:
        what = f"{cut:,} of {len(rows):,} passages were too long for this model"
        note(f"{what}, which reads {positions} tokens: they lost their beginning")
    results, metrics, n = list(read_answers(model, examples)), {}, len(rows)
    predictions = [dict(record) for record in rows.values()]
    for number, reading in enumerate(READINGS):
        nats, right = [], []
        for (losses, best), answer, line in zip(results[number::2], answers, predictions, strict=True):
            predicted = best[-len(answer) :].tolist()
            nats.append(float(losses[-len(answer) :].sum(dtype=np.float64)))
            right.append(predicted == answer)
            line[f"predicted_{reading}"] = tokenizer.decode(predicted)
            line[f"correct_{reading}"] = right[-1]
            line[f"log_probability_{reading}"] = -nats[-1]
        share = sum(right) / n
        metrics[f"accuracy_{reading}"] = metric(share, standard_error(share, n), n, "passages")
        metrics[f"word_perplexity_{reading}"] = perplexity_metric(nats, np.ones(n), n, "passages")
    meaning = (
        "the share of passages whose last word is the model's first choice of its whole vocabulary; the "
        "perplexity is that of the word, all its tokens together"
    )
    report = dict(task="last_word", metrics=metrics, yardsticks={}, cut=cut, mask=mask)
    return report | dict(predictions=predictions, meaning=meaning)


def passage(tokenizer, record, most):
    """(tokens of the context, tokens of the answer, which are at most `most`) of a record."""
    context, word = text_in(record, "context"), text_in(record, "answer").strip()
    if not word:
        raise MinglmError("answer: it is empty; a word is needed")
    ids, answer = tokenizer.encode(context.rstrip()), tokenizer.encode(" " + word)
    if len(answer) > most:
        raise MinglmError(f"answer: {len(answer)} tokens; at most {most} are accepted")
    return ids, answer


def last_word_examples(family, context, answer, mask, special):
    """Yields two Examples of a passage: bidirectional and left to right."""
    for prompt in (context, context[:1]):
        part_a = [special.cls, *prompt, mask, special.eos]
        targets = [*context[len(prompt) :], *answer]
        yield answer_example(family, part_a, len(part_a) - 2, targets, special, "document", end=False)
