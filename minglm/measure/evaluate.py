"""Evaluation of a model on a task, each number with its standard error.

    text            bits per byte and perplexity of running text, by sliding windows (perplexity.py)
    last_word       is the last word of a passage the model's first choice? (perplexity.py)
    infill          the blanks of a text: restored exactly, and BLEU of the whole text
    everyday        is the filling of a blank one that a person would accept?
    sentiment ...   a classification task (cloze.py): accuracy and macro F1
    modernise ...   a text-to-text task (rewrite.py): BLEU, chrF, ROUGE

Each is a function that returns a dict: task, metrics {name: {value, standard_error, n, of}}, yardsticks
{name: value} to compare them with, meaning (a sentence), and predictions, one dict per record.
"""

import math
import reprlib

import numpy as np
import torch
from tqdm import tqdm

from ..batch import columns, in_runs, pack
from ..checks import check_pair, finite
from ..errors import MinglmError, have, missing, note
from ..families import all_part_a, text_limit
from ..files.jsonl import text_in, told_where
from ..modules import device_of, evaluating
from ..use.cloze import BATCH_ROWS, ClozeScorer, predict
from ..use.drafts import Dials, Draft, fill_drafts
from ..use.questions import ask_all
from ..use.tasks import BLANK
from .metrics import GROUPS, bleu_counts, bleu_of, jackknife, mean_of, measure, metric, standard_error

# ---- the blanks of a text ---------------------------------------------------------------------------------


def evaluate_infill(model, tokenizer, rows):
    """Exact matches of restored blanks, and BLEU of the restored texts; also by `ratio` if records have one.

    rows: {where a record comes from: {"text" with [BLANK]s, "blanks": [words of each], "ratio": share of the
    words that is blanked}}. Blanks are filled by greedy decoding, left to right, each seeing the answers
    before it. White space does not matter for an exact match. BLEU is of the whole text, as the original
    scores its Yahoo answers, so the given words count too; the yardstick is BLEU of the texts without their
    blanks. Texts longer than the model reads are split into equal pieces. Raises MinglmError for other
    records.
    """
    check_pair(model, tokenizer)
    special, room, texts = tokenizer.special, model.config.max_positions - 2, []
    if room < 1:
        raise MinglmError(f"max_positions: {room + 2} is too few for a text with a blank; 3 are needed")
    for where, record in rows.items():
        with told_where(where):
            texts.append(with_blanks(tokenizer, record))
    have("sacrebleu", "BLEU")
    masked, is_bert = [ids for ids, *_ in texts], model.config.family == "bert"
    if is_bert:
        note("a model trained as bert cannot choose the length of an answer: it gets one mask per token")
        masked = [with_a_mask_for_each_token(tokenizer, ids, blanks) for ids, blanks, *_ in texts]
    pieces = [in_pieces(ids, room) for ids in masked]
    if split := sum(len(p) > 1 for p in pieces):
        what = f"{split:,} of {len(texts):,} texts were too long for this model"
        note(f"{what}, which reads {room + 2} tokens: they were read in pieces")
    with_masks = [piece for text in pieces for piece in text if special.mask in piece]
    answers = iter((likeliest_words if is_bert else written)(model, tokenizer, with_masks))
    predictions, right = [], []
    for record, (ids, blanks, *_), text in zip(rows.values(), texts, pieces, strict=True):
        fillings = [answer for piece in text if special.mask in piece for answer in next(answers)]
        if is_bert:  # adjacent masks are one blank
            words = iter(fillings)
            lens = [len(answer) for answer in answers_of(tokenizer, blanks)]
            fillings = [[token for _ in range(n) for token in next(words)] for n in lens]
        filled, todo = [tokenizer.decode(filling) for filling in fillings], iter(fillings)
        restored = [t for token in ids for t in (next(todo) if token == special.mask else [token])]
        predictions.append({**record, "filled": filled, "restored": tokenizer.decode(restored)})
        right.append(sum(a.split() == b.split() for a, b in zip(filled, blanks, strict=True)))
    return infill_report(predictions, right, [whole for *_, whole, _ in texts], [bare for *_, bare in texts])


