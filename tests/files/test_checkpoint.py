"""Models on disk: what is saved is loaded bit for bit, and disk failures are not fatal."""

import errno
import itertools
import json
import os
import pathlib
import pickle
import random
import re
import shutil
import signal
import time
import traceback
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from conftest import python
from hypothesis import given, settings
from hypothesis import strategies as st

from minglm.errors import MinglmError
from minglm.files import checkpoint, whole
from minglm.files import weights as weights_module
from minglm.files.checkpoint import Checkpoints, save_pretrained
from minglm.model import GLM, GLMConfig

from_pretrained = GLM.from_pretrained

HERE = Path(__file__).parent
TINY = GLMConfig(vocab_size=40, hidden_size=8, num_layers=2, num_heads=2, max_positions=10)


class FakeTokenizer:
    def __init__(self, vocab_size=40):
        self.vocab_size = vocab_size

    def save_pretrained(self, directory):
        (Path(directory) / "tokenizer.json").write_text('{"any": "tokenizer"}')


def filled(value, config=TINY):
    """A model in which every weight is `value`, which identifies a save."""
    model = GLM(config)
    with torch.no_grad():
        for weight in model.parameters():
            weight.fill_(value)
    return model


def value_of(model_or_tensors):
    tensors = model_or_tensors if isinstance(model_or_tensors, dict) else model_or_tensors.state_dict()
    values = {float(v) for t in tensors.values() for v in t.unique()}
    assert len(values) == 1, "weights of two saves are mixed"
    return values.pop()


def save(run, value, step=None, keep=2, best=False, size=10):
    step = int(value) if step is None else step
    state = {"value": value, "optimiser": {0: torch.full((size,), float(value))}}
    return Checkpoints(run, keep).save(step, filled(value), FakeTokenizer(), state, best)


def loaded_value(run):
    """The value of the weights, which must be the same everywhere in a run folder."""
    _, state = Checkpoints(run).load_state()
    assert state["optimiser"][0].unique().tolist() == [state["value"]]
    assert value_of(from_pretrained(run)) == state["value"]
    return state["value"]


def leftovers(folder):
    return [str(path) for path in folder.rglob("*") if path.name.startswith((".tmp-", ".old-"))]


def rewrite_manifest(folder):
    """Make the manifest agree with the files again, as after an intended change."""
    sums = {
        p.name: {"bytes": p.stat().st_size, "sha256": whole.sha256_of(p)}
        for p in folder.iterdir()
        if p.name != "manifest.json"
    }
    (folder / "manifest.json").write_text(json.dumps(sums))


def error_of(function, *args, **kwargs):
    with pytest.raises(MinglmError) as caught:
        function(*args, **kwargs)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# ---- a saved model


@settings(max_examples=15)
@given(st.integers(1, 50), *[st.integers(1, 3)] * 2, st.integers(1, 9), st.sampled_from(("tanh", "erf")))
def test_a_saved_model_comes_back_bit_for_bit(tmp_path_factory, vocab, heads, layers, positions, gelu):
    folder = tmp_path_factory.mktemp("m") / "model"
    model = GLM(GLMConfig(vocab, 4 * heads, layers, heads, positions, 0.25, gelu))
    model.save_pretrained(folder, FakeTokenizer(vocab))
    random_state = torch.get_rng_state()
    again = GLM.from_pretrained(folder)
    assert torch.equal(random_state, torch.get_rng_state()), "loading must not draw random numbers"
    assert again.config == model.config and not again.training
    assert again.state_dict().keys() == model.state_dict().keys()
    for name, weight in model.state_dict().items():
        assert torch.equal(weight, again.state_dict()[name]), name
    assert all(p.requires_grad for p in again.parameters())
    files = ["config.json", "manifest.json", "model.safetensors", "tokenizer.json"]
    assert sorted(p.name for p in folder.iterdir()) == files
    assert not leftovers(folder.parent)


def test_the_tied_weight_is_stored_once(tmp_path):
    model = GLM(TINY)
    save_pretrained(model, tmp_path / "m")
    tensors = safetensors.torch.load_file(tmp_path / "m" / "model.safetensors")
    assert sum(t.numel() for t in tensors.values()) == sum(p.numel() for p in model.parameters())
    assert sum(t.shape[0] == TINY.vocab_size for t in tensors.values()) == 1
    assert {t.dtype for t in tensors.values()} == {torch.float32}


