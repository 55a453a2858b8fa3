"""What is compared: the plan of a comparison, and the list of its cells."""

from dataclasses import dataclass

from ..train.config import resolve
from ..use.tasks import Cloze, TextToText, read_task

RIVALS = ("glm", "gpt", "bert", "prefix")


ABLATIONS = ("glm-ordered", "glm-1d", "glm-sentinels")


# no network: TF-IDF with logistic regression, or a dictionary; stands where the others have their family
COUNTED = "words"


# The blank stands last, so that a model which reads from left to right has read all that it needs; labels are
# one word each, for one word is what all four families can say (and one token in the tokenizers of this
# comparison and of the box).
ONE_WORD = {"body part": "body", "communication": "language", "action": "act"}


TASKS = {
    "sentiment": read_task("sentiment", Cloze),
    "topic": Cloze(
        "{text}: this is a kind of [MASK].",
        {name: ONE_WORD.get(name, name) for name in read_task("topic", Cloze).labels},
        name="topic",
    ),
    "paraphrase": Cloze('"{a}" "{b}" Same? [MASK].', {"yes": "yes", "no": "no"}, name="paraphrase"),
    "book_cloze": read_task("book_cloze", Cloze),
    "modernise": TextToText("{src} In other words: [gMASK]", name="modernise"),
}


UNTRAINED = ("infill", "last_word", "text")  # uses that need no rows to learn from


@dataclass(frozen=True)
class Plan:
    """What is compared, and how much of it. Everything here is part of a cell's hash where the cell depends on it."""

    steps: int = 6000
    batch_tokens: int = 1024
    vocab_size: int = 4096
    hidden_size: int = 128
    num_layers: int = 4
    num_heads: int = 4
    max_positions: int = 128
    mask_ratio: float = (
        0.3  # many short blanks: with the paper's 15 % in spans of 3, so short a pretraining shows a model
    )
    mean_span_length: float = (
        1.5  # too few of them to learn how a blank's neighbours are found, and it fills none
    )
    reads: int = (
        96  # tokens of a text that is classified: with 30 % of 128 blanked, Part A was never much longer
    )
    pretraining_seeds: int = 2
    finetuning_seeds: int = 3
    learn: int = (
        4000  # rows that a task is learned from, at most; those of book_cloze cost five readings each
    )
    learn_book_cloze: int = 400
    choose: int = 400  # further rows of train, by which the epoch is chosen: dev is for the table alone
    report: int = 1000  # rows of dev, at most
    report_written: int = 300  # of them where the model has to write
    epochs: int = 4
    lr: float = 5e-4
    dtype: str = "bfloat16"

    def pretraining(self, family, seed, texts):
        """The RunConfig of one pretraining: the preset page, but for its size and length."""
        shape = {
            f"model.{name}": getattr(self, name)
            for name in ("vocab_size", "hidden_size", "num_layers", "num_heads", "max_positions")
        }
        return resolve(
            "page",
            overrides=shape
            | {
                "model.family": family,
                "train.steps": self.steps,
                "train.batch_tokens": self.batch_tokens,
                "train.seed": seed,
                "train.dtype": self.dtype,
                "train.eval_every": self.steps,
                "train.sample_every": self.steps,
                "train.save_every": self.steps,
                "train.keep": 1,
                "data.documents": "line",
                "data.text": [str(texts)],
                "data.mask_ratio": self.mask_ratio,
                "data.mean_span_length": self.mean_span_length,
            },
        )

    def rows(self, task):
        """How many rows of a task are learned from, chosen by and reported on."""
        learn = self.learn_book_cloze if task == "book_cloze" else self.learn
        report = self.report_written if task == "modernise" else self.report
        return dict(learn=learn, choose=min(self.choose, learn // 4), report=report)


QUICK = Plan(
    steps=30,
    hidden_size=32,
    num_layers=2,
    num_heads=2,
    vocab_size=1024,
    pretraining_seeds=1,
    finetuning_seeds=1,
    learn=64,
    learn_book_cloze=16,
    choose=32,
    report=40,
    report_written=8,
    epochs=1,
    dtype="float32",
)


@dataclass(frozen=True)
class Cell:
    """One pretraining (task is None), or one use of a model. pretrained: its seed, or None: nothing was read before."""

    family: str
    pretrained: int | None
    task: str | None = None
    seed: int = 0  # of the learning
    head: bool = False  # a linear head on Part A instead of the cloze

    def __str__(self):
        nothing = "counted" if self.family == COUNTED else "random weights"
        model = nothing if self.pretrained is None else f"model {self.pretrained}"
        use = (
            "is pretrained"
            if self.task is None
            else f"{self.task}{' by a head' * self.head}, seed {self.seed}"
        )
        return f"{self.family:<14} {model:<15} {use:<26}"


def cells(plan):
    """All cells, so ordered that a table of one seed is whole before the next seed begins; a model comes before its uses.

    Last comes what the three rivals do from random weights: glm's say first whether pretraining helped.
    """
    found, last = [Cell(COUNTED, None, task) for task in uses_of(COUNTED, None)], []
    for seed in range(plan.pretraining_seeds):
        families = RIVALS + (ABLATIONS if seed == 0 else ())
        for family in families:
            found.append(Cell(family, seed))
            found += [Cell(family, seed, use) for use in uses_of(family, seed) if use in UNTRAINED]
        for learning in range(plan.finetuning_seeds):
            for family in families:
                tasks = [use for use in uses_of(family, seed) if use not in UNTRAINED]
                found += [Cell(family, seed, task, learning) for task in tasks]
            if seed == 0:
                found += [Cell("glm", 0, "sentiment", learning, head=True)]
                found += [Cell("glm", None, task, learning) for task in uses_of("glm", None)]
                last += [
                    Cell(family, None, task, learning)
                    for family in RIVALS[1:]
                    for task in uses_of(family, None)
                ]
    return found + last


def uses_of(family, pretrained):
    """What a family is asked for. What it cannot do is missing, and the table says n/a there."""
    if family in ABLATIONS:
        return ["infill", "sentiment"]
    if family == COUNTED:
        return [task for task in TASKS if task != "book_cloze"]
    tasks = [task for task in TASKS if not (family == "bert" and task == "modernise")]
    untrained = {"glm": ["infill", "last_word", "text"], "bert": ["infill"], "gpt": ["last_word", "text"]}
    return [*untrained.get(family, ["last_word", "text"]), *tasks]
