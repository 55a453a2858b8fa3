"""Models and training states on disk, so that a kill or a full disk costs only the last few steps.

    a saved model    model.safetensors  config.json  tokenizer.json  manifest.json (sizes and SHA-256 sums)
    a checkpoint     the same, and state.pt: everything else that training needs to resume
    a run folder     checkpoints/step-00000100/ ...      one checkpoint each
                     checkpoints/last, checkpoints/best  text files that name one of them
                     model.safetensors  config.json  tokenizer.json: those of `last`

Every folder is written under a temporary name next to its own, synced, and renamed. Loading a file never runs
code from it: weights are safetensors or npz, and torch files are read with weights_only=True.
"""

import json
import os
import re
import shutil
import threading
from contextlib import suppress
from dataclasses import asdict, fields
from pathlib import Path

import safetensors.torch
import torch

from ..errors import MinglmError, first_line, listed, note
from ..model_config import GLMConfig
from .lock import contents
from .strict_json import read_json
from .weights import build_model, check_plain, unwrapped
from .whole import MANIFEST, aside, folder_whole, one_line, recover, remove, settled, sha256_of, sync_path

WEIGHTS, CONFIG, TOKENIZER, STATE = "model.safetensors", "config.json", "tokenizer.json", "state.pt"
LOADING = threading.Lock()  # torch keeps one list of allowed classes for all threads
FORMAT = 1  # version of config.json; a reader refuses versions that it does not know


# ---- a saved model ---------------------------------------------------------------------------------------


def save_pretrained(model, directory, tokenizer=None, more=None, dtype=torch.float32):
    """Write a model (and its tokenizer) as a folder, atomically. more: {name: text} of further files.

    dtype: of the weights in the file; float16 halves it, and loading gives float32 in any case.
    An empty folder or a saved model of that name is replaced; a folder with anything else is an error.
    """
    directory = Path(os.path.realpath(directory))
    with one_line(f"cannot write {directory}"):
        names = {*contents(directory)} if directory.exists() else set()
        strange = names - {WEIGHTS, CONFIG, TOKENIZER, MANIFEST} if WEIGHTS in names else names
        if strange:
            accepted = "accepted: a new name, an empty folder, or a saved model to replace"
            raise MinglmError(f"{directory}: holds {listed(sorted(strange))}; {accepted}")
        with folder_whole(directory) as folder:
            _write_model(folder, model, tokenizer, dtype)
            for name, text in (more or {}).items():
                (folder / name).write_text(text, encoding="utf-8")


def from_pretrained(kind, directory, device="cpu"):
    """A model of class `kind` (GLM) in eval mode: a saved model, or the `last` checkpoint of a run folder."""
    folder = model_folder(directory)
    with one_line(f"cannot read {folder}"):
        config, path = read_config(folder / CONFIG), folder / WEIGHTS
        return build_model(kind, config, read_safetensors(path), path, device)


def model_folder(directory):
    """The folder that `from_pretrained` reads; it also has the tokenizer.json that belongs to the weights.

    Every file is compared with manifest.json first; a folder without one causes a note on stderr.
    """
    folder, run = settled(Path(directory)), Checkpoints(directory)
    with one_line(f"cannot read {directory}"):
        if run.steps() or run.pointed("last"):
            return run.verified("last")
        for name in (WEIGHTS, CONFIG):
            if not (folder / name).is_file():
                accepted = f"a folder with {WEIGHTS} and {CONFIG}, or a run folder"
                raise MinglmError(f"{folder / name}: not found; accepted: {accepted}")
        if not verify(folder):
            note(f"{folder}: no {MANIFEST}, so it is loaded unchecked")
        return folder


def read_config(path):
    """The GLMConfig in a config.json; unknown or missing keys and wrong types are errors."""
    values = read_json(path)
    kind, version = values.pop("model_type", None), values.pop("format", None)
    if kind != "minglm":
        accepted = 'accepted: "minglm" (weights of the original code: GLM.from_original)'
        raise MinglmError(f"{path}: model_type is {kind!r}; {accepted}")
    if version != FORMAT:
        raise MinglmError(f"{path}: format is {version!r}; accepted: {FORMAT}")
    wanted = {field.name for field in fields(GLMConfig)}
    problems = {"unknown": values.keys() - wanted, "missing": wanted - values.keys() - {"family"}}
    for problem, names in problems.items():
        if names:
            accepted = listed(sorted(wanted))
            raise MinglmError(f"{path}: {problem} {listed(sorted(names))}; accepted: {accepted}")
    try:
        return GLMConfig(**values)
    except (TypeError, ValueError) as error:
        raise MinglmError(f"{path}: {error}") from error