def test_a_compiled_or_wrapped_model_is_saved_under_its_own_names(tmp_path):
    class Wrapper(torch.nn.Module):  # like DistributedDataParallel
        def __init__(self, module):
            super().__init__()
            self.module = module

    save_pretrained(Wrapper(torch.compile(filled(3.0))), tmp_path / "m")
    assert value_of(from_pretrained(tmp_path / "m")) == 3.0


def test_a_model_without_parameters_on_the_meta_device_is_whole():
    with torch.device("meta"):
        model = GLM(TINY)
    assert not list(model.buffers()), "from_pretrained would leave buffers empty"


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_weights_of_another_float_type_become_float32(tmp_path, dtype):
    save_pretrained(filled(0.5), tmp_path)
    tensors = safetensors.torch.load_file(tmp_path / "model.safetensors")
    safetensors.torch.save_file({n: t.to(dtype) for n, t in tensors.items()}, tmp_path / "model.safetensors")
    (tmp_path / "manifest.json").unlink()
    model = from_pretrained(tmp_path)
    assert value_of(model) == 0.5 and {p.dtype for p in model.parameters()} == {torch.float32}


def test_whole_numbers_are_no_weights(tmp_path):
    tensors = {name: t.to(torch.int8) for name, t in filled(1).state_dict().items()}
    assert "int8" in error_of(weights_module.load_weights, GLM(TINY), tensors, "here")


def test_a_folder_without_a_manifest_loads_with_one_note(tmp_path, capsys):
    save_pretrained(filled(2), tmp_path / "m")
    from_pretrained(tmp_path / "m")
    assert capsys.readouterr() == ("", "")
    (tmp_path / "m" / "manifest.json").unlink()
    assert value_of(from_pretrained(str(tmp_path / "m"))) == 2
    out, err = capsys.readouterr()
    assert out == "" and re.fullmatch(r"minglm: note: .*no manifest\.json.*\n", err)


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "tokenizer.json", "manifest.json"])
def test_a_flipped_byte_anywhere_is_noticed(tmp_path, name):
    save_pretrained(GLM(TINY), tmp_path / "m", FakeTokenizer())
    path = tmp_path / "m" / name
    good, whole = path.read_bytes(), from_pretrained(tmp_path / "m").state_dict()
    rng = random.Random(name)
    for at in sorted({0, 1, 7, 8, len(good) - 1, *(rng.randrange(len(good)) for _ in range(40))}):
        path.write_bytes(good[:at] + bytes([good[at] ^ 1 << rng.randrange(8)]) + good[at + 1 :])
        if name == "manifest.json":  # some bytes of a manifest do not matter, such as spaces
            try:
                again = from_pretrained(tmp_path / "m").state_dict()
                assert all(torch.equal(whole[n], again[n]) for n in whole)
            except MinglmError:
                pass
        else:
            message = error_of(from_pretrained, tmp_path / "m")
            assert message.startswith(f"{path}: checksum differs from manifest.json: damaged")
    path.write_bytes(good)
    from_pretrained(tmp_path / "m")


@settings(max_examples=80)
@given(st.sampled_from(["model.safetensors", "config.json"]), st.floats(0, 0.4), st.integers(0, 255))
def test_without_a_manifest_damage_is_still_our_error(tmp_path_factory, name, where, byte):
    folder = tmp_path_factory.mktemp("m")
    save_pretrained(GLM(TINY), folder)
    (folder / "manifest.json").unlink()
    data = bytearray((folder / name).read_bytes())
    data[int(where * len(data))] = byte
    (folder / name).write_bytes(data)
    try:
        from_pretrained(folder)
    except MinglmError as error:
        assert str(folder) in str(error) and "\n" not in str(error)


