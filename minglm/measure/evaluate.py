"""One scorer for everything: what a model is worth on a task, each number with its standard error.

    text            bits per byte and perplexity of running text, by sliding windows (perplexity.py)
    last_word       is the last word of a passage the model's first choice? (perplexity.py)
    infill          the blanks of a text: restored exactly, and BLEU of the whole text
    everyday        is the filling of a blank one that a person would accept?
    sentiment ...   a task of classification (cloze.py): accuracy and macro F1
    modernise ...   a task of text to text (seq2seq.py): BLEU, chrF, ROUGE

Each is a function that returns a dict: task, metrics {name: value, standard_error, n, of}, yardsticks {name:
value} to hold them against, meaning (a sentence), and predictions, a line for each row.
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
    """How many blanks come back exactly, and BLEU of the restored texts; by `ratio` too where rows have one.

    rows: {where it stands: {"text" with [BLANK]s, "blanks": [words of each], "ratio": share of the words that
    is blanked}}. Blanks are filled greedily, left to right, each seeing the answers before it. Exact means
    the same but for white space. BLEU is of the whole text, as the original scores its Yahoo answers, so what
    was given counts too: the same texts with their blanks left out are the yardstick. A text that is longer
    than the model reads is read in equal pieces. Raises MinglmError for rows that are no such texts.
    """
    check_pair(model, tokenizer)
    special, room, read = tokenizer.special, model.config.max_positions - 2, []
    if room < 1:
        raise MinglmError(f"max_positions: {room + 2} is too few for a text with a blank; 3 are needed")
    for where, row in rows.items():
        with told_where(where):
            read.append(with_blanks(tokenizer, row))
    have("sacrebleu", "BLEU")
    told = model.config.family == "bert"
    if told:
        note(
            "a model that was trained as bert cannot say how long an answer is: it was told, a mask for each token"
        )
        texts = [with_a_mask_for_each_token(tokenizer, ids, blanks) for ids, blanks, *_ in read]
    else:
        texts = [ids for ids, *_ in read]
    pieces = [in_pieces(ids, room) for ids in texts]
    if split := sum(len(p) > 1 for p in pieces):
        note(
            f"{split:,} of {len(read):,} texts were too long for this model, which reads {room + 2} tokens: they were read in "
            "pieces"
        )
    asked = [piece for text in pieces for piece in text if special.mask in piece]
    answers = iter((likeliest_words if told else written)(model, tokenizer, asked))
    predictions, right = [], []
    for row, (ids, blanks, *_), text in zip(rows.values(), read, pieces, strict=True):
        said = [answer for piece in text if special.mask in piece for answer in next(answers)]
        if told:  # masks that stand together are one blank
            lens = iter([len(answer) for answer in answers_of(tokenizer, blanks)])
            words = iter(said)
            said = [[token for _ in range(n) for token in next(words)] for n in lens]
        said, restored = iter(said), []
        filled = []
        for token in ids:
            answer = next(said) if token == special.mask else [token]
            filled += [tokenizer.decode(answer)] if token == special.mask else []
            restored += answer
        predictions.append({**row, "filled": filled, "restored": tokenizer.decode(restored)})
        right.append(sum(a.split() == b.split() for a, b in zip(filled, blanks, strict=True)))
    return infill_report(predictions, right, [whole for *_, whole, _ in read], [bare for *_, bare in read])


def with_blanks(tokenizer, row):
    """A row as (ids with a mask for each [BLANK], the words of its blanks, the whole text, the text without its blanks)."""
    pieces, blanks, ratio = text_in(row, "text").split(BLANK), row.get("blanks"), row.get("ratio")
    if not isinstance(blanks, list) or not all(isinstance(x, str) and x.strip() for x in blanks):
        raise MinglmError(
            f"blanks: {reprlib.repr(blanks)} is not accepted; a list with the words of each {BLANK} is"
        )
    if len(pieces) != len(blanks) + 1 or not blanks:
        raise MinglmError(
            f"blanks: {len(blanks)} for {len(pieces) - 1} times {BLANK} in text; one for each is needed"
        )
    if ratio is not None and not (type(ratio) in (int, float) and 0 < ratio <= 1):
        raise MinglmError(f"ratio: {reprlib.repr(ratio)} is not accepted; a number above 0, at most 1 is")
    ids = []
    for piece in pieces[
        :-1
    ]:  # a mask takes the white space on its left; what a row says is text, even "[MASK]"
        ids += [*tokenizer.encode(piece.rstrip()), tokenizer.special.mask]
    ids += tokenizer.encode(pieces[-1])
    whole = "".join(x for pair in zip(pieces, [*blanks, ""], strict=True) for x in pair)
    tokenizer.encode(whole)  # refuses half a character, in the blanks too
    return ids, blanks, whole, "".join(pieces)


def written(model, tokenizer, pieces):
    """What a model writes in the blanks of each piece, greedily: [[tokens of a blank]]."""
    drafts = [Draft(model, tokenizer, piece, Dials()) for piece in pieces]
    with tqdm(total=len(drafts), disable=None, unit="text", leave=False, dynamic_ncols=True) as bar:
        for run in in_runs(drafts, lambda draft: len(draft.part_a) + draft.room(), BATCH_ROWS):
            fill_drafts(model, run, Dials())
            bar.update(len(run))
    return [[gap.tokens for gap in draft.blanks] for draft in drafts]


def answers_of(tokenizer, blanks):
    """The tokens of the words of blanks, with the white space before them that a mask takes."""
    return [tokenizer.encode(" " + words.strip()) for words in blanks]


def with_a_mask_for_each_token(tokenizer, ids, blanks):
    """The ids of a text with as many masks in each blank as its answer has tokens."""
    lens = iter([len(answer) for answer in answers_of(tokenizer, blanks)])
    mask = tokenizer.special.mask
    return [x for token in ids for x in ([mask] * next(lens) if token == mask else [token])]


@torch.inference_mode()
def likeliest_words(model, tokenizer, pieces):
    """The likeliest word under each mask of each piece, all at once, as BERT says it: [[one token of a mask]]."""
    special, found, model = tokenizer.special, [], evaluating(model)
    no_text = torch.from_numpy(tokenizer.byte_lengths() == 0)
    for run in in_runs(pieces, len, BATCH_ROWS):
        rows = [[special.cls, *piece, special.eos] for piece in run]
        masks = [[i for i, token in enumerate(row) if token == special.mask] for row in rows]
        unknown = [
            [special.mask] * len(at) for at in masks
        ]  # what the rows are to say does not matter: they are asked
        batch = pack([all_part_a(*parts, special) for parts in zip(rows, masks, unknown, strict=True)]).to(
            device_of(model)
        )
        logits = finite(model(*columns(batch), rows=batch.target_rows).cpu())
        words = iter(logits.masked_fill(no_text, -math.inf).argmax(-1).tolist())
        found += [[[next(words)] for _ in at] for at in masks]
    return found


def in_pieces(ids, room):
    """Ids in the fewest pieces of at most `room`, all about equally long."""
    n = -(-len(ids) // room)
    return [ids[len(ids) * i // n : len(ids) * (i + 1) // n] for i in range(n)]


def infill_report(predictions, right, wholes, bare):
    """The report of `evaluate_infill` from its lines, the blanks that are right in each, the true texts, and the bare ones."""
    blanks, metrics, yardsticks = [len(line["blanks"]) for line in predictions], {}, {}
    scored = None if missing("sacrebleu") else bleu_counts([line["restored"] for line in predictions], wholes)
    scored_bare = None if scored is None else bleu_counts(bare, wholes)
    ratios = [line.get("ratio") for line in predictions]
    parts = {"": np.arange(len(ratios))}
    for ratio in sorted({ratio for ratio in ratios if ratio is not None}):
        parts[f"_at_{100 * ratio:g}%"] = np.array([i for i, other in enumerate(ratios) if other == ratio])
    for name, part in parts.items() if len(parts) != 2 else [("", parts[""])]:  # one ratio is the whole
        n, exact = sum(blanks[i] for i in part), mean_of(np.array(right)[part], np.array(blanks)[part])
        metrics[f"exact_match{name}"] = metric(*jackknife(exact, len(part)), n, "blanks")
        if scored is not None:
            found = jackknife(lambda rows, counts=scored[part]: bleu_of(counts[rows]), len(part))
            metrics[f"bleu{name}"] = metric(*found, len(part), "texts")
            yardsticks[f"bleu{name}_of_blanks_left_out"] = bleu_of(scored_bare[part])
    metrics = dict(sorted(metrics.items(), key=lambda item: item[0].startswith("bleu")))
    return dict(
        task="infill",
        metrics=metrics,
        yardsticks=yardsticks,
        predictions=predictions,
        meaning="exact match is of blanks; BLEU (sacrebleu, 13a) is of whole texts, what was given counts, so compare it with "
        "that of the texts whose blanks are left out",
    )


# ---- what a person would accept --------------------------------------------------------------------------


def evaluate_everyday(model, tokenizer, rows):
    """Share of texts whose greedy filling is accepted, and share with an accepted one among the five likeliest whole fillings.

    rows: {where it stands: {"text" with one [MASK], "accept": [answers that a person would accept]}}. Case,
    outer spaces and final punctuation do not count. Raises MinglmError for rows that are no such texts, or
    too long for the model.
    """
    greedy, five, accepted = [], [], []
    for where, row in rows.items():
        with told_where(where):
            accepted.append(accepted_answers(row))
            ids = tokenizer.encode(text_in(row, "text"), special=True)
            if (
                sum(token in tokenizer.special.masks for token in ids) != 1
                or tokenizer.special.mask not in ids
            ):
                raise MinglmError(
                    f"text: {reprlib.repr(row['text'])} is not accepted; a text with one [MASK] is"
                )
            for drafts, dials in ((greedy, Dials()), (five, Dials(top=5))):
                drafts.append(Draft(model, tokenizer, ids, dials))
    fill_drafts(model, greedy, Dials())
    predictions = []
    for row, one, several in zip(
        rows.values(), greedy, tqdm(five, disable=None, unit="text", leave=False), strict=True
    ):
        fill_drafts(model, [several], Dials(top=5))
        likeliest = [tokenizer.decode(tokens).strip() for tokens, *_ in several.blanks[0].found]
        predictions.append(
            {**row, "filled": tokenizer.decode(one.blanks[0].tokens).strip(), "likeliest": likeliest}
        )
    right = [
        [as_answer(line["filled"]) in known, not known.isdisjoint(map(as_answer, line["likeliest"]))]
        for line, known in zip(predictions, accepted, strict=True)
    ]
    n, shares = len(right), [sum(column) / len(right) for column in zip(*right, strict=True)]
    metrics = {
        name: metric(share, standard_error(share, n), n, "texts")
        for name, share in zip(("accuracy", "accuracy_in_five"), shares, strict=True)
    }
    return dict(
        task="everyday",
        metrics=metrics,
        yardsticks={},
        predictions=predictions,
        meaning="the share of texts whose blank is filled as a person would accept it: greedily, and by one of the "
        "five likeliest whole fillings",
    )


def accepted_answers(row):
    """The set of a row's accepted answers, as `as_answer` has them."""
    answers = row.get("accept")
    if (
        not isinstance(answers, list)
        or not answers
        or not all(isinstance(x, str) and as_answer(x) for x in answers)
    ):
        raise MinglmError(f"accept: {reprlib.repr(answers)} is not accepted; a list of answers is")
    return set(map(as_answer, answers))


