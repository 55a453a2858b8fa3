"""What the recipes of the two models, box.py and box_zh.py, share."""

import json
import re
import shutil
import sys

import torch

from minglm.cli import main
from minglm.errors import MinglmError
from minglm.files.checkpoint import save_pretrained
from minglm.files.whole import write_whole
from minglm.use.models import read_model

FINISHED = "evaluation.json"  # the last file that pretraining writes


def next_command(run, words):
    """The `minglm pretrain` command that starts a run with these settings or goes on with it, or None."""
    if (run / FINISHED).is_file():
        return None
    if (run / "run.toml").is_file():
        return ["pretrain", "--out", str(run), "--resume"]
    return ["pretrain", *words, "--out", str(run)]


def pretrain(next_command):
    """Run the `minglm pretrain` commands that next_command() gives, until it gives None or one fails."""
    while words := next_command():
        if code := main(words):
            sys.exit(code)


def write_documents(path, documents):
    """Write one document per line and print how many they are."""
    lines = (json.dumps({"text": text}, ensure_ascii=False) + "\n" for text in documents)
    write_whole(path, "".join(lines))
    print(f"wrote       {path}: {len(documents):,} documents, {sum(map(len, documents)):,} characters")


def settings_of(run, **names):
    """The run.toml of a run, where its text and tokenizer are called as told, wherever they were."""
    settings = (run / "run.toml").read_text(encoding="utf-8")
    for key, value in names.items():
        settings = re.sub(f"(?m)^{key} = .*?(?=  #)", f"{key} = {json.dumps(value)}", settings)
    return settings


def check_finished(run):
    """Raise MinglmError unless pretraining of this run has come to its end."""
    if not (run / FINISHED).is_file():
        raise MinglmError(f"{run}: no {FINISHED}; a finished run is needed (the recipe without --ship)")


def ship(run, folder, records, by_hand=("ORIGIN.md",)):
    """Make the run the model in `folder`, in float16, with records {name: text} and the files `by_hand`."""
    model, tokenizer = read_model(run)
    kept = {name: (folder / name).read_text(encoding="utf-8") for name in by_hand}
    records = {FINISHED: (run / FINISHED).read_text(encoding="utf-8")} | records | kept
    new = folder.with_name(f"{folder.name}.new")
    shutil.rmtree(new, ignore_errors=True)  # of an attempt before
    save_pretrained(model, new, tokenizer, records, torch.float16)
    shutil.rmtree(folder)
    new.rename(folder)
    print(f"wrote       {folder}: {sum(f.stat().st_size for f in folder.iterdir()):,} bytes")