def test_a_file_cut_short_is_named_with_its_sizes(tmp_path):
    save_pretrained(GLM(TINY), tmp_path / "m")
    path = tmp_path / "m" / "model.safetensors"
    data = path.read_bytes()
    for length in (0, 1, 7, 100, len(data) // 2, len(data) - 1):
        path.write_bytes(data[:length])
        message = error_of(from_pretrained, tmp_path / "m")
        assert message.startswith(f"{path}: {length:,} of {len(data):,} bytes: cut short")
        (tmp_path / "m" / "manifest.json").rename(tmp_path / "aside")
        assert str(path) in error_of(from_pretrained, tmp_path / "m")
        (tmp_path / "aside").rename(tmp_path / "m" / "manifest.json")
    path.write_bytes(data + b"x")
    assert "damaged" in error_of(from_pretrained, tmp_path / "m")
    path.unlink()
    assert f"{path}: not found" in error_of(from_pretrained, tmp_path / "m")


@pytest.mark.parametrize(
    "field, value, first",
    [
        ("vocab_size", 41, "token_embedding.weight has shape (40, 8), the config asks for (41, 8)"),
        ("hidden_size", 16, "token_embedding.weight has shape (40, 8), the config asks for (40, 16)"),
        ("max_positions", 9, "position_embedding.weight has shape (11, 8), the config asks for (10, 8)"),
        ("num_layers", 3, "weight layers.2.norm1.weight is missing"),
        ("num_layers", 1, "weight layers.1.norm1.weight is one too many"),
        ("num_layers", 10**9, "weight layers.2.norm1.weight is missing"),
        ("vocab_size", 10**30, "cannot be built"),
        ("hidden_size", 10**18, "cannot be built"),
    ],
)
def test_a_config_of_another_shape_names_the_first_weight(tmp_path, field, value, first):
    save_pretrained(GLM(TINY), tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, field: value}))
    rewrite_manifest(tmp_path)
    assert first in error_of(from_pretrained, tmp_path)


def test_each_missing_weight_is_named_and_each_unknown_one_is_noted(tmp_path, capsys):
    weights = GLM(TINY).state_dict()
    for name in weights:
        rest = {other: t for other, t in weights.items() if other != name}
        assert (
            error_of(weights_module.load_weights, GLM(TINY), rest, "here")
            == f"here: weight {name} is missing"
        )
    more = {**weights, "head.weight": torch.ones(1), "odd": torch.ones(1)}
    weights_module.load_weights(GLM(TINY), more, "here")
    assert (
        capsys.readouterr().err == "minglm: note: here: ignored head.weight, odd: no weights of this model\n"
    )


@pytest.mark.parametrize(
    "change, says",
    [
        ("not json", "not JSON"),
        ("[]", "list"),
        ("", "not JSON"),
        (b"\xff\xfe\xfa", "not JSON"),
        ("[" * 99999, "not JSON"),
        ({"model_type": "glm"}, "from_original"),
        ({"model_type": None}, "model_type"),
        ({"format": 2}, "format is 2"),
        ({"colour": 1}, "unknown colour"),
        ({"gelu": ...}, "missing gelu"),
        ({"vocab_size": ...}, "missing vocab_size"),
        ({"hidden_size": None}, "hidden_size"),
        ({"hidden_size": "8"}, "hidden_size"),
        ({"num_heads": 3}, "hidden_size"),
        ({"num_layers": True}, "num_layers"),
        ({"num_layers": 2.0}, "num_layers"),
        ({"dropout": "much"}, "dropout"),
        ({"dropout": float("nan")}, "dropout"),
        ({"gelu": "relu"}, "gelu"),
        ({"gelu": ["tanh"]}, "gelu"),
    ],
)
def test_a_bad_config_is_one_clear_line(tmp_path, change, says):
    save_pretrained(GLM(TINY), tmp_path)
    path = tmp_path / "config.json"
    if isinstance(change, dict):
        values = {**json.loads(path.read_text()), **change}
        change = json.dumps({key: value for key, value in values.items() if value is not ...})
    path.write_bytes(change if isinstance(change, bytes) else change.encode())
    rewrite_manifest(tmp_path)
    message = error_of(from_pretrained, tmp_path)
    assert message.startswith(str(path)) and says in message


def test_a_path_that_is_no_model_names_what_is_accepted(tmp_path):
    (tmp_path / "file").write_text("x")
    (tmp_path / "empty").mkdir()
    for name in ("nothing", "file", "empty"):
        message = error_of(from_pretrained, tmp_path / name)
        assert str(tmp_path / name) in message and "model.safetensors" in message and "run folder" in message