def as_answer(text):
    """An answer without case, outer spaces and final punctuation.  Example: " The door. " -> "the door"."""
    return text.strip().rstrip(".!?,;:").rstrip().lower()


# ---- tasks with a pattern --------------------------------------------------------------------------------


def evaluate_cloze(model, tokenizer, task, rows):
    """Accuracy and macro F1 of a task of classification on labelled rows, beside chance and the most frequent label.

    task: a Cloze. rows: {where it stands: row}. Raises MinglmError as `ask_all` does.
    """
    check_pair(model, tokenizer)
    questions = ask_all(task, tokenizer, rows, text_limit(model.config), labelled=True)
    found = predict(ClozeScorer(model, task.length_penalty), questions)
    scores, n = measure(found, questions), len(questions)
    metrics = {"accuracy": metric(scores["accuracy"], standard_error(scores["accuracy"], n), n, "texts")}
    if scores["macro_f1"] is not None:

        def macro_f1(kept):
            return measure([found[i] for i in kept], [questions[i] for i in kept])["macro_f1"]

        metrics["macro_f1"] = metric(*jackknife(macro_f1, n), n, "texts")
    yardsticks = {"accuracy_of_chance": sum(1 / len(q.labels) for q in questions) / n}
    if task.labels:
        yardsticks["accuracy_of_most_frequent_label"] = (
            int(np.bincount([q.gold for q in questions]).max()) / n
        )
    predictions = [
        {
            **row,
            "predicted": q.labels[int(p.argmax())],
            "probabilities": dict(zip(q.labels, p.tolist(), strict=True)),
        }
        for row, q, p in zip(rows.values(), questions, found, strict=True)
    ]
    return dict(
        task=task.name,
        metrics=metrics,
        yardsticks=yardsticks,
        predictions=predictions,
        meaning=f"the share of texts that get their label; {task.how_scored(tokenizer)}",
    )


