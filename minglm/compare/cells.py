"""One model, three rivals: the same network trained as GLM, GPT, BERT and prefix LM, and GLM without this and that.

The small-scale version of the paper's tables 1 and 6. All are pretrained on the same text tokens in as many
steps, then each learns the same tasks in the same way; a task's row is a text with one blank (tasks/), which
each family reads as it can (layout.py). Beside every score stand chance, the most frequent label, the same
learning from random weights, and what comes of counting words (rivals.py: TF-IDF with logistic regression, a
dictionary).

A comparison is many cells. A cell is one pretraining, or one use of a pretrained model; its result is a line
of cells.jsonl, with all that decides it. So a comparison may be interrupted at any time, and goes on where it
was; on another machine too, for cells.jsonl is all it needs. One process at a time writes to a folder.
"""

import contextlib
import copy
import csv
import dataclasses
import hashlib
import io
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
from .plan import COUNTED, TASKS, UNTRAINED
from .rivals import LinearHead, random_weights, tf_idf, word_for_word

VERSION = 2  # part of every cell's hash; goes up when a cell would come out otherwise
TEXTS_OF = (
    "austen",
    "scripture",
    "glosses",
    "sentiment",
    "topic",
    "paraphrase",
    "modernise",
)  # their train sides are read
CHAPTERS = (
    "austen",
    "scripture",
)  # running text; the lines of the others have nothing to do with one another
COMMAND = "minglm compare"

# ---- the job ---------------------------------------------------------------------------------------------


