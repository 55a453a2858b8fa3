"""The settings of a run as frozen dataclasses: default < preset < TOML file < command line."""

import functools
import json
import math
import tomllib
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Any, NamedTuple, get_type_hints

from ..errors import MinglmError, nearest, suggestion
from ..model_config import GLMConfig
from .presets import PRESETS
from .rules import (
    ABOVE_0,
    ANY,
    AT_LEAST_0,
    AT_LEAST_1,
    BELOW_1,
    DEVICE,
    INSIDE_0_1,
    NOT_EMPTY,
    TYPE_WORDS,
    UP_TO_1,
    Rule,
    _has_type,
    _refused,
    _shown,
    one_of,
    setting,
)

# The third argument of `setting` explains the setting and its default; --help and --print-config show it.


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """The text, its held-out part, and how spans are drawn."""

    text: tuple[str, ...] = setting(
        (), Rule("without an empty name", all), "files or folders; none: the embedded corpus, for a first run"
    )
    text_key: str = setting(
        "text",
        NOT_EMPTY,
        "key or column of the text in a .jsonl, .parquet, .arrow or .feather; title,body joins two",
    )
    documents: str = setting(
        "blank_line",
        one_of("blank_line", "line", "file"),
        "what separates the documents of a .txt; in most corpora it is a blank line",
    )
    errors: str = setting(
        "strict",
        one_of("strict", "replace"),
        "bytes that are not utf-8: stop, or replace them",
    )
    tokenizer: str = setting(
        "",
        ANY,
        "tokenizer.json or GPT-2's files, whose ids a .bin (nanoGPT) holds; empty: trained on the text",
    )
    processes: int = setting(1, AT_LEAST_1, "processes that tokenise; the tokens are the same")
    cache: str = setting("", ANY, "folder of token files; empty: minglm in $XDG_CACHE_HOME, else in ~/.cache")
    samples: str = setting(
        "windows",
        one_of("windows", "sentences"),
        "windows of max_positions tokens, or runs of sentences of many lengths, drawn anew every epoch",
    )
    spread: float = setting(
        1.0,
        AT_LEAST_0,
        "with samples = sentences: n or more have probability n ** (-1 / spread); 0: single sentences",
    )
    held_out_every: int = setting(
        20,
        Rule(">= 2", lambda x: x >= 2),
        "every n-th document is held out; 20 leaves 95 % for training",
    )
    held_out_by: str = setting(
        "position",
        one_of("position", "content"),
        "which n-th: by their order, or by a hash of their text, which stays if texts are added",
    )
    token: float = setting(0.5, AT_LEAST_0, "weight of the token objective ([MASK]); .5 .3 .2: GLM-2B's")
    sentence: float = setting(0.3, AT_LEAST_0, "weight of the sentence objective ([sMASK])")
    document: float = setting(0.2, AT_LEAST_0, "weight of the document objective ([gMASK])")
    mask_ratio: float = setting(
        0.15, INSIDE_0_1, "share of a sample that token or sentence spans cover, as in the paper"
    )
    mean_span_length: float = setting(3.0, ABOVE_0, "mean of the Poisson span lengths, as in the paper")
    max_span_length: int = setting(
        40, AT_LEAST_1, "token spans are shorter than this (1: of one token), as in the original"
    )
    blanks: str = setting(
        "budget",
        one_of("budget", "drawn"),
        "budget: draw token spans until mask_ratio is covered, as in the paper; drawn: draw their number "
        "first, so that in short samples it does not reveal their lengths",
    )
    document_min_ratio: float = setting(0.5, UP_TO_1, "smallest share a [gMASK] span covers, as in the paper")
    document_max_ratio: float = setting(1.0, UP_TO_1, "largest share a [gMASK] span covers, as in the paper")

    def __post_init__(self):
        _check_fields(self, "data")
        weights = (self.token, self.sentence, self.document)
        if not 0 < sum(weights) < math.inf:
            raise _refused("data.token, data.sentence, data.document", weights, "weights with a sum > 0")
        for low, high in (
            ("mean_span_length", "max_span_length"),
            ("document_min_ratio", "document_max_ratio"),
        ):
            value, bound = getattr(self, low), getattr(self, high)
            if value > bound:
                raise _refused(f"data.{low}", value, f"a number <= data.{high} ({bound})")


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """How a model is trained; the optimiser's defaults are the original GLM's."""

    steps: int = setting(MISSING, AT_LEAST_1, "optimiser steps of the whole schedule")
    minutes: float = setting(
        0.0,
        AT_LEAST_0,
        "if > 0: time a few steps and set `steps` to fill so many minutes, once; 0: keep steps",
    )
    batch_tokens: int = setting(
        MISSING, AT_LEAST_1, "text tokens of a global batch, before spans are drawn, on average"
    )
    micro_batch_tokens: int = setting(
        8192, AT_LEAST_1, "rough limit of what a rank takes at once; the original's is 16 x 512"
    )
    lr: float = setting(MISSING, ABOVE_0, "peak learning rate; smaller for larger models")
    table_lr_ratio: float = setting(
        1.0,
        ABOVE_0,
        "the token and position tables learn at lr times this; narrow models gain from values above 1",
    )
    min_lr_ratio: float = setting(
        0.1,
        Rule("from 0 to 1", lambda x: 0 <= x <= 1),
        "the decay ends at this share of the peak; above 0, the last steps still learn",
    )
    warmup: float = setting(0.05, BELOW_1, "share of the steps over which the learning rate rises from 0")
    decay: str = setting("cosine", one_of("cosine", "linear"), "how the learning rate falls after warm-up")
    optimizer: str = setting(
        "adamw",
        one_of("adamw", "muon"),
        "adamw, as in the original, or muon: orthogonal steps for the layers' matrices, AdamW for the rest",
    )
    muon_lr_ratio: float = setting(1.0, ABOVE_0, "with muon, the matrices learn at lr times this")
    momentum: float = setting(0.95, BELOW_1, "Muon's momentum")
    weight_decay: float = setting(0.1, AT_LEAST_0, "of all weights except biases and LayerNorms")
    beta1: float = setting(0.9, BELOW_1, "AdamW's decay rate of the mean gradient")
    beta2: float = setting(0.98, BELOW_1, "AdamW's decay rate of the squared gradient; 0.999 adapts slowly")
    eps: float = setting(1e-6, ABOVE_0, "AdamW's guard against division by zero")
    clip: float = setting(1.0, AT_LEAST_0, "gradients with a larger norm are scaled down to it; 0: never")
    seed: int = setting(
        1234,
        Rule("from 0 to 2**63 - 1", lambda x: 0 <= x < 2**63),  # the largest that TOML guarantees
        "decides weights, batches, spans and dropout; any number will do",
    )
    dtype: str = setting(
        "auto",
        one_of("auto", "float32", "bfloat16"),
        "of matrix products; auto: bfloat16 if the hardware is fast at it",
    )
    device: str = setting("auto", DEVICE, "auto: a GPU if there is one")
    backend: str = setting(
        "auto", NOT_EMPTY, "attention: kernel, kernel:RUNG, sdpa, reference; auto: the first that works"
    )
    compile: bool = setting(False, ANY, "torch.compile the model; not worth it in a short run")
    checkpoint_activations: bool = setting(False, ANY, "recompute in backward: less memory, slower")
    workers: int = setting(
        -1,
        Rule("from -1 to 64", lambda x: -1 <= x <= 64),
        "processes that prepare batches ahead; -1: none on a CPU, up to 4 per GPU; the run is the same",
    )
    shard: bool = setting(
        False, ANY, "share the weights out over torchrun's processes (FSDP2); for models beyond one GPU"
    )
    eval_every: int = setting(MISSING, AT_LEAST_1, "steps between held-out losses")
    eval_samples: int = setting(
        24, AT_LEAST_1, "held-out samples per objective each time; the last evaluation reads 512"
    )
    sample_every: int = setting(MISSING, AT_LEAST_1, "steps between printed samples: a blank being filled")
    save_every: int = setting(MISSING, AT_LEAST_1, "steps between checkpoints")
    keep: int = setting(2, AT_LEAST_1, "newest checkpoints to keep; with 2, one may get damaged")
    log_every: int = setting(10, AT_LEAST_1, "steps between readings of the losses, and printed lines")
    log: str = setting("", one_of("", "tensorboard"), "tensorboard: log there too; empty: only metrics.csv")

    def __post_init__(self):
        _check_fields(self, "train")


