"""The plan of a comparison, and the list of its cells."""

from dataclasses import dataclass, field

from ..train.config import resolve
from ..use.tasks import Cloze, TextToText, read_task

RIVALS = ("glm", "gpt", "bert", "prefix")
ABLATIONS = ("glm-ordered", "glm-1d", "glm-sentinels")
# In place of a family: no network, but TF-IDF with logistic regression, or a dictionary.
COUNTED = "words"

# The blank comes last, so that a left-to-right model has read everything before it. Labels are one word each,
# because all four families can produce one word (one token in the tokenizers used here and by the box).
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


# Uses on simple English (blanks.py). "stories": bits per byte of a story, its beginning read both ways.
SIMPLE = ("everyday", "blank", "blank_bits", "stories")
UNTRAINED = (*SIMPLE, "infill", "last_word", "text")  # uses of a model that need no fine-tuning

# How the models of a Plan are pretrained, whatever the preset page has become: full windows, AdamW.
WINDOWS = {
    "data.samples": "windows",
    "data.blanks": "budget",
    "data.token": 0.6,
    "data.sentence": 0.05,
    "data.document": 0.35,
    "train.optimizer": "adamw",
    "train.lr": 1.5e-3,
    "train.warmup": 0.1,
}
# And those of a LargePlan, as the bundled model is: short samples that begin at any sentence, Muon.
SHORT = {
    "data.samples": "sentences",
    "data.spread": 0.8,
    "data.blanks": "drawn",
    "data.token": 0.75,
    "data.sentence": 0.05,
    "data.document": 0.2,
    "train.optimizer": "muon",
    "train.lr": 2e-3,
    "train.muon_lr_ratio": 2.0,
    "train.warmup": 0.05,
}


@dataclass(frozen=True)
class Plan:
    """The size of a comparison. Each cell's hash includes the fields that the cell depends on."""

    steps: int = 6000
    batch_tokens: int = 1024
    vocab_size: int = 4096
    hidden_size: int = 128
    num_layers: int = 4
    num_heads: int = 4
    max_positions: int = 128
    # Many short blanks: with the paper's 15 % in spans of 3, such a short pretraining has too few blanks for
    # a model to learn how to find the words around a blank, and it fills none.
    mask_ratio: float = 0.3
    mean_span_length: float = 1.5
    reads: int = 96  # most tokens of a classified text: with 30 % of 128 blanked, Part A was not much longer
    pretraining_seeds: int = 2
    finetuning_seeds: int = 3
    learn: int = 4000  # most records that a task is learned from
    learn_book_cloze: int = 400  # five readings per record
    choose: int = 400  # further records of train that choose the epoch: dev is only for the table
    report: int = 1000  # most records of dev
    report_written: int = 300  # the same, for tasks in which the model writes
    epochs: int = 4
    lr: float = 5e-4
    dtype: str = "bfloat16"

    def pretraining(self, family, seed, texts):
        """The RunConfig of one pretraining: the preset page with the plan's own size, length and recipe."""
        shape = ("vocab_size", "hidden_size", "num_layers", "num_heads", "max_positions")
        overrides = {f"model.{name}": getattr(self, name) for name in shape}
        overrides |= {f"train.{name}_every": self.steps for name in ("eval", "sample", "save")}
        overrides |= {f"train.{name}": getattr(self, name) for name in ("steps", "batch_tokens", "dtype")}
        overrides |= {f"data.{name}": getattr(self, name) for name in ("mask_ratio", "mean_span_length")}
        overrides |= {"model.family": family, "train.seed": seed, "train.keep": 1} | self.recipe()
        return resolve("page", overrides=overrides | {"data.documents": "line", "data.text": [str(texts)]})

    def recipe(self):
        """Settings of a pretraining that do not depend on its size."""
        return WINDOWS

    def uses(self, family):
        """The uses of a family in this plan."""
        return [use for use in uses_of(family) if use not in SIMPLE]

    def ablations(self, seed):
        """The ablations whose model of this seed is trained."""
        return ABLATIONS if seed == 0 else ()

    def rows(self, task):
        """{"learn", "choose", "report"}: how many records of a task have each purpose."""
        learn = self.learn_book_cloze if task == "book_cloze" else self.learn
        report = self.report_written if task == "modernise" else self.report
        return dict(learn=learn, choose=min(self.choose, learn // 4), report=report)


@dataclass(frozen=True)
class LargePlan(Plan):
    """A larger network and simple stories: about ten hours of one core. The four families only."""

    steps: int = 3000
    batch_tokens: int = 2048
    hidden_size: int = 192
    num_layers: int = 6
    num_heads: int = 6
    pretraining_seeds: int = 3
    finetuning_seeds: int = 1
    settings: dict = field(default_factory=lambda: dict(SHORT))

    def recipe(self):
        return self.settings

    def uses(self, family):
        return uses_of(family)

    def ablations(self, seed):
        return ()


FEW = dict(  # --quick
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
QUICK = Plan(**FEW)


@dataclass(frozen=True)
class Cell:
    """One pretraining (task is None), or one use of a model. pretrained: its seed; None: random weights."""

    family: str
    pretrained: int | None
    task: str | None = None
    seed: int = 0  # of the learning
    head: bool = False  # a linear head on Part A instead of the cloze

    def __str__(self):
        nothing = "counted" if self.family == COUNTED else "random weights"
        model = nothing if self.pretrained is None else f"model {self.pretrained}"
        head = " by a head" if self.head else ""
        use = "is pretrained" if self.task is None else f"{self.task}{head}, seed {self.seed}"
        return f"{self.family:<14} {model:<15} {use:<26}"


def cells(plan):
    """All cells, in an order that completes the table of one seed before the next; models before their uses.

    The rivals from random weights come last, because glm's show earlier whether pretraining helped.
    """
    first, last = [Cell(COUNTED, None, task) for task in plan.uses(COUNTED)], []
    for seed in range(plan.pretraining_seeds):
        families = RIVALS + plan.ablations(seed)
        for family in families:
            first.append(Cell(family, seed))
            first += [Cell(family, seed, use) for use in plan.uses(family) if use in UNTRAINED]
        for learning in range(plan.finetuning_seeds):
            for family in families:
                tasks = [use for use in plan.uses(family) if use not in UNTRAINED]
                first += [Cell(family, seed, task, learning) for task in tasks]
            if seed == 0:
                if plan.ablations(seed):
                    first += [Cell("glm", 0, "sentiment", learning, head=True)]
                first += [Cell("glm", None, task, learning) for task in plan.uses("glm")]
                for family in RIVALS[1:]:
                    last += [Cell(family, None, task, learning) for task in plan.uses(family)]
    return first + last


def uses_of(family):
    """The uses of a family; those that it cannot do are left out, and the table shows n/a."""
    if family in ABLATIONS:
        return ["infill", "sentiment"]
    if family == COUNTED:
        return [task for task in TASKS if task != "book_cloze"]
    tasks = [task for task in TASKS if not (family == "bert" and task == "modernise")]
    untrained = dict(
        glm=["infill", "last_word", "text", *SIMPLE],
        bert=["infill", *SIMPLE[:-1]],
        gpt=["last_word", "text", *SIMPLE],
        prefix=["last_word", "text", *SIMPLE],
    )
    return [*untrained[family], *tasks]
