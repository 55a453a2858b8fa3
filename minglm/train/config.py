"""The settings of a run: frozen dataclasses, six presets; default < preset < TOML file < command line."""

import difflib
import functools
import json
import math
import tomllib
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Any, NamedTuple, get_type_hints

from ..errors import MinglmError
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

# The third argument of `setting` is the comment beside a default, and what --help and --print-config show.


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Which text is read, what of it is held out, and how spans are drawn."""

    text: tuple[str, ...] = setting(
        (), Rule("without an empty name", all), "files or folders; none: the embedded corpus, for a first run"
    )
    text_key: str = setting("text", NOT_EMPTY, "key of the text in a line of .jsonl; the usual name")
    documents: str = setting(
        "blank_line",
        one_of("blank_line", "line", "file"),
        "what separates documents of a .txt; most plain corpora leave a blank line",
    )
    errors: str = setting(
        "strict",
        one_of("strict", "replace"),
        "bytes that are not utf-8: stop, so that nothing is lost unseen, or replace them",
    )
    cache: str = setting("", ANY, "folder of token files; empty: minglm in $XDG_CACHE_HOME, else in ~/.cache")
    samples: str = setting(
        "windows",
        one_of("windows", "sentences"),
        "windows as long as the model reads, or runs of sentences of many lengths, drawn anew every epoch",
    )
    spread: float = setting(
        1.0,
        AT_LEAST_0,
        "of samples of sentences: n or more come with probability n ** (-1 / spread); 0: single sentences",
    )
    held_out_every: int = setting(
        20,
        Rule(">= 2", lambda x: x >= 2),
        "one document in so many is held out; 20 leaves 95 % to learn from",
    )
    token: float = setting(0.5, AT_LEAST_0, "weight of the token objective ([MASK]); .5 .3 .2: GLM-2B's")
    sentence: float = setting(0.3, AT_LEAST_0, "weight of the sentence objective ([sMASK])")
    document: float = setting(0.2, AT_LEAST_0, "weight of the document objective ([gMASK])")
    mask_ratio: float = setting(
        0.15, INSIDE_0_1, "share of a sample that token or sentence spans cover; the paper's"
    )
    mean_span_length: float = setting(3.0, ABOVE_0, "lambda of the Poisson law of span lengths; the paper's")
    max_span_length: int = setting(
        40, AT_LEAST_1, "every token span is shorter (1: of one token); the original's"
    )
    blanks: str = setting(
        "budget",
        one_of("budget", "drawn"),
        "token spans are drawn until mask_ratio is covered, as the paper's, or a number of them that tells "
        "nothing of their lengths: in short samples a budget does",
    )
    document_min_ratio: float = setting(0.5, UP_TO_1, "smallest share a [gMASK] span covers; the paper's")
    document_max_ratio: float = setting(1.0, UP_TO_1, "largest share a [gMASK] span covers; the paper's")

    def __post_init__(self):
        _check_fields(self, "data")
        weights = (self.token, self.sentence, self.document)
        if not 0 < sum(weights) < math.inf:
            raise _refused("data.token, data.sentence, data.document", weights, "weights with a sum > 0")
        if self.mean_span_length > self.max_span_length:
            raise _refused(
                "data.mean_span_length",
                self.mean_span_length,
                f"a number <= data.max_span_length ({self.max_span_length})",
            )
        if self.document_min_ratio > self.document_max_ratio:
            raise _refused(
                "data.document_min_ratio",
                self.document_min_ratio,
                f"a number <= data.document_max_ratio ({self.document_max_ratio})",
            )


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """How long, how fast and on what a model learns; the optimiser's numbers are the original GLM's."""

    steps: int = setting(MISSING, AT_LEAST_1, "optimiser steps of the whole schedule")
    minutes: float = setting(
        0.0, AT_LEAST_0, "time a few steps, then fix steps once; 0: steps as given, alike on any machine"
    )
    batch_tokens: int = setting(
        MISSING, AT_LEAST_1, "text tokens of a global batch, before spans are drawn, on average"
    )
    micro_batch_tokens: int = setting(
        8192, AT_LEAST_1, "most a rank takes at once, roughly; the original's 16 x 512"
    )
    lr: float = setting(MISSING, ABOVE_0, "peak learning rate; smaller for larger models")
    table_lr_ratio: float = setting(
        1.0,
        ABOVE_0,
        "the token and position tables learn at lr times this; narrow models gain from more than 1",
    )
    min_lr_ratio: float = setting(
        0.1,
        Rule("from 0 to 1", lambda x: 0 <= x <= 1),
        "the decay ends at this share of the peak; above 0, so it still learns",
    )
    warmup: float = setting(0.05, BELOW_1, "share of the steps over which the learning rate rises from 0")
    decay: str = setting("cosine", one_of("cosine", "linear"), "how the learning rate falls after warm-up")
    optimizer: str = setting(
        "adamw",
        one_of("adamw", "muon"),
        "muon: orthogonal steps for the matrices of the layers, "
        "AdamW for the rest; adamw: the original's, for all",
    )
    muon_lr_ratio: float = setting(1.0, ABOVE_0, "with muon the matrices learn at lr times this")
    momentum: float = setting(0.95, BELOW_1, "Muon's memory of gradients")
    weight_decay: float = setting(0.1, AT_LEAST_0, "of all weights but biases and LayerNorms")
    beta1: float = setting(0.9, BELOW_1, "AdamW's memory of gradients")
    beta2: float = setting(0.98, BELOW_1, "AdamW's memory of squared gradients; 0.999 adapts late")
    eps: float = setting(1e-6, ABOVE_0, "AdamW's guard against a division by zero")
    clip: float = setting(1.0, AT_LEAST_0, "a longer gradient is scaled down to this norm; 0: never")
    seed: int = setting(
        1234,
        Rule("from 0 to 2**63 - 1", lambda x: 0 <= x < 2**63),  # the most TOML promises
        "weights, batches, spans and dropout follow from it; any number does",
    )
    dtype: str = setting(
        "auto",
        one_of("auto", "float32", "bfloat16"),
        "of matrix products; auto: bfloat16 where the hardware is fast at it",
    )
    device: str = setting("auto", DEVICE, "auto: a GPU where there is one")
    backend: str = setting(
        "auto", NOT_EMPTY, "attention: kernel, kernel:RUNG, sdpa, reference; auto: the first that serves"
    )
    compile: bool = setting(False, ANY, "torch.compile the model; a short run gains nothing")
    checkpoint_activations: bool = setting(False, ANY, "recompute in backward: less memory, slower")
    eval_every: int = setting(MISSING, AT_LEAST_1, "steps between held-out losses")
    eval_samples: int = setting(
        24, AT_LEAST_1, "held-out samples for each objective then; the last evaluation reads 512"
    )
    sample_every: int = setting(MISSING, AT_LEAST_1, "steps between blanks filled for show")
    save_every: int = setting(MISSING, AT_LEAST_1, "steps between checkpoints")
    keep: int = setting(2, AT_LEAST_1, "newest checkpoints kept; 2: should one be damaged, there is another")
    log_every: int = setting(10, AT_LEAST_1, "steps between lines where no terminal shows a bar")
    log: str = setting("", one_of("", "tensorboard"), "also for TensorBoard; empty: metrics.csv is enough")

    def __post_init__(self):
        _check_fields(self, "train")


@dataclass(frozen=True)
class Finetuning:
    """How a task is learned. Fields beyond the first five are those that `learning_rate` and `parameter_groups` read."""

    epochs: int = 10
    batch: int = 32  # texts a step
    lr: float = (
        3e-4  # for models of some million weights; those of a hundred million want 1e-5, as in the original
    )
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
    label_smoothing: float = 0.1  # of text to text only; the original's
    dtype: str = "float32"  # of matrix products; bfloat16 is about twice as fast where the hardware has it
    steps: int = 0  # all of them; known when the rows are counted

    def __post_init__(self):
        for name, fine, accepted in (
            *(
                (name, type(getattr(self, name)) is int and getattr(self, name) >= 1, "a whole number >= 1")
                for name in ("epochs", "batch", "patience")
            ),
            ("lr", 0 < self.lr < math.inf, "a number > 0"),
            *(
                (name, 0 <= getattr(self, name) < 1, "a number >= 0 and < 1")
                for name in ("dropout", "label_smoothing")
            ),
            ("dtype", self.dtype in ("float32", "bfloat16"), "float32 or bfloat16"),
        ):
            if not fine:
                raise MinglmError(f"{name}: {getattr(self, name)} is not accepted; {accepted} is")


# GLMConfig checks itself; model.py knows nothing of settings, so what they are is said here.
MODEL_HELP = {
    "vocab_size": "rows of the token table, special tokens included",
    "hidden_size": "width C of the model",
    "num_layers": "layers",
    "num_heads": "attention heads, a divisor of the width; the presets' are 64 wide, as the original's, and page's 32",
    "max_positions": "tokens of a sample before spans are drawn, cls included",
    "dropout": "on the embedding sum, attention output and MLP output",
    "gelu": "tanh as the original's training code, or erf as its Hugging Face port",
    "family": "what it is trained as: glm, gpt, bert, prefix, or an ablation: glm-ordered, glm-1d, glm-sentinels",
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
        if self.model.max_positions < 4:  # a shorter document is skipped, so every one would be
            raise _refused("model.max_positions", self.model.max_positions, "a whole number >= 4")
        if self.train.batch_tokens < self.model.max_positions:  # a batch holds at least one full sample
            raise _refused(
                "train.batch_tokens",
                self.train.batch_tokens,
                f"a whole number >= model.max_positions ({self.model.max_positions})",
            )


SECTIONS = {"model": GLMConfig, "data": DataConfig, "train": TrainConfig}


class Setting(NamedTuple):
    """One setting: its type, its default (that of the preset tiny), its rule, and what it is."""

    type: Any
    default: Any
    rule: Rule
    help: str

    @property
    def accepted(self) -> str:
        """What is accepted, e.g. "a number > 0"."""
        return f"{TYPE_WORDS[self.type]} {self.rule.words}".strip()


@functools.cache
def keys() -> Mapping[str, Setting]:
    """All settings by dotted key, section by section, e.g. `keys()["train.lr"].type` -> float."""
    found = {}
    for section, kind in SECTIONS.items():
        types = get_type_hints(kind)
        for f in fields(kind):
            default = PRESETS["tiny"].get(section, {}).get(f.name, f.default)
            about = f.metadata or {"rule": ANY, "help": MODEL_HELP[f.name]}
            found[f"{section}.{f.name}"] = Setting(types[f.name], default, **about)
    return found


def resolve(
    preset: str | None = None, file: str | Path | None = None, overrides: Mapping[str, Any] | None = None
) -> RunConfig:
    """The settings of a run; `overrides` maps dotted keys to values, or to texts that are converted.

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