def verify(directory):
    """Compare a folder with its manifest.json: False if it has none; any difference is an error."""
    path = directory / MANIFEST
    if not path.exists():
        return False
    files = read_json(path)
    try:
        files = {name: (int(entry["bytes"]), str(entry["sha256"])) for name, entry in files.items()}
    except (KeyError, TypeError, ValueError):
        files = {}
    if not {WEIGHTS, CONFIG} <= files.keys() or any(Path(name).name != name for name in files):
        raise MinglmError(f"{path}: damaged: it must give bytes and sha256 of {WEIGHTS} and {CONFIG}")
    for name, (size, sha256) in files.items():
        file = directory / name
        if not file.is_file():
            raise MinglmError(f"{file}: not found, though {MANIFEST} lists it")
        actual = file.stat().st_size
        if actual < size:
            raise MinglmError(f"{file}: {actual:,} of {size:,} bytes: cut short; copy it again")
        if actual > size or sha256_of(file) != sha256:
            what = f"{actual:,} bytes for {size:,}" if actual > size else f"checksum differs from {MANIFEST}"
            raise MinglmError(f"{file}: {what}: damaged, or changed after it was saved")
    return True


def _write_model(folder, model, tokenizer, dtype=torch.float32, weights=None):
    if weights is None:
        model = unwrapped(model)
        check_plain(model)
        state = model.state_dict()
        weights = {name: weight.to("cpu", dtype).contiguous() for name, weight in state.items()}
        (folder / WEIGHTS).write_bytes(safetensors.torch.save(weights, metadata={"format": "pt"}))
    else:  # gathered for this: written without a second copy in memory
        safetensors.torch.save_file(weights, folder / WEIGHTS, metadata={"format": "pt"})
    config = {"model_type": "minglm", "format": FORMAT, **asdict(model.config)}
    (folder / CONFIG).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    if tokenizer is not None:
        try:
            tokenizer.save_pretrained(folder)
        except MinglmError as error:
            raise error.__cause__ or error from None  # the error of the disk, without our temporary name


def read_safetensors(path):
    """{name: tensor} of a safetensors file."""
    try:
        return safetensors.torch.load_file(path)
    except Exception as error:  # a damaged header raises SafetensorError, but also KeyError, ValueError, ...
        raise MinglmError(f"{path}: no safetensors file that can be read: {first_line(error)}") from error


def load_plain(path, allowed=(), mmap=False):
    """The dict in a torch file, read without running code. It may contain tensors and plain values.

    allowed: classes and functions that it may also contain, or pairs (class or function, its name there).
    """
    with LOADING, torch.serialization.safe_globals(list(allowed)):
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=mmap)
    if not isinstance(state, dict):
        raise TypeError(f"holds a {type(state).__name__}; accepted: a dict")
    return state


# ---- checkpoints of a run --------------------------------------------------------------------------------


