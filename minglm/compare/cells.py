"""One network trained as GLM, GPT, BERT, prefix LM and ablations of GLM: the paper's tables 1 and 6, small.

All are pretrained on the same text tokens in equally many steps, and then learn the same tasks in the same
way. A task's record is a text with one blank (tasks/), which each family reads in its own way (families.py).
The baselines are chance, the most frequent label, the same fine-tuning from random weights, and counting
words (rivals.py: TF-IDF with logistic regression, a dictionary).

A comparison consists of cells. A cell is one pretraining, or one use of a pretrained model; its result is a
line of cells.jsonl, together with everything it depends on. So a comparison can be interrupted at any time
and resumed, even on another machine, because cells.jsonl is all it needs. Only one process at a time may
write to a folder.
"""

import contextlib
import copy
import csv
import dataclasses
import hashlib
import io
import itertools
import json
import os
import shutil
import statistics
import time
from dataclasses import asdict
from pathlib import Path

import torch

from ..batch import pack
from ..data.corpus import cached_corpus
from ..data.documents import read_documents
from ..data.samples import TrainingBatches, sources
from ..data.tokenizer import Tokenizer
from ..errors import MinglmError, have, need, reason
from ..files import strict_json
from ..files.jsonl import read_rows
from ..files.text import text_chunks
from ..files.whole import write_whole
from ..machine import origin
from ..measure.evaluate import evaluate_infill
from ..measure.metrics import bleu, bleu_counts, bleu_of, jackknife, measure, standard_error
from ..measure.perplexity import evaluate_last_word, evaluate_text
from ..model import GLM
from ..model_config import useful_flop
from ..rng import stream_seed
from ..train.config import Finetuning
from ..train.finetune import LabelScorer, TextScorer, fit
from ..train.log import clock
from ..train.pretrain import pretrain
from ..use.cloze import predict
from ..use.models import read_model
from ..use.questions import ask_all
from ..use.rewrite import dials_of, generate
from ..use.tasks import Cloze, TextToText
from .blanks import everyday_blanks, score_blanks, story_blanks
from .plan import COUNTED, SIMPLE, TASKS, UNTRAINED
from .rivals import LinearHead, random_weights, tf_idf, word_for_word

VERSION = 2  # part of every cell's hash; raise it when a change would alter the results
# folders of data whose train parts are read
TEXTS_OF = ("austen", "scripture", "glosses", "sentiment", "topic", "paraphrase", "modernise")
# files of a folder of stories: simple ones, older and harder ones, and simple ones that no model reads
STORIES = ("train.txt.xz", "classics.train.txt.xz", "dev.txt.xz")
CHAPTERS = ("austen", "scripture")  # running text; in the other files, each line stands alone
COMMAND = "minglm compare"

# ---- the job ---------------------------------------------------------------------------------------------