@dataclass(frozen=True)
class Finetuning:
    """How a task is learned. The names are those that `learning_rate` and `parameter_groups` expect."""

    epochs: int = 10
    batch: int = 32  # texts per step
    lr: float = 3e-4  # for some million weights; a hundred million need 1e-5, as in the original
    patience: int = 3  # epochs without a better one
    dropout: float = 0.1  # the original's
    warmup: float = 0.1  # share of the steps
    decay: str = "linear"  # to 0
    min_lr_ratio: float = 0.0
    weight_decay: float = 0.1
    table_lr_ratio: float = 1.0
    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8
    clip: float = 1.0
    label_smoothing: float = 0.1  # for text to text only; the original's
    dtype: str = "float32"  # of matrix products; bfloat16 is about twice as fast if the hardware has it
    steps: int = 0  # in all; set when the number of records is known

    def __post_init__(self):
        for name, test, accepted in (
            ("epochs", _is_count, "a whole number >= 1"),
            ("batch", _is_count, "a whole number >= 1"),
            ("patience", _is_count, "a whole number >= 1"),
            ("lr", lambda x: 0 < x < math.inf, "a number > 0"),
            ("dropout", lambda x: 0 <= x < 1, "a number >= 0 and < 1"),
            ("label_smoothing", lambda x: 0 <= x < 1, "a number >= 0 and < 1"),
            ("dtype", lambda x: x in ("float32", "bfloat16"), "float32 or bfloat16"),
        ):
            if not test(value := getattr(self, name)):
                raise MinglmError(f"{name}: {value} is not accepted; {accepted} is")


