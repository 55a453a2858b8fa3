"""Which model a command uses: a folder, the newest run under ./runs, or the bundled model."""

import json
from pathlib import Path

from ..errors import MinglmError, note

BOX = Path(__file__).parents[1] / "box"  # the bundled model
# the small Chinese model, which no package contains: a folder of the user's, or that of a clone
CHINESE = (Path("box-zh"), BOX.parents[1] / "tutorials" / "box-zh")
# one network that learned minglm/data/toy.py as each of these families
SIBLINGS = {family: BOX.parent / "siblings" / family for family in ("glm", "gpt", "bert")}


def load(directory):
    """(GLM, Tokenizer) of a folder; if None, of the default model, which a note on stderr names."""
    if directory is None:
        for folder in foreign_models():
            note(f"{folder} is passed over: its config.json is not one of minglm")
        directory = the_model()
        note(f"the model is {directory}" + (f": {ABOUT_THE_BOX}" if directory == BOX else ""))
    return read_model(directory)


ABOUT_THE_BOX = (
    "the tiny one that comes with minglm, because there is no run in ./runs; it has read simple stories, "
    "everyday sentences and little else (`minglm pretrain` trains your own)"
)


def named(name):
    """The folder, a str, that --model names: box is the bundled model, box-zh the Chinese one.

    Raises MinglmError if there is no folder of the Chinese model.
    """
    if name == "box-zh":
        folder = next((path for path in CHINESE if path.is_dir()), None)
        if folder is None:
            recipe = "download tutorials/box-zh of the repository, or run tutorials/box_zh.py"
            raise MinglmError(f"box-zh: no such folder; the Chinese model comes separately: {recipe}")
        return str(folder)
    return str(BOX) if name == "box" else name


def the_model():
    """The default model's folder: the newest run, or else the bundled model."""
    return newest_run() or BOX


def read_model(directory):
    """(GLM, Tokenizer) of a model folder, or of a run folder's last checkpoint; their sizes are checked."""
    from ..checks import check_pair
    from ..data.tokenizer import Tokenizer
    from ..files.checkpoint import model_folder
    from ..model import GLM

    folder = model_folder(directory)
    model, tokenizer = GLM.from_pretrained(folder), Tokenizer.from_pretrained(folder)
    check_pair(model, tokenizer)
    return model, tokenizer


def read_siblings():
    """({family: GLM}, their Tokenizer) of the three siblings."""
    pairs = {family: read_model(folder) for family, folder in SIBLINGS.items()}
    return {family: model for family, (model, _) in pairs.items()}, pairs["glm"][1]


def newest_run(runs=Path("runs")):
    """The newest finished run under ./runs, else the newest that has saved a step, else None."""
    ours = [p for p in with_weights(runs) if is_ours(p)]
    finished = [p for p in ours if (p / "evaluation.json").is_file()]
    return max(finished or ours, key=lambda p: (p / "model.safetensors").stat().st_mtime, default=None)


def foreign_models(runs=Path("runs")):
    """The folders under ./runs with a model of another program (Hugging Face uses the same file name)."""
    return sorted(p for p in with_weights(runs) if not is_ours(p))


def with_weights(runs):
    """The folders under `runs` that hold weights."""
    return [p for p in runs.glob("*") if (p / "model.safetensors").is_file()]


def is_ours(folder):
    """Whether the config.json of a folder marks its model as one of minglm's."""
    try:
        config = json.loads((folder / "config.json").read_bytes())
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(config, dict) and config.get("model_type") == "minglm"