def with_blanks(tokenizer, record):
    """(ids with a mask per [BLANK], the words of the blanks, the whole text, the text without its blanks)."""
    pieces, blanks, ratio = text_in(record, "text").split(BLANK), record.get("blanks"), record.get("ratio")
    if not isinstance(blanks, list) or not all(isinstance(x, str) and x.strip() for x in blanks):
        what = f"{reprlib.repr(blanks)} is not accepted"
        raise MinglmError(f"blanks: {what}; a list with the words of each {BLANK} is")
    if len(pieces) != len(blanks) + 1 or not blanks:
        what = f"{len(blanks)} for {len(pieces) - 1} times {BLANK} in text"
        raise MinglmError(f"blanks: {what}; one for each is needed")
    if ratio is not None and not (type(ratio) in (int, float) and 0 < ratio <= 1):
        raise MinglmError(f"ratio: {reprlib.repr(ratio)} is not accepted; a number above 0, at most 1 is")
    ids = []
    for piece in pieces[:-1]:  # a mask absorbs the space before it; records are text, even "[MASK]" in them
        ids += [*tokenizer.encode(piece.rstrip()), tokenizer.special.mask]
    ids += tokenizer.encode(pieces[-1])
    whole = "".join(x for pair in zip(pieces, [*blanks, ""], strict=True) for x in pair)
    tokenizer.encode(whole)  # refuses lone surrogates, in the blanks too
    return ids, blanks, whole, "".join(pieces)


def written(model, tokenizer, pieces):
    """The fillings of the blanks of each piece, by greedy decoding: [[tokens of a blank]]."""
    drafts = [Draft(model, tokenizer, piece, Dials()) for piece in pieces]
    with tqdm(total=len(drafts), disable=None, unit="text", leave=False, dynamic_ncols=True) as bar:
        for run in in_runs(drafts, lambda draft: len(draft.part_a) + draft.room(), BATCH_ROWS):
            fill_drafts(model, run, Dials())
            bar.update(len(run))
    return [[gap.tokens for gap in draft.blanks] for draft in drafts]


def answers_of(tokenizer, blanks):
    """The tokens of the words of blanks, with the space before them that a mask absorbs."""
    return [tokenizer.encode(" " + words.strip()) for words in blanks]


def with_a_mask_for_each_token(tokenizer, ids, blanks):
    """The ids of a text with as many masks in each blank as its answer has tokens."""
    lens = iter([len(answer) for answer in answers_of(tokenizer, blanks)])
    mask = tokenizer.special.mask
    return [x for token in ids for x in ([mask] * next(lens) if token == mask else [token])]


@torch.inference_mode()
def likeliest_words(model, tokenizer, pieces):
    """The likeliest token of each mask of each piece, all at once, as BERT predicts: [[[token]]]."""
    special, tokens, model = tokenizer.special, [], evaluating(model)
    no_text = torch.from_numpy(tokenizer.byte_lengths() == 0)
    for run in in_runs(pieces, len, BATCH_ROWS):
        rows = [[special.cls, *piece, special.eos] for piece in run]
        masks = [[i for i, token in enumerate(row) if token == special.mask] for row in rows]
        targets = [[special.mask] * len(at) for at in masks]  # they are not used
        examples = [all_part_a(*parts, special) for parts in zip(rows, masks, targets, strict=True)]
        batch = pack(examples).to(device_of(model))
        logits = finite(model(*columns(batch), rows=batch.target_rows).cpu())
        likeliest = iter(logits.masked_fill(no_text, -math.inf).argmax(-1).tolist())
        tokens += [[[next(likeliest)] for _ in at] for at in masks]
    return tokens


