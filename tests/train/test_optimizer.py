"""Muon: what it does to a matrix, that it equals the authors', and that runs resume with it bit for bit."""

import copy

import pytest
import torch

from minglm import GLM
from minglm.train.config import resolve
from minglm.train.optimizer import Muon, Together, make_optimizer, orthogonalised
from minglm.train.pretrain import pretrain

SHAPES = [(8, 8), (24, 8), (8, 32), (1, 5)]


def matrix(shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("shape", SHAPES)
def test_singular_values_come_close_to_one_and_directions_stay(shape):
    given = matrix(shape)
    u, s, v = torch.linalg.svd(given.double(), full_matrices=False)
    a, b, c = 3.4445, -4.7750, 2.0315
    s = s / s.norm(p=4)
    for _ in range(4):
        s = a * s + b * s**3 + c * s**5  # each singular value alone
    made = orthogonalised(given)
    assert made.shape == given.shape and (s > 0.5).all() and (s < 1.3).all()
    torch.testing.assert_close(made.double(), u @ torch.diag(s) @ v, atol=1e-5, rtol=1e-4)


def test_it_comes_as_close_as_the_authors_five_steps_from_smaller_values():
    given = matrix((64, 96))
    theirs = given.double() / given.norm()
    for _ in range(5):
        square = theirs @ theirs.T
        theirs = 3.4445 * theirs - (4.7750 * square - 2.0315 * square @ square) @ theirs
    far = [
        (torch.linalg.svdvals(x.double()) - 1).square().mean().sqrt() for x in (orthogonalised(given), theirs)
    ]
    assert far[0] < 1.15 * far[1]


def test_of_nothing_nothing_comes():
    assert not orthogonalised(torch.zeros(3, 4)).any()


@pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="this PyTorch is older than its Muon")
@pytest.mark.parametrize("shape", SHAPES)
def test_apart_from_the_orthogonalisation_it_steps_as_the_muon_of_pytorch_does(shape, monkeypatch):
    monkeypatch.setattr(torch.Tensor, "bfloat16", torch.Tensor.float)  # PyTorch orthogonalises in bfloat16

    def five(x, dtype):
        return torch.optim._muon._zeropower_via_newtonschulz(x, (3.4445, -4.775, 2.0315), 5, 1e-7)

    monkeypatch.setattr("minglm.train.optimizer.orthogonalised", five)
    ours, theirs = (torch.nn.Parameter(matrix(shape)) for _ in range(2))
    dials = dict(lr=0.01, momentum=0.9, weight_decay=0.2)
    optimizers = Muon([ours], **dials), torch.optim.Muon([theirs], **dials, adjust_lr_fn="match_rms_adamw")
    for step in range(5):
        for p, optimizer in zip((ours, theirs), optimizers, strict=True):
            p.grad = matrix(shape, seed=step + 1)
            optimizer.step()
        torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=1e-5)


def test_the_matrices_of_the_layers_are_muons_and_all_else_is_adamws():
    config = resolve(
        "tiny", overrides={"train.optimizer": "muon", "train.muon_lr_ratio": "3", "model.num_layers": "1"}
    )
    model = GLM(config.model)
    made = make_optimizer(model, config.train)
    names = {id(p): name for name, p in model.named_parameters()}
    held = {
        kind: {names[id(p)] for group in optimizer.param_groups for p in group["params"]}
        for kind, optimizer in made.optimisers.items()
    }
    assert held["muon"] == {f"layers.0.{name}.weight" for name in ("qkv", "out", "up", "down")}
    assert held["muon"] | held["adamw"] == set(names.values()) and not held["muon"] & held["adamw"]
    assert [group["lr_ratio"] for group in made.param_groups] == [3, 8, 1]
    assert [group["weight_decay"] for group in made.param_groups] == [0.1, 0.1, 0]


def test_adamw_is_the_default_and_its_state_is_that_of_pytorch():
    config = resolve("small")
    assert config.train.optimizer == "adamw"
    made = make_optimizer(GLM(resolve("page").model), config.train)
    assert type(made) is torch.optim.AdamW and made.state_dict().keys() == {"state", "param_groups"}


@pytest.fixture
def tiny_muon(tmp_path):
    text = tmp_path / "text.txt"
    text.write_text(
        "\n\n".join(f"The cat {n} sat. A dog {n} ran away! Who saw it?" for n in range(60)), encoding="utf-8"
    )
    return resolve(
        "tiny",
        overrides={
            "data.text": [str(text)],
            "data.cache": str(tmp_path / "cache"),
            "data.samples": "sentences",
            "train.optimizer": "muon",
            "train.steps": "6",
            "train.batch_tokens": "64",
            "train.dtype": "float32",
            "train.save_every": "3",
            "train.eval_every": "3",
            "model.max_positions": "32",
            "model.vocab_size": "300",
            "model.hidden_size": "32",
            "model.num_layers": "2",
            "model.num_heads": "2",
            "model.dropout": "0.1",
        },
    )


def test_a_run_with_muon_on_sentences_resumes_bit_for_bit(tiny_muon, tmp_path):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    pretrain(tiny_muon, whole)
    pretrain(tiny_muon, parts, stop_at=3)
    pretrain(tiny_muon, parts, resume=True)
    a, b = (GLM.from_pretrained(run).state_dict() for run in (whole, parts))
    assert all(torch.equal(a[name], b[name]) for name in a)
    curves = [
        [line.split(",")[:4] for line in (run / "metrics.csv").read_text().splitlines()]
        for run in (whole, parts)
    ]
    assert curves[0] == curves[1] and len(curves[0]) == 7


def test_optimisers_together_keep_a_state_each():
    def made():
        a, b = torch.nn.Parameter(matrix((4, 4))), torch.nn.Parameter(torch.ones(4))
        return a, b, Together(muon=Muon([a], 0.1), adamw=torch.optim.AdamW([b], 0.1))

    def step(a, b, optimizer, seed):
        a.grad, b.grad = matrix((4, 4), seed), matrix((4,), seed)
        optimizer.step()

    a, b, optimizer = made()
    step(a, b, optimizer, 1)
    c, d, other = made()
    with torch.no_grad():
        c.copy_(a), d.copy_(b)
    other.load_state_dict(copy.deepcopy(optimizer.state_dict()))  # as if saved to a file
    step(a, b, optimizer, 2), step(c, d, other, 2)
    assert torch.equal(a, c) and torch.equal(b, d)
    optimizer.zero_grad()
    assert a.grad is None and b.grad is None
