"""Which model a command means, and what the next run is called: folders under ./runs, and the model in the box."""

from pathlib import Path

from .errors import note

BOX = Path(__file__).with_name("box")  # a model that comes with minglm


def load(directory):
    """(GLM, Tokenizer) of a folder, of the newest run, or of the box; stderr says which."""
    if directory is None:
        directory = the_model()
        note(f"the model is {directory}" + (f": {ABOUT_THE_BOX}" if directory == BOX else ""))
    return read_model(directory)


ABOUT_THE_BOX = (
    "the tiny one that comes with minglm, because there is no run in ./runs; it has read simple stories and knows little else "
    "(`minglm pretrain` trains your own)"
)


def the_model():
    """The folder that is meant where none is named: the newest run's, else the box."""
    return newest_run() or BOX


def read_model(directory):
    """(GLM, Tokenizer) of a model folder, or of a run folder's last checkpoint."""
    from .checkpoint import model_folder
    from .model import GLM
    from .tokenizer import Tokenizer

    folder = model_folder(directory)
    return GLM.from_pretrained(folder), Tokenizer.from_pretrained(folder)


def newest_run(runs=Path("runs")):
    """The newest finished run under ./runs, else the newest that has saved a step, else None."""
    found = [p for p in runs.glob("*") if (p / "model.safetensors").is_file()]
    finished = [p for p in found if (p / "evaluation.json").is_file()]
    return max(finished or found, key=lambda p: (p / "model.safetensors").stat().st_mtime, default=None)


def next_run(preset, runs=Path("runs")):
    """The next free name runs/PRESET-NNN."""
    taken = [int(p.name[len(preset) + 1 :]) for p in runs.glob(f"{preset}-*") if p.name[len(preset) + 1 :].isdigit()]
    return runs / f"{preset}-{max(taken, default=0) + 1:03}"