def test_saving_replaces_a_saved_model_and_nothing_else(tmp_path):
    (tmp_path / "m").mkdir()
    for value in (1, 2):  # an empty folder, then a saved model
        save_pretrained(filled(value), tmp_path / "m", FakeTokenizer())
        assert value_of(from_pretrained(tmp_path / "m")) == value
    save_pretrained(filled(3), tmp_path / "m")  # the old tokenizer is gone
    assert not (tmp_path / "m" / "tokenizer.json").exists()
    (tmp_path / "m" / "thesis.txt").write_text("years of work")
    assert "holds thesis.txt" in error_of(save_pretrained, filled(4), tmp_path / "m")
    (tmp_path / "file").write_text("x")
    assert str(tmp_path / "file") in error_of(save_pretrained, filled(4), tmp_path / "file")
    assert str(tmp_path / "file") in error_of(save_pretrained, filled(4), tmp_path / "file" / "below")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "config.json").write_text("{}")  # some other program's settings
    assert "holds config.json" in error_of(save_pretrained, filled(4), tmp_path / "other")
    assert value_of(from_pretrained(tmp_path / "m")) == 3 and not leftovers(tmp_path)


def test_a_kill_in_the_middle_of_a_replacement_leaves_the_earlier_model(tmp_path):
    save_pretrained(filled(1), tmp_path / "m", FakeTokenizer())
    (tmp_path / "m").rename(tmp_path / ".old-m")
    assert value_of(from_pretrained(tmp_path / "m")) == 1
    assert (checkpoint.model_folder(tmp_path / "m") / "tokenizer.json").exists()
    save_pretrained(filled(2), tmp_path / "m")
    assert value_of(from_pretrained(tmp_path / "m")) == 2 and not leftovers(tmp_path)


# ---- nothing that is loaded runs code