class Comparison:
    """A folder: cells.jsonl (a result a line), texts/, models/ (the pretrained ones), log.txt."""

    def __init__(self, plan, data, out):
        self.plan, self.data, self.out = plan, Path(data), Path(out)
        if not self.data.is_dir():
            raise MinglmError(
                f"--data: {self.data} is no folder; that of a clone, tutorials/data, is accepted"
            )
        for name in sorted({*TEXTS_OF, *TASKS, "infill", "last_word"}):
            if not (self.data / name).is_dir():
                raise MinglmError(
                    f"--data: {self.data} has no folder {name}; that of a clone, tutorials/data, has all of them"
                )
        self.file = self.out / "cells.jsonl"
        self.made = {}  # what was read last: the model, the results

    def texts(self):
        """The file to pretrain on, a document a line; written at the first call."""
        path = self.out / "texts" / "texts.jsonl"
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            lines = [
                json.dumps(dict(text=text), ensure_ascii=False) + "\n"
                for text in pretraining_texts(self.data)
            ]
            write_whole(path, "".join(lines))
        return path

    def config_of(self, cell):
        """All that decides a cell's result, as a dict."""
        plan = asdict(self.plan)
        for name in ("pretraining_seeds", "finetuning_seeds"):
            del plan[name]
        if cell.task is None:  # how models are used does not change how they are trained
            use = ("learn", "choose", "report", "epochs", "reads", "lr")
            plan = {name: value for name, value in plan.items() if not name.startswith(use)}
        task = dict(task=TASKS[cell.task].to_toml()) if cell.task in TASKS else {}
        return dict(version=VERSION, cell=asdict(cell), plan=plan, text=self.fingerprint()) | task

    def fingerprint(self):
        """SHA-256 of the text that is pretrained on."""
        if "text" not in self.made:
            self.made["text"] = hashlib.sha256(self.texts().read_bytes()).hexdigest()
        return self.made["text"]

    def key_of(self, cell):
        return key_of(self.config_of(cell))

    def known(self, cell):
        """The result of a cell that was done, else None."""
        size = self.file.stat().st_size if self.file.exists() else 0
        if self.made.get("results", (None,))[0] != size:  # it grows, and other processes may write to it too
            lines = read_cells(self.file) if size else []
            self.made["results"] = size, {key_of(line["config"]): line["result"] for line in lines}
        return self.made["results"][1].get(self.key_of(cell))

    def run(self, wanted, minutes=None, say=print):
        """Do what is not done yet, in order; leaves after `minutes` (the cell that runs is finished)."""
        began, left = time.monotonic(), [cell for cell in wanted if self.known(cell) is None]
        if any(isinstance(TASKS.get(cell.task), TextToText) for cell in left):
            need("sacrebleu", "BLEU of text to text")  # before the hours it takes
        if any(cell.family == COUNTED for cell in left) and not have("sklearn", "what counting words gives"):
            left = [cell for cell in left if cell.family != COUNTED]
        for n, cell in enumerate(left):
            if minutes is not None and time.monotonic() - began > 60 * minutes:
                say(
                    f"stopped     after {minutes:g} minutes; {len(left) - n:,} cells are left: the same command goes on"
                )
                return
            if self.known(cell) is not None:  # another process has done it meanwhile
                continue
            started = time.monotonic()
            with (
                self.log(),
                contextlib.redirect_stderr(io.StringIO()) if cell.task else contextlib.nullcontext(),
            ):
                result = self.pretrain(cell) if cell.task is None else self.use(cell)
            result["seconds"] = round(time.monotonic() - started, 1)
            add_cell(self.file, dict(config=self.config_of(cell), result=result, **origin()))
            say(f"{n + 1:>4}/{len(left)}   {cell}   {shown(result)}   {clock(result['seconds'])}")

    @contextlib.contextmanager
    def log(self):
        """What a cell prints goes to out/log.txt."""
        log = open(self.out / "log.txt", "a", encoding="utf-8", errors="backslashreplace")
        with log, contextlib.redirect_stdout(log):
            yield

    # models

    def tokenizer(self):
        """The tokenizer of all models, trained at the first call."""
        folder = self.out / "texts" / f"tokenizer-{self.plan.vocab_size}"
        if not folder.exists():
            Tokenizer.train(
                read_documents(self.texts()), self.plan.vocab_size, progress=False
            ).save_pretrained(folder)
        return Tokenizer.from_pretrained(folder)

    def folder_of(self, cell):
        return self.out / "models" / self.key_of(dataclasses.replace(cell, task=None, seed=0, head=False))

    def pretrain(self, cell):
        """Train one model -> what it cost, and what it learned."""
        folder, config = (
            self.folder_of(cell),
            self.plan.pretraining(cell.family, cell.pretrained, self.texts()),
        )
        shutil.rmtree(folder, ignore_errors=True)  # of a run that was interrupted
        tokenizer = self.tokenizer()
        torch.manual_seed(stream_seed(cell.pretrained, 0, 0, 0))
        model = GLM(dataclasses.replace(config.model, vocab_size=tokenizer.vocab_size))
        pretrain(config, folder, init=(model, tokenizer))
        with open(folder / "metrics.csv", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        report = json.loads((folder / "evaluation.json").read_text(encoding="utf-8"))
        return dict(
            **{name: sum(int(row[name]) for row in rows) for name in ("text_tokens", "learned_tokens")},
            training_seconds=round(sum(float(row["seconds"]) for row in rows), 1),
            loss=float(rows[-1]["loss"]),
            petaflop=self.flop(cell) / 1e15,
            held_out=report["objectives"],
        )

    def flop(self, cell, most=64):
        """Useful floating-point operations of a pretraining: the mean of `most` steps, times the steps."""
        from ..model_config import useful_flop  # other commands start without the bench

        model, tokenizer = self.model(cell)
        config = self.plan.pretraining(cell.family, cell.pretrained, self.texts())
        corpus = cached_corpus([self.texts()], tokenizer, documents="line")
        source, _ = sources(corpus, tokenizer, config)
        batches = TrainingBatches(source, config.train.batch_tokens)
        steps = min(most, self.plan.steps)
        counts = [
            sum(useful_flop(model.config, pack([e for _, e in batches.examples(k)]))) for k in range(steps)
        ]
        return self.plan.steps * statistics.fmean(counts)

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
        return random_weights(
            dataclasses.replace(config, vocab_size=tokenizer.vocab_size), cell.seed
        ), tokenizer

    # uses

    def use(self, cell):
        """One use of a model -> {"score", "standard_error", "n", "metric", ...}."""
        if cell.task in UNTRAINED:
            return self.untrained(cell.task, *self.model(cell))
        task, counts = TASKS[cell.task], self.plan.rows(cell.task)
        # room is left for what gpt and prefix write behind the text, and all read the same
        limit = self.plan.reads if isinstance(task, Cloze) else self.plan.max_positions // 2
        rows = {side: list(self.rows(cell.task, side).items()) for side in ("train", "dev")}
        train, dev, choose = rows["train"], rows["dev"][: counts["report"]], counts["choose"]
        learn = min(counts["learn"], len(train) - choose)
        parts = dict(learn=train[:learn], choose=train[learn : learn + choose], dev=dev)
        tokenizer = self.tokenizer()
        read = {
            name: ask_all(task, tokenizer, dict(part), limit, labelled=True) for name, part in parts.items()
        }
        if cell.family == COUNTED:
            return count_words(task, parts, read)
        model = copy.deepcopy(self.model(cell)[0])
        settings = Finetuning(
            epochs=self.plan.epochs, lr=self.plan.lr, patience=self.plan.epochs, dtype=self.plan.dtype
        )
        if isinstance(task, TextToText):
            scorer = TextScorer(model)
            history = fit(scorer, read["learn"], read["choose"], settings, cell.seed, task, quiet)
            written = generate(model, tokenizer, read["dev"], dials_of(task))
            gold = [row[task.target].strip() for _, row in parts["dev"]]
            copied = [row["src"] for _, row in parts["dev"]]
            return written_score(written, gold) | dict(
                copying=bleu(copied, gold)["bleu"],
                best_epoch=best(history, lambda h: -h["dev_loss"]),
                **scorer.judge(read["dev"]),
                example=dict(source=copied[0], ours=written[0], gold=gold[0]),
            )
        if cell.head:
            torch.manual_seed(stream_seed(cell.seed, 0, 0, 0))
            scorer = LinearHead(model, len(task.labels))
        else:
            scorer = LabelScorer(model, task.length_penalty)
        history = fit(scorer, read["learn"], read["choose"], settings, cell.seed, task, quiet)
        gold = [q.gold for q in read["dev"]]
        return labelled_score(predict(scorer, read["dev"]), read["dev"]) | dict(
            best_epoch=best(history, lambda h: h["accuracy"]),
            whole=read["dev"][0].whole,
            chance=100 * statistics.fmean(1 / len(q.labels) for q in read["dev"]),
            most_frequent=100 * max(map(gold.count, gold)) / len(gold) if task.labels else None,
        )

    def untrained(self, name, model, tokenizer):
        """Infilling; the last word of a passage and running text, which all read from left to right: as pretrained."""
        if name == "text":
            text = "".join(text_chunks(self.data / "austen" / "dev.txt.xz"))
            documents = [part for part in text.split("\n\n") if part.strip()][
                : max(1, self.plan.report // 50)
            ]
            metrics = evaluate_text(model, tokenizer, documents)["metrics"]
            found = metrics["bits_per_byte_left_to_right"]
            return dict(
                metric="bits per byte",
                score=found["value"],
                standard_error=found["standard_error"],
                n=found["n"],
            )
        rows = dict(list(self.rows(name, "dev").items())[: self.plan.report])
        if name == "last_word":
            found = evaluate_last_word(model, tokenizer, rows)["metrics"]["accuracy_left_to_right"]
        else:
            found = evaluate_infill(model, tokenizer, rows)["metrics"]["exact_match"]
        return dict(
            metric="exact",
            score=100 * found["value"],
            standard_error=100 * found["standard_error"],
            n=found["n"],
        )

    def rows(self, task, side):
        [path] = sorted((self.data / task).glob(f"{side}.jsonl*"))[:1] or [
            self.data / task / f"{side}.jsonl.xz"
        ]
        return read_rows(path)


def key_of(config):
    """A short hash of all that decides a cell."""
    return hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()[:16]


def read_cells(path):
    """The lines of cells.jsonl; half a line, of a process that was killed, is a cell that is not done."""
    lines = []
    for text in path.read_text(encoding="utf-8", errors="replace").split("\n"):
        with contextlib.suppress(ValueError):
            lines.append(json.loads(text))
    return [line for line in lines if isinstance(line, dict) and {"config", "result"} <= line.keys()]


def add_cell(path, line):
    """Append a line at once, so that processes which share the file do not mix theirs."""
    try:
        with open(path, "a+b", buffering=0) as file:
            if file.seek(0, os.SEEK_END):
                file.seek(-1, os.SEEK_END)
            torn = file.read(1) not in (b"", b"\n")  # half a line ends the file
            file.write(b"\n" * torn + strict_json.dumps(line).encode() + b"\n")
    except OSError as error:
        raise MinglmError(f"{path}: cannot be written: {reason(error)}") from None


def count_words(task, parts, read):
    """The same rows without a network. parts: {"learn", "choose", "dev"}: [(where, row)]; read: what a model reads of them."""
    rows = {name: [row for _, row in part] for name, part in parts.items()}
    if isinstance(task, TextToText):
        written = word_for_word(
            [(row["src"], row["tgt"]) for row in rows["learn"]], [row["src"] for row in rows["dev"]]
        )
        return written_score(written, [row[task.target].strip() for row in rows["dev"]])
    said = tf_idf(task, rows["learn"], read["learn"], rows["choose"], read["choose"], rows["dev"])
    return labelled_score(said, read["dev"])


def labelled_score(found, questions):
    """Accuracy in percent, as a cell's result. found: probabilities or numbers of labels."""
    share, n = measure(found, questions)["accuracy"], len(questions)
    return dict(metric="accuracy", n=n, score=100 * share, standard_error=100 * standard_error(share, n))


def written_score(written, gold):
    """BLEU, as a cell's result."""
    counts = bleu_counts(written, gold)
    score, error = jackknife(lambda rows: bleu_of(counts[rows]), len(gold))
    return dict(metric="BLEU", n=len(gold), score=score, standard_error=error)


def quiet(_):
    pass


def best(history, value):
    return max(history, key=value)["epoch"]


def pretraining_texts(data):
    """All documents: chapters in pieces, definitions, and the texts of tasks without their labels; two of a row together."""
    for name in TEXTS_OF:
        [path] = sorted((data / name).glob("train.*"))[:1]
        if path.name.startswith("train.jsonl"):
            for row in read_rows(path).values():
                yield " ".join(row[key] for key in ("text", "a", "b", "src") if key in row)
        else:
            text = "".join(text_chunks(path))
            yield from pieces(text) if name in CHAPTERS else filter(None, text.split("\n"))


def pieces(text, words=90):
    """Chapters (parted by empty lines, a paragraph a line) as short and long documents.

    Pages of about 90 words, every second of which falls into its paragraphs.
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
    if "score" in result:
        error = f" +- {result['standard_error']:.1f}" if result["standard_error"] is not None else ""
        return f"{result['metric']} {result['score']:.2f}{error}"
    return f"loss {result['loss']:.3f}, {result['petaflop']:.3f} PFLOP"


# ---- what it says ----------------------------------------------------------------------------------------
