"""The folder of a run: how it is named, locked, started and resumed."""

import re
import shutil
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import torch

from ..data.hub import is_hub
from ..errors import MinglmError, note
from ..files.checkpoint import CONFIG, TOKENIZER, WEIGHTS, Checkpoints
from ..files.lock import claimed, contents, locked
from .config import read_toml, resolve, settings_of_run

SETTINGS, METRICS, SAMPLES, REPORT = "run.toml", "metrics.csv", "samples.jsonl", "evaluation.json"


@contextmanager
def folder_of(out, preset, world, resume):
    """The run folder, locked until the block ends; the same one in all processes of `world`."""
    with ExitStack() as stack:
        if world.first:
            folder = stack.enter_context(locked(run_folder(out)) if resume else begun(out, preset))
        if out is not None:
            folder = Path(out)
        elif world.size > 1:
            number = torch.tensor([int(folder.name.rpartition("-")[2]) if world.first else 0])
            world.broadcast(number)
            folder = Path("runs", f"{preset}-{int(number):03}")
        yield folder


@contextmanager
def begun(out, name):
    """A new folder, locked; what is left of a run that ended before its first checkpoint is removed."""
    with claimed(out, name) as folder:
        clear_unbegun(folder)
        if names := contents(folder):
            what = f"holds other files ({names[0]}, ...)"
            if SETTINGS in names:
                what = "holds another run; --resume continues it"
            raise MinglmError(f"{folder}: {what}; a new run needs a new or empty folder")
        try:
            yield folder
        finally:
            clear_unbegun(folder)


def clear_unbegun(folder):
    """Empty a folder that holds nothing but the beginning of a run that cannot be resumed (no run.toml)."""
    checkpoints, names = folder / "checkpoints", contents(folder)
    own = "|".join((WEIGHTS, CONFIG, TOKENIZER))
    ours = all(re.fullmatch(rf"(\.tmp-)?({own})|checkpoints|\..*\.part", name) for name in names)
    ours = ours and checkpoints.is_dir()
    if ours and all(re.fullmatch(BEGINNING, path.name) for path in checkpoints.iterdir()):
        shutil.rmtree(checkpoints, ignore_errors=True)
        for name in names:
            with suppress(OSError):
                (folder / name).unlink()


BEGINNING = r"(\.tmp-|\.old-)?(last|best|step-00000000)"  # names in checkpoints/ before the first step


def has_begun(out):
    """Whether there is a checkpoint, or at least a step in metrics.csv; if not, the run starts anew."""
    checkpoints = Checkpoints(out)
    if checkpoints.steps() or checkpoints.pointed("last"):
        return True
    metrics = out / METRICS
    return metrics.is_file() and metrics.read_bytes().count(b"\n") > 1


def run_folder(out):
    """The same folder; raises MinglmError if it holds no run."""
    if not (Path(out) / SETTINGS).is_file():
        what = f"no {SETTINGS} in it, so there is no run to resume"
        raise MinglmError(f"{out}: {what}; give the folder of a run")
    return out


def data_text(config):
    """The paths of data.text, absolute; names on the hub as they are."""
    return tuple(str(p) if is_hub(p) else str(Path(p).resolve()) for p in config.data.text)


def run_settings(out):
    """The RunConfig that a run folder was started with."""
    return settings_of_run(Path(run_folder(out)) / SETTINGS)


# Settings that are decided once, when a run starts: on --resume, the original value may be given again.
DECIDED = {
    "train.dtype": lambda new, own: new == "auto",
    "train.minutes": lambda new, own: own == 0,  # they became train.steps
    "model.vocab_size": lambda new, own: new > own,  # there was too little text for more
}


# Settings that may change between a run and its continuation; what is learned stays the same.
MOVABLE = ("data.text", "data.cache", "data.processes", "train.shard", "train.workers")


def resumed_settings(out, overrides, preset=None, file=None):
    """The RunConfig of a resumed run. Settings that are given again must be the run's own.

    Only those of MOVABLE may have changed (`Run` checks that it is the same text).
    Raises MinglmError for any other difference, with both values.
    """
    own = run_settings(out)
    file_preset, from_file = read_toml(file) if file else (None, {})
    overrides = from_file | overrides
    new = resolve(preset or file_preset, Path(out) / SETTINGS, overrides)
    if new.preset != own.preset:
        raise _differs("preset", new.preset, own.preset, out)
    for key in overrides:
        section, name = key.split(".")
        new_value, own_value = (getattr(getattr(config, section), name) for config in (new, own))
        if new_value == own_value or key in MOVABLE:
            continue
        if key not in DECIDED or not DECIDED[key](new_value, own_value):
            raise _differs(key, new_value, own_value, out)
        result = f"train.steps {own.train.steps:,}" if key == "train.minutes" else own_value
        note(f"{key}: {new_value} was decided when the run began: {result}")
    data = replace(own.data, text=new.data.text, cache=new.data.cache, processes=new.data.processes)
    train = replace(own.train, shard=new.train.shard, workers=new.train.workers)
    return replace(own, data=data, train=train)


def _differs(key, new, own, out):
    what = f"{key}: {new} is given, and {out} was started with {own}"
    return MinglmError(f"{what}; a resumed run keeps its settings: leave it out, or give the same")