class Evil:
    """An object as in a hostile file: unpickling it runs a command."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


def test_a_hostile_pickle_never_runs(tmp_path):
    mark = tmp_path / "ran"
    pickle.loads(pickle.dumps(Evil(mark)))
    assert mark.exists(), "this test must be able to fail"
    mark.unlink()
    run = tmp_path / "run"
    first, folder = save(run, 10), save(run, 20)
    array = np.empty(1, dtype=object)
    array[0] = Evil(mark)
    for hostile in ({"optimiser": Evil(mark)}, {"optimiser": [Evil(mark)]}, {"array": array}):
        torch.save(hostile, folder / "state.pt")
        rewrite_manifest(folder)
        message = error_of(Checkpoints(run).load_state)
        assert message.startswith(f"{folder / 'state.pt'}: ") and first.name in message
        assert "it asks for" in message and "weights_only" not in message  # torch advises to switch it off
        assert ("_reconstruct" if "array" in hostile else "posix.system") in message
    shutil.copy(folder / "state.pt", folder / "model.safetensors")
    rewrite_manifest(folder)
    error_of(from_pretrained, run)
    assert not mark.exists()


# ---- checkpoints of a run


def test_a_checkpoint_gives_back_the_whole_training_state(tmp_path):
    model, run = GLM(TINY), tmp_path / "runs" / "tiny-001"
    optimiser = torch.optim.AdamW(model.parameters())
    sum(p.square().sum() for p in model.parameters()).backward()
    optimiser.step()
    state = {"optimiser": optimiser.state_dict(), "rng": torch.get_rng_state(), "best": None, "x": (1, "a")}
    folder = Checkpoints(run).save(3, model, FakeTokenizer(), state)
    assert folder == run / "checkpoints" / "step-00000003"
    found, again = Checkpoints(run).load_state()
    assert found == folder and again["x"] == (1, "a") and again["best"] is None
    fresh = torch.optim.AdamW(model.parameters())
    fresh.load_state_dict(again["optimiser"])
    for a, b in zip(optimiser.state.values(), fresh.state.values(), strict=True):
        assert all(torch.equal(a[key], b[key]) for key in a)
    for where in (run, folder):
        loaded = from_pretrained(where).state_dict()
        assert all(torch.equal(weight, loaded[name]) for name, weight in model.state_dict().items())


def test_last_and_best_and_the_newest_stay(tmp_path):
    for step in (0, 10, 20, 30, 40):
        folder = save(tmp_path, step, best=step == 10)
        assert loaded_value(tmp_path) == step
        for name in ("model.safetensors", "config.json", "tokenizer.json"):
            assert (tmp_path / name).read_bytes() == (folder / name).read_bytes()
    runs = Checkpoints(tmp_path)
    assert runs.steps() == [10, 30, 40]
    assert runs.load_state("best")[1]["value"] == 10 and runs.load_state(30)[1]["value"] == 30
    assert (tmp_path / "checkpoints" / "last").read_text() == "step-00000040\n"
    own = ["checkpoints", "config.json", "model.safetensors", "tokenizer.json"]
    assert sorted(p.name for p in tmp_path.iterdir()) == own
    save(tmp_path, 15)  # resumed from step 10: later steps were abandoned, and are removed first
    assert runs.steps() == [10, 15] and loaded_value(tmp_path) == 15
    save(tmp_path, 16, keep=1)
    assert runs.steps() == [10, 16] and not leftovers(tmp_path)


def test_saving_a_step_again_replaces_it(tmp_path):
    save(tmp_path, 10, best=True)
    folder = save(tmp_path, 10.5, step=10)
    assert loaded_value(tmp_path) == 10.5 and Checkpoints(tmp_path).load_state("best")[0] == folder
    assert Checkpoints(tmp_path).steps() == [10] and not leftovers(tmp_path)


def test_a_disk_without_links_gets_copies(tmp_path, monkeypatch):
    def refuse(*_):
        raise PermissionError(errno.EPERM, "links are not possible here")

    save(tmp_path, 10)
    (tmp_path / ".tmp-model.safetensors").hardlink_to(tmp_path / "model.safetensors")  # left by a kill
    monkeypatch.setattr(os, "link", refuse)
    save(tmp_path, 20)
    assert value_of(safetensors.torch.load_file(tmp_path / "model.safetensors")) == 20
    assert Checkpoints(tmp_path).load_state(10)[0].name == "step-00000010" and not leftovers(tmp_path)


def test_a_damaged_checkpoint_is_named_and_so_is_an_older_complete_one(tmp_path):
    older, folder = save(tmp_path, 10), save(tmp_path, 20)
    for name in ("state.pt", "model.safetensors", "config.json"):
        good = (folder / name).read_bytes()
        for bad, says in ((good[:-9], "cut short"), (good[:-9] + b"x" + good[-8:], "checksum differs")):
            (folder / name).write_bytes(bad)
            for load in (Checkpoints(tmp_path).load_state, lambda: from_pretrained(tmp_path)):
                message = error_of(load)
                assert message.startswith(str(folder / name)) and says in message
                assert "an older complete checkpoint is there: write step-00000010" in message
        (folder / name).write_bytes(good)
    (folder / "manifest.json").unlink()
    assert "manifest.json: not found; an older" in error_of(Checkpoints(tmp_path).load_state)
    (tmp_path / "checkpoints" / "last").write_text("step-00000010")  # as the message advises
    assert loaded_value(tmp_path) == 10
    (older / "state.pt").write_bytes(b"")
    assert "no other complete checkpoint" in error_of(Checkpoints(tmp_path).load_state)


@pytest.mark.parametrize("pointer", ["", "step-00000099", "../../secret", "step-1", "\x00", "/", "x" * 5000])
def test_a_pointer_to_nowhere_names_a_complete_checkpoint(tmp_path, pointer):
    save(tmp_path, 10)
    (tmp_path / "checkpoints" / "last").write_text(pointer)
    for load in (Checkpoints(tmp_path).load_state, lambda: from_pretrained(tmp_path)):
        assert "complete checkpoint is there: write step-00000010" in error_of(load)


def test_a_run_without_a_checkpoint_says_so(tmp_path):
    assert Checkpoints(tmp_path).steps() == []
    assert "accepted: a folder with a checkpoint" in error_of(Checkpoints(tmp_path).load_state)
    save(tmp_path, 10)
    assert "best: not found" in error_of(Checkpoints(tmp_path).load_state, "best")
    assert "step-00000011" in error_of(Checkpoints(tmp_path).load_state, 11)
    (tmp_path / "checkpoints" / "last").unlink()  # killed before the first pointer was written
    assert loaded_value(tmp_path) == 10
    assert "keep" in error_of(Checkpoints, tmp_path, keep=0)


def test_a_state_that_could_not_be_read_back_is_refused_at_once(tmp_path):
    save(tmp_path, 10)
    for bad in (np.float64(1), {1, 2}, Path("x"), np.ones(2), print, 1j):
        with pytest.raises(TypeError, match=r"state\['a'\]\[0\]"):
            Checkpoints(tmp_path).save(20, filled(1), None, {"a": [bad]})
    assert Checkpoints(tmp_path).steps() == [10]


# ---- kills and full disks

CALLS = "rename", "replace", "fsync", "link", "mkdir", "rmdir"  # rmdir: a folder is partly removed


def strike_at(k, blow, patch=setattr):
    """Make the k-th call that changes the disk call `blow`; a file is half written -> list of calls."""
    calls = []

    def watched(real):
        def call(*args, **kwargs):
            calls.append(real)
            if len(calls) == k:
                if real is write:
                    real(args[0], args[1][: len(args[1]) // 2])
                blow()
            return real(*args, **kwargs)

        return call

    write = pathlib.Path.write_bytes
    patch(pathlib.Path, "write_bytes", watched(write))
    for name in CALLS:
        patch(os, name, watched(getattr(os, name)))
    return calls


def prepare(folder):
    """A run with two checkpoints, and a saved model: the state before every kill and failure."""
    template = folder.with_name("template")
    if not template.exists():
        save(template / "run", 10)
        save(template / "run", 20, best=True)
        save_pretrained(filled(20), template / "model")
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(template, folder)


SAVES = {  # the save that is interrupted -> the values that may be found afterwards
    "a new step": (lambda folder: save(folder / "run", 30, best=True), "run", {20, 30}),
    "the same step again": (lambda folder: save(folder / "run", 20.5, step=20), "run", {20, 20.5}),
    "a model over a model": (lambda folder: save_pretrained(filled(30), folder / "model"), "model", {20, 30}),
}


def found_after(folder, what):
    if what == "model":
        return value_of(from_pretrained(folder / "model"))
    value_of(safetensors.torch.load_file(folder / "run" / "model.safetensors"))  # complete, and of one save
    for which in ("best", *Checkpoints(folder / "run").steps()):
        Checkpoints(folder / "run").verified(which)
    return loaded_value(folder / "run")


def kill_at_every_call(folder, name):
    """For each k, a forked child saves and dies at its k-th call; then everything loads, and can be saved."""
    act, what, accepted = SAVES[name]
    seen, k = [], 0
    while True:
        k += 1
        prepare(folder)
        child = os.fork()
        if child == 0:
            try:
                strike_at(k, lambda: os._exit(9))
                act(folder)
                os._exit(0)
            finally:
                os._exit(1)  # an error in the child must not continue with the other tests
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        assert code in (0, 9), (k, code)
        value = found_after(folder, what)
        assert value in accepted, (k, value)
        if name == "a new step" and value == 30:  # the best: a resumed run does not save it again
            assert Checkpoints(folder / "run").pointed("best") == "step-00000030", k
        seen.append(value)
        act(folder)  # the next save succeeds and leaves nothing behind
        assert found_after(folder, what) == max(accepted) and not leftovers(folder), (k, leftovers(folder))
        if code == 0:
            break
    assert k > 10 and set(seen) == accepted, (k, seen)


def kill_at_random_moments(folder):
    """A child that saves forever is killed, and its successor continues, 12 times."""
    rng, run, reached = random.Random(1), folder / "run", 0
    save(run, 0)
    for _ in range(12):
        saved, report = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                for step in itertools.count(int(loaded_value(run)) + 1):
                    save(run, step, best=step % 2 == 0, size=50_000)
                    os.write(report, b".")
            finally:
                os._exit(1)
        os.close(report)  # so that the child's death ends the reading below
        finished = rng.randrange(3)
        for _ in range(finished):
            assert os.read(saved, 1), "the child gave up"
        time.sleep(rng.uniform(0, 0.04))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.close(saved)
        assert loaded_value(run) >= reached + finished, "a save that had finished is lost"
        reached = loaded_value(run)


def fill_the_disk(folder):
    """With a limit on file sizes, each save fails at another file; nothing is lost."""
    import resource

    save(folder / "run", 10)
    before = {str(p): p.read_bytes() for p in (folder / "run").rglob("*") if p.is_file()}
    model = (folder / "run" / "model.safetensors").stat().st_size
    for limit in (model + 100_000, model + 1_000, model + 10, model - 10, model // 2, 200, 20, 0):
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
        for step in (20, 10):
            message = error_of(save, folder / "run", 20, step=step, size=100_000)
            steps = f"{folder}/run/checkpoints/step-"
            assert message == (
                f"cannot write {steps}{step:08d}: File too large; "
                f"the last complete checkpoint is {steps}00000010"
            )
            assert before == {str(p): p.read_bytes() for p in (folder / "run").rglob("*") if p.is_file()}
        if limit < model:
            message = error_of(save_pretrained, filled(1), folder / "m")
            assert message == f"cannot write {folder}/m: File too large"
        assert [p.name for p in folder.iterdir()] == ["run"] and not leftovers(folder)
        assert loaded_value(folder / "run") == 10
    assert "there is no complete checkpoint yet" in error_of(save, folder / "new", 1)


def all_disasters(folder):
    """The tests that need their own process: fork without threads, and a limit that cannot be undone."""
    results, sync = {}, os.fsync
    os.fsync = lambda handle: None  # a kill loses nothing that was written, and syncing is slow
    calls = {name: lambda where, name=name: kill_at_every_call(where / "x", name) for name in SAVES}
    calls |= {"random moments": kill_at_random_moments, "full disk": fill_the_disk}
    for name, call in calls.items():
        (folder / name).mkdir()
        try:
            call(folder / name)
            results[name] = "survived"
        except Exception:
            results[name] = traceback.format_exc()
        if name == "random moments":
            os.fsync = sync
    print(json.dumps(results))


@pytest.fixture(scope="module")
def disasters(tmp_path_factory):
    if not hasattr(os, "fork"):
        pytest.skip("needs os.fork")
    code = (
        f"import sys, pathlib; sys.path[:0] = [{str(HERE)!r}, {str(HERE.parent)!r}]; import test_checkpoint; "
    )
    code += f"test_checkpoint.all_disasters(pathlib.Path({str(tmp_path_factory.mktemp('disasters'))!r}))"
    done = python("-c", code)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("name", SAVES)
def test_a_kill_at_any_call_leaves_a_folder_that_loads_and_resumes(disasters, name):
    assert disasters[name] == "survived", disasters[name]


def test_a_kill_at_any_moment_leaves_a_folder_that_loads_and_resumes(disasters):
    assert disasters["random moments"] == "survived", disasters["random moments"]


def test_a_full_disk_costs_nothing_but_this_save(disasters):
    assert disasters["full disk"] == "survived", disasters["full disk"]


@pytest.mark.parametrize("name", SAVES)
def test_a_disk_that_fails_at_any_call_is_one_line_and_loses_nothing(tmp_path, monkeypatch, name):
    def full():
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", lambda handle: None)  # only for speed; it still fails
    act, what, accepted = SAVES[name]
    for k in range(1, 1000):
        prepare(tmp_path / "x")
        failed, before = False, found_after(tmp_path / "x", what)
        with pytest.MonkeyPatch.context() as patch:
            calls = strike_at(k, full, patch.setattr)
            try:
                act(tmp_path / "x")
            except MinglmError as error:
                failed = str(error)
        value = found_after(tmp_path / "x", what)
        assert value in accepted
        if failed:
            assert failed.startswith("cannot write ") and "No space left on device" in failed
            if what == "run":
                folder, _ = Checkpoints(tmp_path / "x" / "run").load_state()
                assert failed.endswith(f"the last complete checkpoint is {folder}")
        else:
            assert value == max(accepted) != before
        act(tmp_path / "x")
        assert found_after(tmp_path / "x", what) == max(accepted) and not leftovers(tmp_path)
        if len(calls) < k:
            break
    assert 10 < k < 999


def test_everything_is_synced_before_it_is_renamed(tmp_path, monkeypatch):
    synced, real_sync = set(), os.fsync

    def fsync(handle):
        status = os.fstat(handle)
        synced.add((status.st_ino, status.st_size if not Path(f"/dev/fd/{handle}").is_dir() else 0))
        real_sync(handle)

    def checked(real):
        def rename(source, target):
            source = Path(source)
            for path in (source, *source.iterdir()) if source.is_dir() else (source,):
                key = (path.stat().st_ino, 0 if path.is_dir() else path.stat().st_size)
                if ".tmp-" in str(source) and ".tmp-" not in str(target):
                    assert key in synced, f"{path} was not synced before {source} became {target}"
            real(source, target)

        return rename

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "rename", checked(os.rename))
    monkeypatch.setattr(os, "replace", checked(os.replace))
    save(tmp_path, 10)
    save(tmp_path, 20, best=True)
    assert (os.stat(tmp_path / "checkpoints").st_ino, 0) in synced and (os.stat(tmp_path).st_ino, 0) in synced