def evaluate_text_to_text(model, tokenizer, task, rows):
    """BLEU, chrF, ROUGE and exact matches of what a model writes for each row, beside those of the source itself.

    task: a TextToText. rows: {where it stands: row with the task's columns and its target}. Raises
    MinglmError as `ask_all`.
    """
    from ..use.rewrite import dials_of, generate
    from .metrics import compare, tell_what_is_left_out

    pairs = ask_all(task, tokenizer, rows, text_limit(model.config, True), labelled=True)
    tell_what_is_left_out()
    written = generate(model, tokenizer, pairs, dials_of(task))
    gold, n = [row[task.target] for row in rows.values()], len(rows)
    copies = [" ".join(row[column] for column in task.columns) for row in rows.values()]

    def scores(said, kept):
        found = compare([said[i] for i in kept], [gold[i] for i in kept])
        found["exact_match"] = found.pop("exact") / 100  # a share, as everywhere here
        return {name: value for name, value in found.items() if value is not None}

    all_rows, without = (
        np.arange(n),
        [],
    )  # `jackknife` of six numbers at once, in half as many groups: ROUGE is slow
    groups = np.array_split(all_rows, min(n, GROUPS // 2))
    for group in groups if len(groups) > 1 else []:
        without.append(scores(written, np.setdiff1d(all_rows, group)))
    metrics = {}
    for name, value in scores(written, all_rows).items():
        spread = math.sqrt((len(groups) - 1) * float(np.var([w[name] for w in without]))) if without else None
        metrics[name] = metric(value, spread, n, "texts")
    return dict(
        task=task.name,
        metrics=metrics,
        yardsticks={f"{name}_of_copying": value for name, value in scores(copies, all_rows).items()},
        predictions=[{**row, "written": text} for row, text in zip(rows.values(), written, strict=True)],
        meaning="BLEU, chrF and ROUGE from 0 to 100 against each row's target; copying is the source as it stands",
    )