def in_pieces(ids, room):
    """The ids in the fewest pieces of at most `room`, all about equally long."""
    n = -(-len(ids) // room)
    return [ids[len(ids) * i // n : len(ids) * (i + 1) // n] for i in range(n)]


def infill_report(predictions, right, wholes, bare):
    """The report of `evaluate_infill`.

    right: how many blanks of each text are exact. wholes, bare: the original texts, with and without the
    words of their blanks.
    """
    blanks, metrics, yardsticks, has_bleu = [len(line["blanks"]) for line in predictions], {}, {}, False
    if not missing("sacrebleu"):
        has_bleu, counts_bare = True, bleu_counts(bare, wholes)
        counts = bleu_counts([line["restored"] for line in predictions], wholes)
    ratios = [line.get("ratio") for line in predictions]
    parts = {"": np.arange(len(ratios))}
    for ratio in sorted({ratio for ratio in ratios if ratio is not None}):
        parts[f"_at_{100 * ratio:g}%"] = np.array([i for i, other in enumerate(ratios) if other == ratio])
    if len(parts) == 2:  # a single ratio is the same as all
        parts = {"": parts[""]}
    for name, part in parts.items():
        n, exact = sum(blanks[i] for i in part), mean_of(np.array(right)[part], np.array(blanks)[part])
        metrics[f"exact_match{name}"] = metric(*jackknife(exact, len(part)), n, "blanks")
        if has_bleu:
            value = jackknife(lambda rows, counts=counts[part]: bleu_of(counts[rows]), len(part))
            metrics[f"bleu{name}"] = metric(*value, len(part), "texts")
            yardsticks[f"bleu{name}_of_blanks_left_out"] = bleu_of(counts_bare[part])
    metrics = dict(sorted(metrics.items(), key=lambda item: item[0].startswith("bleu")))
    meaning = (
        "exact match counts blanks; BLEU (sacrebleu, 13a) is of whole texts, including the given words, so "
        "compare it with BLEU of the texts without their blanks"
    )
    return report_of("infill", metrics, yardsticks, predictions, meaning)


def report_of(task, metrics, yardsticks, predictions, meaning):
    """The dict that every evaluation returns (see the top of this module)."""
    return dict(task=task, metrics=metrics, yardsticks=yardsticks, predictions=predictions, meaning=meaning)


# ---- what a person would accept --------------------------------------------------------------------------


def evaluate_everyday(model, tokenizer, rows):
    """The share of texts with an accepted greedy filling, and with one among the five likeliest fillings.

    rows: {where a record comes from: {"text" with one [MASK], "accept": [answers that a person would
    accept]}}. Case, outer spaces and final punctuation do not matter. Raises MinglmError for other records,
    and for texts too long for the model.
    """
    greedy, five, accepted, special = [], [], [], tokenizer.special
    for where, record in rows.items():
        with told_where(where):
            accepted.append(accepted_answers(record))
            ids = tokenizer.encode(text_in(record, "text"), special=True)
            if [token for token in ids if token in special.masks] != [special.mask]:
                what = f"{reprlib.repr(record['text'])} is not accepted"
                raise MinglmError(f"text: {what}; a text with one [MASK] is")
            greedy.append(Draft(model, tokenizer, ids, Dials()))
            five.append(Draft(model, tokenizer, ids, Dials(top=5)))
    fill_drafts(model, greedy, Dials())
    predictions, bar = [], tqdm(five, disable=None, unit="text", leave=False)
    for record, one, several in zip(rows.values(), greedy, bar, strict=True):
        fill_drafts(model, [several], Dials(top=5))
        likeliest = [tokenizer.decode(tokens).strip() for tokens, *_ in several.blanks[0].found]
        filled = tokenizer.decode(one.blanks[0].tokens).strip()
        predictions.append({**record, "filled": filled, "likeliest": likeliest})
    right = []
    for line, answers in zip(predictions, accepted, strict=True):
        in_five = not answers.isdisjoint(map(as_answer, line["likeliest"]))
        right.append([as_answer(line["filled"]) in answers, in_five])
    n, metrics = len(right), {}
    for name, column in zip(("accuracy", "accuracy_in_five"), zip(*right, strict=True), strict=True):
        metrics[name] = metric(sum(column) / n, standard_error(sum(column) / n, n), n, "texts")
    meaning = (
        "the share of texts whose blank is filled as a person would accept it: by greedy decoding, and by "
        "one of the five likeliest fillings"
    )
    return report_of("everyday", metrics, {}, predictions, meaning)


def accepted_answers(record):
    """The set of a record's accepted answers, normalised by `as_answer`."""
    answers = record.get("accept")
    texts = answers if isinstance(answers, list) and answers else [None]
    if not all(isinstance(x, str) and as_answer(x) for x in texts):
        raise MinglmError(f"accept: {reprlib.repr(answers)} is not accepted; a list of answers is")
    return set(map(as_answer, answers))


def as_answer(text):
    """An answer in lower case without outer spaces and final punctuation: " The door. " -> "the door"."""
    return text.strip().rstrip(".!?,;:。！？，；：").rstrip().lower()


# ---- tasks with a pattern --------------------------------------------------------------------------------


def evaluate_cloze(model, tokenizer, task, rows):
    """Accuracy and macro F1 of a classification task; the yardsticks are chance and the most frequent label.

    task: a Cloze. rows: {where a record comes from: record}. Raises MinglmError as `ask_all` does.
    """
    check_pair(model, tokenizer)
    questions = ask_all(task, tokenizer, rows, text_limit(model.config), labelled=True)
    probabilities = predict(ClozeScorer(model, task.length_penalty), questions)
    scores, n = measure(probabilities, questions), len(questions)
    metrics = {"accuracy": metric(scores["accuracy"], standard_error(scores["accuracy"], n), n, "texts")}
    if scores["macro_f1"] is not None:

        def macro_f1(part):
            return measure([probabilities[i] for i in part], [questions[i] for i in part])["macro_f1"]

        metrics["macro_f1"] = metric(*jackknife(macro_f1, n), n, "texts")
    yardsticks = {"accuracy_of_chance": sum(1 / len(q.labels) for q in questions) / n}
    if task.labels:
        most = int(np.bincount([q.gold for q in questions]).max())
        yardsticks["accuracy_of_most_frequent_label"] = most / n
    predictions = []
    for record, q, p in zip(rows.values(), questions, probabilities, strict=True):
        by_label = dict(zip(q.labels, p.tolist(), strict=True))
        predictions.append({**record, "predicted": q.labels[int(p.argmax())], "probabilities": by_label})
    meaning = f"the share of texts that get the right label; {task.how_scored(tokenizer)}"
    return report_of(task.name, metrics, yardsticks, predictions, meaning)


def evaluate_text_to_text(model, tokenizer, task, rows):
    """BLEU, chrF, ROUGE and exact matches of a model's answers; the yardstick is copying the source.

    task: a TextToText. rows: {where a record comes from: record with the task's columns and its target}.
    Raises MinglmError as `ask_all` does.
    """
    from ..use.rewrite import dials_of, generate
    from .metrics import compare, tell_what_is_left_out

    pairs = ask_all(task, tokenizer, rows, text_limit(model.config, True), labelled=True)
    tell_what_is_left_out()
    written = generate(model, tokenizer, pairs, dials_of(task))
    gold, n = [row[task.target] for row in rows.values()], len(rows)
    copies = [" ".join(row[column] for column in task.columns) for row in rows.values()]

    def scores(texts, part):
        values = compare([texts[i] for i in part], [gold[i] for i in part])
        values["exact_match"] = values.pop("exact") / 100  # a share, as in the other evaluations
        return {name: value for name, value in values.items() if value is not None}

    # `jackknife` of six numbers at once, with half as many groups, because ROUGE is slow
    everything, without, metrics = np.arange(n), [], {}
    groups = np.array_split(everything, min(n, GROUPS // 2))
    for group in groups if len(groups) > 1 else []:
        without.append(scores(written, np.setdiff1d(everything, group)))
    for name, value in scores(written, everything).items():
        error = math.sqrt((len(groups) - 1) * float(np.var([w[name] for w in without]))) if without else None
        metrics[name] = metric(value, error, n, "texts")
    yardsticks = {f"{name}_of_copying": value for name, value in scores(copies, everything).items()}
    predictions = [{**row, "written": text} for row, text in zip(rows.values(), written, strict=True)]
    meaning = "BLEU, chrF and ROUGE from 0 to 100 against each record's target; copying: the source unchanged"
    return report_of(task.name, metrics, yardsticks, predictions, meaning)
