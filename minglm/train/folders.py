"""The folder of a run: how it is named, claimed, begun and gone on with."""

import re
import shutil
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import torch

from ..errors import MinglmError, note
from ..files.checkpoint import CONFIG, TOKENIZER, WEIGHTS, Checkpoints
from ..files.lock import claimed, contents, locked
from .config import read_toml, resolve, settings_of_run

SETTINGS, METRICS, SAMPLES, REPORT = "run.toml", "metrics.csv", "samples.jsonl", "evaluation.json"


@contextmanager
def folder_of(out, preset, world, resume):
    """The run folder, which no other process may write to until the block ends; all processes of `world` get the same."""
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
    """A new folder for this process alone, without what a run has left there that ended before its first checkpoint."""
    with claimed(out, name) as folder:
        clear_unbegun(folder)
        if found := contents(folder):
            another = "holds another run; --resume goes on with it"
            what = another if SETTINGS in found else f"holds other files ({found[0]}, ...)"
            raise MinglmError(f"{folder}: {what}; a new run needs a new or empty folder")
        try:
            yield folder
        finally:
            clear_unbegun(folder)


def clear_unbegun(folder):
    """Remove what is in a folder if all of it is the beginning of a run that cannot be resumed, for it has no run.toml."""
    checkpoints, found = folder / "checkpoints", contents(folder)
    own = "|".join((WEIGHTS, CONFIG, TOKENIZER))
    ours = all(re.fullmatch(rf"(\.tmp-)?({own})|checkpoints|\..*\.part", name) for name in found)
    if (
        ours
        and checkpoints.is_dir()
        and all(re.fullmatch(BEGINNING, path.name) for path in checkpoints.iterdir())
    ):
        shutil.rmtree(checkpoints, ignore_errors=True)
        for name in found:
            with suppress(OSError):
                (folder / name).unlink()


BEGINNING = r"(\.tmp-|\.old-)?(last|best|step-00000000)"  # of checkpoints/: no step has been done yet


def has_begun(out):
    """Whether there is a checkpoint to go on with; without one, a run that has done no step begins again."""
    checkpoints = Checkpoints(out)
    if checkpoints.steps() or checkpoints.pointed("last"):
        return True
    metrics = out / METRICS
    return metrics.is_file() and metrics.read_bytes().count(b"\n") > 1


def run_folder(out):
    """The same folder, if it holds a run."""
    if not (Path(out) / SETTINGS).is_file():
        raise MinglmError(
            f"{out}: no {SETTINGS} in it, so there is no run to resume; give the folder of a run"
        )
    return out


def data_text(config):
    """The paths of data.text, as they are found from everywhere."""
    return tuple(str(Path(p).resolve()) for p in config.data.text)


def run_settings(out):
    """The RunConfig that a run folder was started with."""
    return settings_of_run(Path(run_folder(out)) / SETTINGS)


# Settings that a run decides once, when it begins: the same words on --resume mean what came of them.
DECIDED = {
    "train.dtype": lambda said, own: said == "auto",
    "train.minutes": lambda said, own: own == 0,  # they became train.steps
    "model.vocab_size": lambda said, own: said > own,  # too little text for more
}


def resumed_settings(out, overrides, preset=None, file=None):
    """The RunConfig of a run that goes on. What is given again must be the run's own.

    Text may be elsewhere now (`Run` sees to it that it is the same), and so may the cache. Raises MinglmError
    for any other difference, with both values.
    """
    own = run_settings(out)
    file_preset, from_file = read_toml(file) if file else (None, {})
    overrides = from_file | overrides
    said = resolve(preset or file_preset, Path(out) / SETTINGS, overrides)
    if said.preset != own.preset:
        raise _differs("preset", said.preset, own.preset, out)
    for key in overrides:
        section, name = key.split(".")
        given, kept = (getattr(getattr(config, section), name) for config in (said, own))
        if given == kept or key in ("data.text", "data.cache"):
            continue
        if key not in DECIDED or not DECIDED[key](given, kept):
            raise _differs(key, given, kept, out)
        came = f"train.steps {own.train.steps:,}" if key == "train.minutes" else kept
        note(f"{key}: {given} was decided when the run began: {came}")
    return replace(own, data=replace(own.data, text=said.data.text, cache=said.data.cache))


def _differs(key, said, own, out):
    what = f"{key}: {said} is given, and {out} was started with {own}"
    return MinglmError(f"{what}; a resumed run keeps its settings: leave it out, or give the same")