# Settings that came later, as every run before them had it: what a preset says of them today is not what such
# a run did.
AS_BEFORE = {"data.samples": "windows", "data.blanks": "budget", "train.optimizer": "adamw"}


def settings_of_run(file: str | Path) -> RunConfig:
    """The settings of a run from its run.toml, also of one that an older version has written."""
    _, given = read_toml(file)
    return resolve(file=file, overrides={key: value for key, value in AS_BEFORE.items() if key not in given})


def to_toml(config: RunConfig) -> str:
    """Every setting as TOML that `resolve(file=...)` reads back to an equal RunConfig; write it as utf-8."""
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
    # JSON's texts and numbers are TOML's too (floats: the shortest digits that give the same float back),
    # but for DEL in a text, which TOML wants escaped
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def read_toml(file) -> tuple[str | None, dict[str, Any]]:
    """The preset that a file names, if any, and its settings by dotted key; every error names the file."""
    wanted = "a TOML file with tables [model], [data], [train] is accepted"
    try:
        text = Path(file).read_bytes().decode().removeprefix("\ufeff")  # Notepad adds a byte order mark
        table = tomllib.loads(text)
        preset = _check_preset(table.pop("preset")) if "preset" in table else None
        values = {}
        for section, group in table.items():
            if section not in SECTIONS and isinstance(group, dict):
                raise _unknown("section", section, difflib.get_close_matches(section, SECTIONS, 1), SECTIONS)
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
    except (ValueError, RecursionError) as error:  # besides TOMLDecodeError: a whole number of 5,000 digits
        raise MinglmError(f"{file}: not TOML: {error}; {wanted}") from None
    return preset, values


