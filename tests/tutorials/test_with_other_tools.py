"""The code blocks of tutorials/with_other_tools.md, and what the library does so that they work."""

import contextlib
import copy
import importlib.util
import re
import warnings

import pytest
import torch
from conftest import ROOT

from minglm import GLM, GLMConfig, MinglmError, Tokenizer, build_example, fill, pack
from minglm.batch import columns
from minglm.modules import TokenLoss
from minglm.use.exported import INPUTS, export, packed_inputs, save_onnx

PAGE = (ROOT / "tutorials" / "with_other_tools.md").read_text(encoding="utf-8")
BLOCKS = {
    name.strip(): code for name, code in re.findall(r"^```python([^\n]*)\n(.*?)^```$", PAGE, re.M | re.S)
}
NEEDS = {  # block -> the extra, and the modules that it brings
    "peft": ("tools", "peft"),
    "lightning": ("tools", "lightning"),
    "accelerate": ("tools", "accelerate"),
    "onnx": ("onnx", "onnxscript", "onnxruntime"),
    "quantise": ("",),
    "export": ("",),
}


@pytest.fixture(scope="module")
def tokenizer():
    return Tokenizer.train(["We see the stars at night. The cat sat on the mat."] * 5, 300)


@pytest.fixture
def model(tokenizer):
    torch.manual_seed(0)
    model = GLM(GLMConfig(tokenizer.vocab_size, 16, 2, 2, 32, dropout=0.0)).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(6)
    return model


def samples(count):
    """A Batch of `count` samples, of different lengths."""
    texts = (list(range(30, 45 + 3 * n)) for n in range(count))
    return pack([build_example(tokens, [(3, 6), (10, 12)], [1, 0]) for tokens in texts])


@contextlib.contextmanager
def quiet():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the tools' own
        yield


def needs(extra, *modules):
    missing = any(importlib.util.find_spec(module) is None for module in modules)
    return pytest.mark.skipif(missing, reason=f"pip install -e '.[{extra}]'")


@pytest.mark.parametrize("name", [pytest.param(name, marks=needs(*NEEDS[name])) for name in NEEDS])
def test_a_block_of_the_page_runs_and_what_it_leaves_behind_is_right(
    name, model, tokenizer, tmp_path, monkeypatch, capsys
):
    """The bundled model is replaced by a smaller one, to save time."""
    monkeypatch.chdir(tmp_path)
    model.save_pretrained("minglm/box", tokenizer)
    shared = {"__name__": "page"}
    with quiet():
        exec(BLOCKS[""], shared)
        before = copy.deepcopy(shared["model"].state_dict())
        exec(BLOCKS[name], shared)
    trained = {"lightning": "trained", "accelerate": "trained", "peft": "merged"}
    if name in trained:
        after = GLM.from_pretrained(trained[name])
        assert Tokenizer.from_pretrained(trained[name]).fingerprint == tokenizer.fingerprint
        changed = {key for key, w in after.state_dict().items() if not torch.equal(w, before[key])}
        adapted = {f"layers.{i}.{part}.weight" for i in range(2) for part in ("qkv", "out")}
        assert changed == (adapted if name == "peft" else before.keys())
    if name == "peft":
        with torch.no_grad():
            torch.testing.assert_close(after.loss(samples(2)), shared["adapted"].eval().loss(samples(2)))
    if name == "quantise":
        assert capsys.readouterr().out.startswith("We see the")
        kinds = {type(m).__module__.partition(".nn")[0] for m in shared["small"].modules()}
        assert "torch.ao" in kinds
    if name in ("export", "onnx"):
        same_logits(
            shared["logits"].detach() if name == "export" else shared["logits"],
            shared["model"],
            shared["batch"],
        )
        run = onnx_session if name == "onnx" else torch_program
        for count in (1, 2, 5):  # any number of samples
            same_logits(run(shared)(samples(count)), model, samples(count))
    if name == "export":  # a wrong mask would be noticed: here a sample sees the one before it
        *others, first, end = packed_inputs(samples(2))
        seen = shared["program"].module()(*others, first * 0, end)
        assert not torch.allclose(seen, model(*columns(samples(2))), atol=1e-3)