def _is_count(x) -> bool:
    return type(x) is int and x >= 1


# GLMConfig checks its own fields, but has no help texts: here they are.
MODEL_HELP = {
    "vocab_size": "rows of the token table, special tokens included",
    "hidden_size": "width C of the model",
    "num_layers": "layers",
    "num_heads": "attention heads, a divisor of the width; 64 wide in the original and most presets",
    "max_positions": "tokens of a sample before spans are drawn, cls included",
    "dropout": "on the embedding sum, attention output and MLP output",
    "gelu": "tanh as in the original's training code, or erf as in its Hugging Face port",
    "family": "trained as glm, gpt, bert or prefix, or as an ablation: glm-ordered, glm-1d, glm-sentinels",
}


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """All settings of a run, checked, and the preset they started from."""

    preset: str = "tiny"
    model: GLMConfig
    data: DataConfig
    train: TrainConfig

    def __post_init__(self):
        _check_preset(self.preset)
        limit, batch = self.model.max_positions, self.train.batch_tokens
        if limit < 4:  # shorter documents are skipped, so all would be
            raise _refused("model.max_positions", limit, "a whole number >= 4")
        if batch < limit:  # a batch holds at least one full sample
            raise _refused("train.batch_tokens", batch, f"a whole number >= model.max_positions ({limit})")


SECTIONS = {"model": GLMConfig, "data": DataConfig, "train": TrainConfig}


class Setting(NamedTuple):
    """One setting: its type, its default in the preset tiny, its rule, and its help text."""

    type: Any
    default: Any
    rule: Rule
    help: str

    @property
    def accepted(self) -> str:
        """The accepted values in words, e.g. "a number > 0"."""
        return f"{TYPE_WORDS[self.type]} {self.rule.words}".strip()


@functools.cache
def keys() -> Mapping[str, Setting]:
    """All settings by dotted key, section by section, e.g. `keys()["train.lr"].type` -> float."""
    settings = {}
    for section, kind in SECTIONS.items():
        types = get_type_hints(kind)
        for f in fields(kind):
            default = PRESETS["tiny"].get(section, {}).get(f.name, f.default)
            about = f.metadata or {"rule": ANY, "help": MODEL_HELP[f.name]}
            settings[f"{section}.{f.name}"] = Setting(types[f.name], default, **about)
    return settings


def resolve(
    preset: str | None = None, file: str | Path | None = None, overrides: Mapping[str, Any] | None = None
) -> RunConfig:
    """The RunConfig of a preset, a TOML file and overrides {dotted key: value, or a str to convert}.

    Example: `resolve("small", overrides={"train.lr": "3e-4", "data.text": ["a.txt"]}).train.lr` -> 0.0003.
    """
    file_preset, from_file = read_toml(file) if file is not None else (None, {})
    preset = _check_preset(preset if preset is not None else file_preset or "tiny")
    values = {f"{section}.{name}": v for section, g in PRESETS[preset].items() for name, v in g.items()}
    values |= from_file
    values |= {key: _accept(key, _parse(key, value)) for key, value in (overrides or {}).items()}
    groups = {section: {} for section in SECTIONS}
    for key, value in values.items():
        section, name = key.split(".")
        groups[section][name] = value
    return RunConfig(preset=preset, **{name: kind(**groups[name]) for name, kind in SECTIONS.items()})


# Settings that older runs lack, with the values that those runs used (today's presets may differ).
AS_BEFORE = {"data.samples": "windows", "data.blanks": "budget", "train.optimizer": "adamw"}


def settings_of_run(file: str | Path) -> RunConfig:
    """The RunConfig of a run's run.toml, even if an older version wrote it."""
    _, given = read_toml(file)
    return resolve(file=file, overrides={key: value for key, value in AS_BEFORE.items() if key not in given})


def to_toml(config: RunConfig) -> str:
    """All settings as TOML, from which `resolve(file=...)` reads an equal RunConfig; write it as utf-8."""
    lines = [f"preset = {_toml_value(config.preset)}"]
    for section, kind in SECTIONS.items():
        lines += ["", f"[{section}]"]
        for f in fields(kind):
            line = f"{f.name} = {_toml_value(getattr(getattr(config, section), f.name))}"
            lines.append(f"{line:<32}  # {keys()[f'{section}.{f.name}'].help}")
    return "\n".join(lines) + "\n"