class Comparison:
    """A folder: cells.jsonl (one result per line), texts/, models/ (the pretrained ones), log.txt."""

    def __init__(self, plan, data, out, stories=None):
        self.plan, self.data, self.out = plan, Path(data), Path(out)
        self.stories = stories and Path(stories)
        if not self.data.is_dir():
            what = f"{self.data} is no folder"
            raise MinglmError(f"--data: {what}; that of a clone, tutorials/data, is accepted")
        for name in sorted({*TEXTS_OF, *TASKS, "infill", "last_word"}):
            if not (self.data / name).is_dir():
                what = f"{self.data} has no folder {name}"
                raise MinglmError(f"--data: {what}; that of a clone, tutorials/data, has all of them")
        if stories:
            for name in STORIES:
                if not (self.stories / name).is_file():
                    what = f"{stories} has no file {name}"
                    raise MinglmError(f"--stories: {what}; minglm/box/ORIGIN.md says where to get it")
        self.file = self.out / "cells.jsonl"
        self.made = {}  # a cache: the last model, the results, the fingerprint of the text

    def texts(self):
        """The file to pretrain on, one document per line; written at the first call."""
        path = self.out / "texts" / "texts.jsonl"
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            texts = story_texts(self.stories, self.data) if self.stories else pretraining_texts(self.data)
            records = (dict(text=text) for text in texts)
            write_whole(path, "".join(json.dumps(x, ensure_ascii=False) + "\n" for x in records))
        return path

    def config_of(self, cell):
        """Everything that a cell's result depends on, as a dict."""
        plan = asdict(self.plan)
        for name in ("pretraining_seeds", "finetuning_seeds"):
            del plan[name]
        if cell.task is None:  # the use of models does not affect their pretraining
            use = ("learn", "choose", "report", "epochs", "reads", "lr")
            plan = {name: value for name, value in plan.items() if not name.startswith(use)}
        task = dict(task=TASKS[cell.task].to_toml()) if cell.task in TASKS else {}
        return dict(version=VERSION, cell=asdict(cell), plan=plan, text=self.fingerprint()) | task

    def fingerprint(self):
        """The SHA-256 of the pretraining text."""
        if "text" not in self.made:
            self.made["text"] = hashlib.sha256(self.texts().read_bytes()).hexdigest()
        return self.made["text"]

    def key_of(self, cell):
        return key_of(self.config_of(cell))

    def known(self, cell):
        """The result of a cell if it is done, else None."""
        size = self.file.stat().st_size if self.file.exists() else 0
        if self.made.get("results", (None,))[0] != size:  # the file grows, perhaps through another process
            lines = read_cells(self.file) if size else []
            self.made["results"] = size, {key_of(line["config"]): line["result"] for line in lines}
        return self.made["results"][1].get(self.key_of(cell))

    def run(self, wanted, minutes=None, say=print):
        """Compute the cells that are not done yet, in order; after `minutes`, no further cell is begun."""
        began, left = time.monotonic(), [cell for cell in wanted if self.known(cell) is None]
        if any(isinstance(TASKS.get(cell.task), TextToText) for cell in left):
            need("sacrebleu", "BLEU of text to text")  # check now: the work takes hours
        if any(cell.family == COUNTED for cell in left) and not have("sklearn", "what counting words gives"):
            left = [cell for cell in left if cell.family != COUNTED]
        for n, cell in enumerate(left):
            if minutes is not None and time.monotonic() - began > 60 * minutes:
                what = f"after {minutes:g} minutes; {len(left) - n:,} cells are left"
                say(f"stopped     {what}: the same command continues")
                return
            if self.known(cell) is not None:  # another process has done it meanwhile
                continue
            started = time.monotonic()
            silent = contextlib.redirect_stderr(io.StringIO()) if cell.task else contextlib.nullcontext()
            with self.log(), silent:
                result = self.pretrain(cell) if cell.task is None else self.use(cell)
            result["seconds"] = round(time.monotonic() - started, 1)
            add_cell(self.file, dict(config=self.config_of(cell), result=result, **origin()))
            say(f"{n + 1:>4}/{len(left)}   {cell}   {shown(result)}   {clock(result['seconds'])}")

    @contextlib.contextmanager
    def log(self):
        """A context in which stdout goes to out/log.txt."""
        log = open(self.out / "log.txt", "a", encoding="utf-8", errors="backslashreplace")
        with log, contextlib.redirect_stdout(log):
            yield

    # models

    def tokenizer(self):
        """The tokenizer of all models, trained at the first call."""
        folder = self.out / "texts" / f"tokenizer-{self.plan.vocab_size}"
        if not folder.exists():
            tokenizer = Tokenizer.train(read_documents(self.texts()), self.plan.vocab_size, progress=False)
            tokenizer.save_pretrained(folder)
        return Tokenizer.from_pretrained(folder)

    def folder_of(self, cell):
        """The run folder of the model that a cell uses."""
        return self.out / "models" / self.key_of(dataclasses.replace(cell, task=None, seed=0, head=False))

    def pretrain(self, cell):
        """Train one model; returns what it cost and its scores, as a dict."""
        folder = self.folder_of(cell)
        config = self.plan.pretraining(cell.family, cell.pretrained, self.texts())
        shutil.rmtree(folder, ignore_errors=True)  # what an interrupted run left
        tokenizer = self.tokenizer()
        torch.manual_seed(stream_seed(cell.pretrained, 0, 0, 0))
        model = GLM(dataclasses.replace(config.model, vocab_size=tokenizer.vocab_size))
        pretrain(config, folder, init=(model, tokenizer))
        with open(folder / "metrics.csv", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        report = json.loads((folder / "evaluation.json").read_text(encoding="utf-8"))
        return dict(
            text_tokens=sum(int(row["text_tokens"]) for row in rows),
            learned_tokens=sum(int(row["learned_tokens"]) for row in rows),
            training_seconds=round(sum(float(row["seconds"]) for row in rows), 1),
            loss=float(rows[-1]["loss"]),
            petaflop=self.flop(cell) / 1e15,
            held_out=report["objectives"],
        )

    def flop(self, cell, most=64):
        """Useful floating-point operations of a pretraining, extrapolated from up to `most` steps."""
        model, tokenizer = self.model(cell)
        config = self.plan.pretraining(cell.family, cell.pretrained, self.texts())
        corpus = cached_corpus([self.texts()], tokenizer, documents="line")
        source, _ = sources(corpus, tokenizer, config)
        batches = TrainingBatches(source, config.train.batch_tokens)
        steps = [[e for _, e in batches.examples(k)] for k in range(min(most, self.plan.steps))]
        return self.plan.steps * statistics.fmean(sum(useful_flop(model.config, pack(s))) for s in steps)

    def model(self, cell):
        """(GLM, Tokenizer) of a cell: the pretrained one, or random weights."""
        if cell.pretrained is not None:
            key = self.folder_of(cell)
            if not key.exists():  # pretrained on another machine, or deleted
                self.pretrain(dataclasses.replace(cell, task=None, seed=0, head=False))
            if self.made.get("model", (None,))[0] != key:
                self.made["model"] = key, read_model(key)
            return self.made["model"][1]
        tokenizer, config = self.tokenizer(), self.plan.pretraining(cell.family, 0, self.texts()).model
        config = dataclasses.replace(config, vocab_size=tokenizer.vocab_size)
        return random_weights(config, cell.seed), tokenizer

    # uses

    def use(self, cell):
        """One use of a model -> {"score", "standard_error", "n", "metric", ...}."""
        if cell.task in UNTRAINED:
            return self.untrained(cell.task, *self.model(cell))
        task, counts, plan = TASKS[cell.task], self.plan.rows(cell.task), self.plan
        # leaves room for what gpt and prefix write after the text; the same for all families
        limit = plan.reads if isinstance(task, Cloze) else plan.max_positions // 2
        train, dev = (list(self.rows(cell.task, side).items()) for side in ("train", "dev"))
        learn, choose = min(counts["learn"], len(train) - counts["choose"]), counts["choose"]
        parts = dict(learn=train[:learn], choose=train[learn : learn + choose], dev=dev[: counts["report"]])
        tokenizer = self.tokenizer()
        read = {name: ask_all(task, tokenizer, dict(part), limit, True) for name, part in parts.items()}
        if cell.family == COUNTED:
            return count_words(task, parts, read)
        model = copy.deepcopy(self.model(cell)[0])
        if isinstance(task, TextToText):
            scorer = TextScorer(model)
        elif cell.head:
            torch.manual_seed(stream_seed(cell.seed, 0, 0, 0))
            scorer = LinearHead(model, len(task.labels))
        else:
            scorer = LabelScorer(model, task.length_penalty)
        settings = Finetuning(epochs=plan.epochs, lr=plan.lr, patience=plan.epochs, dtype=plan.dtype)
        history = fit(scorer, read["learn"], read["choose"], settings, cell.seed, task, quiet)
        if isinstance(task, TextToText):
            written = generate(model, tokenizer, read["dev"], dials_of(task))
            gold = [record[task.target].strip() for _, record in parts["dev"]]
            copied = [record["src"] for _, record in parts["dev"]]
            return written_score(written, gold) | dict(
                copying=bleu(copied, gold)["bleu"],
                best_epoch=best(history, lambda h: -h["dev_loss"]),
                **scorer.judge(read["dev"]),
                example=dict(source=copied[0], ours=written[0], gold=gold[0]),
            )
        gold = [q.gold for q in read["dev"]]
        return labelled_score(predict(scorer, read["dev"]), read["dev"]) | dict(
            best_epoch=best(history, lambda h: h["accuracy"]),
            whole=read["dev"][0].whole,
            chance=100 * statistics.fmean(1 / len(q.labels) for q in read["dev"]),
            most_frequent=100 * max(map(gold.count, gold)) / len(gold) if task.labels else None,
        )

    def untrained(self, name, model, tokenizer):
        """A use without fine-tuning: blanks, the last word, or running text (the novels left to right)."""
        if name in ("text", "stories"):
            path, end, share, reading = self.data / "austen" / "dev.txt.xz", "\n\n", 50, "left_to_right"
            if name == "stories":
                path, end, share, reading = self.stories / STORIES[2], "\n", 10, "bidirectional"
            documents = [part for part in "".join(text_chunks(path)).split(end) if part.strip()]
            report = evaluate_text(model, tokenizer, documents[: max(1, self.plan.report // share)])
            result, kind, factor = report["metrics"][f"bits_per_byte_{reading}"], "bits per byte", 1
        elif name in SIMPLE:
            if name == "everyday":
                records = everyday_blanks(self.rows(name, "dev"))
            else:
                lines = "".join(text_chunks(self.stories / STORIES[2])).splitlines()
                records = story_blanks(lines, self.plan.report)
            return score_blanks(model, tokenizer, records, in_bits=name == "blank_bits")
        else:
            evaluation, metric = evaluate_infill, "exact_match"
            if name == "last_word":
                evaluation, metric = evaluate_last_word, "accuracy_left_to_right"
            records = dict(list(self.rows(name, "dev").items())[: self.plan.report])
            result, kind, factor = evaluation(model, tokenizer, records)["metrics"][metric], "exact", 100
        error = result["standard_error"]
        error = None if error is None else factor * error
        return dict(metric=kind, score=factor * result["value"], standard_error=error, n=result["n"])

    def rows(self, task, side):
        """The records of a task's "train" or "dev" file: {where: record}."""
        paths = sorted((self.data / task).glob(f"{side}.jsonl*"))
        return read_rows(paths[0] if paths else self.data / task / f"{side}.jsonl.xz")


def key_of(config):
    """A short hash of everything that a cell's result depends on."""
    return hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()[:16]


def read_cells(path):
    """The lines of cells.jsonl; incomplete lines, of a process that was killed, are skipped."""
    lines = []
    for text in path.read_text(encoding="utf-8", errors="replace").split("\n"):
        with contextlib.suppress(ValueError):
            lines.append(json.loads(text))
    return [line for line in lines if isinstance(line, dict) and {"config", "result"} <= line.keys()]


def add_cell(path, line):
    """Append a line in one write, so that processes that share the file do not mix their lines."""
    try:
        with open(path, "a+b", buffering=0) as file:
            if file.seek(0, os.SEEK_END):
                file.seek(-1, os.SEEK_END)
            torn = file.read(1) not in (b"", b"\n")  # the last line is incomplete
            file.write((b"\n" if torn else b"") + strict_json.dumps(line).encode() + b"\n")
    except OSError as error:
        raise MinglmError(f"{path}: cannot be written: {reason(error)}") from None


def count_words(task, parts, read):
    """The result of a task without a network, from a dictionary or TF-IDF.

    parts: {"learn", "choose", "dev"}: [(where, record)]. read: the same as Questions or Pairs.
    """
    learn, choose, dev = ([record for _, record in parts[name]] for name in ("learn", "choose", "dev"))
    if isinstance(task, TextToText):
        pairs = [(record["src"], record["tgt"]) for record in learn]
        written = word_for_word(pairs, [record["src"] for record in dev])
        return written_score(written, [record[task.target].strip() for record in dev])
    labels = tf_idf(task, learn, read["learn"], choose, read["choose"], dev)
    return labelled_score(labels, read["dev"])


def labelled_score(predictions, questions):
    """The accuracy in percent as a cell's result. predictions: probabilities or label indices."""
    share, n = measure(predictions, questions)["accuracy"], len(questions)
    return dict(metric="accuracy", n=n, score=100 * share, standard_error=100 * standard_error(share, n))


def written_score(written, gold):
    """BLEU as a cell's result."""
    counts = bleu_counts(written, gold)
    score, error = jackknife(lambda rows: bleu_of(counts[rows]), len(gold))
    return dict(metric="BLEU", n=len(gold), score=score, standard_error=error)


def quiet(_):
    pass


def best(history, value):
    return max(history, key=value)["epoch"]


def pretraining_texts(data):
    """Yields all documents: chapters in pieces, definitions, and the texts of tasks without their labels."""
    for name in TEXTS_OF:
        [path] = sorted((data / name).glob("train.*"))[:1]
        if path.name.startswith("train.jsonl"):
            for record in read_rows(path).values():
                yield " ".join(record[key] for key in ("text", "a", "b", "src") if key in record)
        else:
            text = "".join(text_chunks(path))
            yield from pieces(text) if name in CHAPTERS else filter(None, text.split("\n"))


def story_texts(stories, data, classics=5, others=4):
    """Yields all stories, every `classics`-th older one, and every `others`-th document of `data`."""
    for name, every in zip(STORIES, (1, classics), strict=False):
        yield from filter(None, "".join(text_chunks(stories / name)).split("\n")[::every])
    yield from itertools.islice(pretraining_texts(data), 0, None, others)


def pieces(text, words=90):
    """Chapters (separated by empty lines, one paragraph per line) as short and long documents.

    Every other page of about 90 words is split into its paragraphs.
    """
    whole = True
    for chapter in text.split("\n\n"):
        page = []
        for paragraph in filter(str.strip, chapter.split("\n")):
            page.append(paragraph.strip())
            if len(" ".join(page).split()) >= words:
                yield from ["\n".join(page)] if whole else page
                page, whole = [], not whole
        yield from page


def shown(result):
    """A cell's result in one line."""
    if "score" in result:
        error = f" +- {result['standard_error']:.1f}" if result["standard_error"] is not None else ""
        return f"{result['metric']} {result['score']:.2f}{error}"
    return f"loss {result['loss']:.3f}, {result['petaflop']:.3f} PFLOP"