def _check_preset(preset) -> str:
    if isinstance(preset, str) and preset in PRESETS:
        return preset
    raise _unknown("preset", preset, difflib.get_close_matches(str(preset), PRESETS, 1), PRESETS)


def _check_fields(config, section: str) -> None:
    for f in fields(config):
        object.__setattr__(config, f.name, _accept(f"{section}.{f.name}", getattr(config, f.name)))


def _accept(key: str, value):
    """`value` as the setting keeps it (1 as 1.0 where a float is due, a list as a tuple), or an error."""
    if key not in keys():
        raise _unknown_setting(key)
    kind, kept = keys()[key].type, value
    if kind is float and type(value) is int and abs(value) < 2**1023:  # a larger one might be no float
        kept = float(value)
    elif kind == tuple[str, ...] and isinstance(value, str | list):
        kept = (value,) if isinstance(value, str) else tuple(value)  # subtle: a lone text is one name
    if _has_type(kept, kind) and keys()[key].rule.test(kept):
        return kept
    raise _refused(key, value, keys()[key].accepted)


def _parse(key: str, value):
    """A text from the command line as the setting's type; what does not convert, `_accept` refuses."""
    kind = keys()[key].type if key in keys() else str
    if isinstance(value, str) and kind is bool:
        return {"true": True, "false": False}.get(value.lower(), value)
    try:
        return kind(value) if isinstance(value, str) and kind in (int, float) else value
    except ValueError:
        return value


# What nanoGPT, Hugging Face and the original call them, where spelling alone would not lead here.
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
    """The error that names the nearest setting: the same or another tool's word, else the spelling."""
    last = key.rpartition(".")[2].replace("-", "_")
    last = OTHER_NAMES.get(last, last)
    near = [known for known in keys() if known.endswith(f".{last}")]
    near = near or difflib.get_close_matches(key, [*keys(), "preset"], 1, cutoff=0.75)
    if not near:
        names = difflib.get_close_matches(last, [known.rpartition(".")[2] for known in keys()], 1)
        near = [known for known in keys() if known.rpartition(".")[2] in names]
    return _unknown("setting", key, near, ["what --print-config lists"])


def _unknown(what: str, came, near: list[str], accepted) -> MinglmError:
    rest = f"did you mean {' or '.join(near)}?" if near else f"accepted: {', '.join(accepted)}"
    return MinglmError(f"unknown {what} {_shown(came)}; {rest}")