class Checkpoints:
    """The checkpoints of a run folder: run_dir/checkpoints/step-00000100/ and so on.

    keep: how many of the newest to keep; `last` and `best` always stay. One process writes, others may read.
    """

    def __init__(self, run_dir, keep=2):
        if keep < 1:
            raise MinglmError(f"keep: {keep} given; accepted: at least 1 checkpoint")
        self.run_dir, self.folder, self.keep = Path(run_dir), Path(run_dir) / "checkpoints", keep

    def save(self, step, model, tokenizer, state, best=False, weights=None):
        """Write a checkpoint, point `last` (and `best`) to it, remove old ones -> its folder.

        state: what training needs besides the weights: tensors, numbers, strings, None, and dicts, lists and
        tuples of them. weights: {name: tensor}, if the model's own are sharded. If the disk fails, earlier
        checkpoints stay untouched; the error names the last one.
        """
        _check_plain(state)
        directory = self.folder / f"step-{step:08d}"
        with one_line(f"cannot write {directory}", self._last_complete):
            self._sweep()
            with folder_whole(directory) as folder:
                _write_model(folder, model, tokenizer, weights=weights)
                with open(folder / STATE, "wb") as file:
                    torch.save(state, file)
            # subtle: `best` first. After a kill in between, a resume from the old `last` gets here again.
            for pointer in ("best", "last") if best else ("last",):
                self._point(pointer, directory)
            self._publish(directory)
            self._prune(step)
        return directory

    def load_state(self, which="last", mmap=False):
        """(folder, state) of checkpoint "last", "best" or a step number, after every file was verified.

        mmap: leave the tensors in the file until they are used, so that processes share them.
        """
        directory = self.verified(which)
        try:
            return directory, load_plain(directory / STATE, mmap=mmap)
        except Exception as error:  # a damaged or hostile file can raise nearly anything
            what = f"no training state that is safe to read: {first_line(error)}{self._another(directory)}"
            raise MinglmError(f"{directory / STATE}: {what}") from error

    def steps(self):
        """The steps with a complete checkpoint, ascending."""
        names = {entry.name.removeprefix(".old-") for entry in self._entries()}
        return sorted(int(name[5:]) for name in names if re.fullmatch(r"step-\d{8,18}", name))

    def pointed(self, pointer):
        """The contents of the file `last` or `best`, or None."""
        path = self.folder / pointer
        return path.read_text(encoding="utf-8", errors="replace").strip() if path.is_file() else None

    def verified(self, which="last"):
        """The folder of checkpoint "last", "best" or a step number, after every file was verified."""
        name = f"step-{which:08d}" if isinstance(which, int) else self.pointed(which)
        if name is None and which == "last" and self.steps():  # the first pointer was never written
            name = f"step-{self.steps()[-1]:08d}"
        if name is None:
            raise MinglmError(f"{self.folder / which}: not found; accepted: a folder with a checkpoint")
        is_step = re.fullmatch(r"step-\d{8,18}", name)  # not an arbitrary path
        directory = settled(self.folder / (name if is_step else "no-such-step"))
        with one_line(f"cannot read {directory}"):
            try:
                if not directory.is_dir():
                    raise MinglmError(f"{self.folder / str(which)}: there is no checkpoint {name[:40]!r}")
                if not verify(directory):
                    raise MinglmError(f"{directory / MANIFEST}: not found")
            except MinglmError as error:
                raise MinglmError(f"{error}{self._another(directory)}") from error
        return directory

    def _another(self, damaged):
        """Advice for a damaged checkpoint: another one that is complete, and how to resume from it."""
        bad = int((re.search(r"\d{8,18}$", damaged.name) or ["-1"])[0])
        older_first = sorted(self.steps(), key=lambda step: (step < bad, step), reverse=True)
        for step in older_first:
            with suppress(MinglmError, OSError):
                if step != bad and verify(settled(self.folder / f"step-{step:08d}")):
                    age = "an older" if step < bad else "another"
                    cure = f"write step-{step:08d} into {self.folder / 'last'} to go on from it"
                    return f"; {age} complete checkpoint is there: {cure}"
        return "; no other complete checkpoint is there"

    def _last_complete(self):
        with suppress(MinglmError):
            return f"; the last complete checkpoint is {self.verified('last')}"
        return "; there is no complete checkpoint yet"

    def _entries(self):
        return list(self.folder.iterdir()) if self.folder.is_dir() else []

    def _sweep(self):
        """Clean up after a kill during an earlier save."""
        for entry in self._entries():
            if entry.name.startswith((".tmp-", ".old-")):
                recover(self.folder / entry.name[5:])

    def _point(self, pointer, directory):
        temporary = self.folder / f".tmp-{pointer}"
        try:
            temporary.write_text(directory.name + "\n", encoding="utf-8")
            sync_path(temporary)
            os.replace(temporary, self.folder / pointer)
            sync_path(self.folder)
        finally:
            remove(temporary)

    def _publish(self, directory):
        """Put a checkpoint's files into the run folder: as hard links if possible, else as copies."""
        for name in (WEIGHTS, CONFIG, TOKENIZER):
            source, temporary = directory / name, self.run_dir / f".tmp-{name}"
            remove(temporary)  # subtle: copying onto a link left by a kill would change its target
            if not source.exists():
                continue
            try:
                try:
                    os.link(source, temporary)
                except OSError:
                    shutil.copyfile(source, temporary)
                    sync_path(temporary)
                os.replace(temporary, self.run_dir / name)
            finally:
                remove(temporary)
        sync_path(self.run_dir)

    def _prune(self, now):
        # Later steps were abandoned when the run resumed from an earlier one: they are removed first.
        newest_first = sorted(self.steps(), key=lambda step: (step <= now, step), reverse=True)
        for step in newest_first[self.keep :]:
            directory = self.folder / f"step-{step:08d}"
            if directory.name not in (self.pointed("last"), self.pointed("best")):
                temporary = aside(directory)[0]
                with suppress(OSError):
                    # a kill must not leave an incomplete folder under this name
                    os.rename(directory, temporary)
                remove(temporary)


def _check_plain(value, where="state"):
    """Raise TypeError at saving for what could not be read when resuming."""
    if isinstance(value, dict):
        for key, item in value.items():
            _check_plain(key, f"a key of {where}")
            _check_plain(item, f"{where}[{key!r}]")
    elif type(value) in (list, tuple):
        for index, item in enumerate(value):
            _check_plain(item, f"{where}[{index}]")
    elif type(value) not in (str, int, float, bool, bytes, type(None), torch.Tensor, torch.nn.Parameter):
        raise TypeError(f"{where} is a {type(value).__name__}, which could not be read back")