def same_logits(logits, model, batch):
    with torch.no_grad():
        torch.testing.assert_close(torch.as_tensor(logits), model(*columns(batch)), atol=1e-4, rtol=1e-4)


def torch_program(shared):
    program = torch.export.load("model.pt2").module()
    return lambda batch: program(*packed_inputs(batch)).detach()


def onnx_session(shared):
    def run(batch):
        columns = (column.numpy() for column in packed_inputs(batch))
        return shared["session"].run(None, dict(zip(INPUTS, columns, strict=True)))[0]

    return run


def test_every_block_of_the_page_is_tested():
    assert BLOCKS.keys() == {"", *NEEDS}


def test_a_changed_model_and_missing_onnx_are_refused_before_any_work(model, tmp_path, monkeypatch):
    changed = copy.deepcopy(model)
    changed.layers[1].up = torch.nn.Sequential(changed.layers[1].up)
    with pytest.raises(MinglmError, match=r"layers\.1\.up.*it was changed"):
        export(changed)
    monkeypatch.setitem(__import__("sys").modules, "onnxscript", None)
    with pytest.raises(MinglmError, match=r"ONNX: onnxscript is not installed; .*\[onnx\]"):
        save_onnx(model, tmp_path / "model.onnx")
    monkeypatch.setattr("minglm.use.exported.need", lambda *_: None)
    monkeypatch.setattr("minglm.use.exported.MOST_ONNX", 1000)
    with pytest.raises(MinglmError, match="ONNX: weights of .* bytes; a file holds less than 1,000"):
        save_onnx(model, tmp_path / "model.onnx")
    assert not (tmp_path / "model.onnx").exists()


@pytest.fixture
def one_process(tmp_path):
    """A process group of this process alone."""
    torch.distributed.init_process_group("gloo", f"file://{tmp_path}/group", rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


@pytest.mark.skipif(not torch.distributed.is_available(), reason="this PyTorch has no torch.distributed")
def test_distributed_data_parallel_is_refused_by_name_and_wraps_the_loss(
    model, tokenizer, tmp_path, one_process
):
    parallel = torch.nn.parallel.DistributedDataParallel
    with pytest.raises(MinglmError, match="a DistributedDataParallel is not accepted; .* its .module"):
        fill(parallel(model), tokenizer, "We see the [MASK] at night.")
    wrapped = parallel(TokenLoss(model))
    loss = wrapped(samples(2))
    loss.backward()
    assert torch.equal(loss, model.loss(samples(2)))
    assert all(weight.grad is not None for weight in model.parameters())
    parallel(model).module.save_pretrained(tmp_path / "model", tokenizer)
    assert fill(parallel(model).module, tokenizer, "We see the [MASK].", max_tokens=1).blanks


@pytest.mark.skipif(importlib.util.find_spec("peft") is None, reason="pip install -e '.[tools]'")
def test_peft_asks_for_the_target_modules_in_its_own_words(model):
    import peft

    with pytest.raises(ValueError, match="target_modules"):
        peft.get_peft_model(model, peft.LoraConfig())


class Eighths(torch.Tensor):
    """A tensor subclass, as torchao's quantised weights are."""


def test_weights_that_are_no_plain_tensors_are_not_saved(model, tokenizer, tmp_path):
    weight = model.layers[1].up.weight.detach().as_subclass(Eighths)
    model.layers[1].up.weight = torch.nn.Parameter(weight, requires_grad=False)
    with pytest.raises(MinglmError, match=r"layers\.1\.up\.weight \(Eighths\): not a plain tensor; save the"):
        model.save_pretrained(tmp_path / "model", tokenizer)
    assert not (tmp_path / "model").exists()
