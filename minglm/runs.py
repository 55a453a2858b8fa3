"""Which model a command means, and what the next run is called: folders under ./runs."""

from pathlib import Path

from .errors import MinglmError, note


def load(directory):
    """(GLM, Tokenizer) of a folder, or of the newest run; stderr says which."""
    if directory is None:
        directory = newest_run()
        note(f"the model is {directory}")
    return read_model(directory)


def read_model(directory):
    """(GLM, Tokenizer) of a model folder, or of a run folder's last checkpoint."""
    from .checkpoint import model_folder
    from .model import GLM
    from .tokenizer import Tokenizer

    folder = model_folder(directory)
    return GLM.from_pretrained(folder), Tokenizer.from_pretrained(folder)


def newest_run(runs=Path("runs")):
    """The newest finished run under ./runs, else the newest that has saved a step; MinglmError when there is none."""
    found = [p for p in runs.glob("*") if (p / "model.safetensors").is_file()]
    finished = [p for p in found if (p / "evaluation.json").is_file()]
    if not found:
        raise MinglmError(f"--model: no run in {runs.resolve()}; train one with `minglm pretrain`, or give --model DIR")
    return max(finished or found, key=lambda p: (p / "model.safetensors").stat().st_mtime)


def next_run(preset, runs=Path("runs")):
    """The next free name runs/PRESET-NNN."""
    taken = [int(p.name[len(preset) + 1 :]) for p in runs.glob(f"{preset}-*") if p.name[len(preset) + 1 :].isdigit()]
    return runs / f"{preset}-{max(taken, default=0) + 1:03}"