def _toml_value(value) -> str:
    if isinstance(value, tuple):
        return f"[{', '.join(map(_toml_value, value))}]"
    # JSON's texts and numbers are valid TOML (floats keep their value), except that TOML wants DEL escaped
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def read_toml(file) -> tuple[str | None, dict[str, Any]]:
    """(the preset that a file names, or None; its settings by dotted key). Every error names the file."""
    wanted = "a TOML file with tables [model], [data], [train] is accepted"
    try:
        text = Path(file).read_bytes().decode().removeprefix("\ufeff")  # Notepad adds a byte order mark
        table = tomllib.loads(text)
        preset = _check_preset(table.pop("preset")) if "preset" in table else None
        values = {}
        for section, group in table.items():
            if section not in SECTIONS and isinstance(group, dict):
                raise _unknown("section", section, nearest(section, SECTIONS), SECTIONS)
            if section not in SECTIONS:
                raise _unknown_setting(section)
            if not isinstance(group, dict):
                raise _refused(section, group, f"a table [{section}]")
            for name, value in group.items():
                values[f"{section}.{name}"] = _accept(f"{section}.{name}", value)
    except MinglmError as error:
        raise MinglmError(f"{file}: {error}") from None
    except OSError as error:
        raise MinglmError(f"{file}: {error.strerror}; {wanted}") from None
    except UnicodeDecodeError as error:
        raise MinglmError(f"{file}: not utf-8 at byte {error.start}; {wanted}") from None
    except (ValueError, RecursionError) as error:  # TOMLDecodeError, or an integer of 5,000 digits
        raise MinglmError(f"{file}: not TOML: {error}; {wanted}") from None
    return preset, values


def _check_preset(preset) -> str:
    if isinstance(preset, str) and preset in PRESETS:
        return preset
    raise _unknown("preset", preset, nearest(preset, PRESETS), PRESETS)


def _check_fields(config, section: str) -> None:
    for f in fields(config):
        object.__setattr__(config, f.name, _accept(f"{section}.{f.name}", getattr(config, f.name)))


def _accept(key: str, value):
    """`value` with the setting's type (1 becomes 1.0 for a float, a list a tuple); raises MinglmError."""
    if key not in keys():
        raise _unknown_setting(key)
    kind, result = keys()[key].type, value
    if kind is float and type(value) is int and abs(value) < 2**1023:  # a larger one might overflow
        result = float(value)
    elif kind == tuple[str, ...] and isinstance(value, str | list):
        result = (value,) if isinstance(value, str) else tuple(value)  # subtle: a single str is one name
    if _has_type(result, kind) and keys()[key].rule.test(result):
        return result
    raise _refused(key, value, keys()[key].accepted)


def _parse(key: str, value):
    """A str from the command line as the setting's type; if it does not convert, `_accept` refuses it."""
    kind = keys()[key].type if key in keys() else str
    if isinstance(value, str) and kind is bool:
        return {"true": True, "false": False}.get(value.lower(), value)
    try:
        return kind(value) if isinstance(value, str) and kind in (int, float) else value
    except ValueError:
        return value


# Names in nanoGPT, Hugging Face and the original that are spelled too differently to be found by similarity.
OTHER_NAMES = {
    "learning_rate": "lr",
    "max_iters": "steps",
    "max_steps": "steps",
    "train_iters": "steps",
    "epochs": "steps",
    "batch_size": "batch_tokens",
    "grad_clip": "clip",
    "clip_grad": "clip",
    "max_grad_norm": "clip",
    "gradient_checkpointing": "checkpoint_activations",
    "eval_interval": "eval_every",
    "log_interval": "log_every",
    "save_interval": "save_every",
    "n_layer": "num_layers",
    "n_head": "num_heads",
    "n_embd": "hidden_size",
    "block_size": "max_positions",
    "bert_prob": "token",
    "gap_sentence_prob": "sentence",
    "gpt_min_ratio": "document_min_ratio",
}


def _unknown_setting(key: str) -> MinglmError:
    """An error with a suggestion: a setting of that name, in another section or tool, or a similar name."""
    last = key.rpartition(".")[2].replace("-", "_")
    last = OTHER_NAMES.get(last, last)
    near = [known for known in keys() if known.endswith(f".{last}")]
    near = near or nearest(key, [*keys(), "preset"], cutoff=0.75)
    if not near:
        names = nearest(last, [known.rpartition(".")[2] for known in keys()])
        near = [known for known in keys() if known.rpartition(".")[2] in names]
    return _unknown("setting", key, near, ["what --print-config lists"])


def _unknown(what: str, name, near: list[str], accepted) -> MinglmError:
    return MinglmError(f"unknown {what} {_shown(name)}; {suggestion(near, accepted)}")
