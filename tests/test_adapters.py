"""Wrapping, hooking, replacing or parametrizing a part of a model affects every use of it."""

import copy
import importlib.util
import warnings

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import parametrizations, parametrize, prune

from minglm import (
    GLM,
    Cloze,
    GLMConfig,
    MinglmError,
    TextToText,
    Tokenizer,
    classify,
    embed,
    fill,
    pack,
    rewrite,
    score,
    write,
)
from minglm.compare.rivals import LinearHead
from minglm.infilling import build_example
from minglm.modules import evaluating, table_of
from minglm.use.questions import ask_all

TASK = Cloze("{text} It was [MASK].", {"good": "cat", "bad": "dog"})
TEXT = "the [MASK] sat on [MASK]."
PARTS = ("norm1", "qkv", "out", "norm2", "up", "down", "dropout")


@pytest.fixture(scope="module")
def tokenizer():
    return Tokenizer.train(["the cat sat on the mat and the dog sat on the cat"] * 5, 300)


@pytest.fixture
def model(tokenizer):
    torch.manual_seed(0)
    model = GLM(GLMConfig(tokenizer.vocab_size, 16, 2, 2, 32, dropout=0.0))
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(6)
    return model.eval()


def batch():
    first = build_example(list(range(30, 50)), [(3, 6), (10, 12)], [1, 0])
    return pack([first, build_example(list(range(50, 59)), [(2, 4)], [0])])


def scores(model, tokenizer):
    """The results of every use of a model, {name: tensor}: the loss, fill, score, classify and embed."""
    filled = fill(model, tokenizer, TEXT, max_tokens=3)
    return {
        "loss": model.loss(batch(), "none").detach(),
        "logits": model(*columns(batch()), rows=batch().target_rows).detach(),
        "fill": torch.tensor([p for blank in filled.blanks for p in blank.answer.log_probabilities]),
        "score": torch.tensor(score(model, tokenizer, TEXT, ["cat", "mat"])[1].log_probabilities),
        "classify": torch.tensor(
            list(classify(model, tokenizer, TASK, "the cat sat.").probabilities.values())
        ),
        "embed": embed(model, tokenizer, "the cat sat"),
    }


def columns(batch):
    return batch.tokens, batch.position_ids, batch.block_position_ids, batch.mask


def assert_same(ours, theirs):
    for name in theirs:
        torch.testing.assert_close(
            ours[name], theirs[name], atol=1e-4, rtol=1e-4, msg=lambda m, name=name: f"{name}: {m}"
        )


class LoRA(nn.Module):
    """y = W x + b + B A x around a linear layer, whose weight and bias stay accessible as in peft."""

    def __init__(self, base):
        super().__init__()
        self.base, self.a = base, nn.Parameter(torch.randn(3, base.in_features) / 4)
        self.b = nn.Parameter(torch.randn(base.out_features, 3) / 4)

    weight = property(lambda self: self.base.weight)
    bias = property(lambda self: self.base.bias)

    def forward(self, x):
        return self.base(x) + x @ self.a.T @ self.b.T

    def merged(self):
        linear = copy.deepcopy(self.base)
        linear.weight.data += (self.b @ self.a).detach()
        return linear


def with_each(model, names, change):
    """A copy of the model with `change(module)` in place of each named part of each layer."""
    model = copy.deepcopy(model)
    for layer in model.layers:
        for name in names:
            setattr(layer, name, change(getattr(layer, name)))
    return model


def test_lora_in_every_linear_layer_is_its_merged_weights_in_every_use(model, tokenizer):
    lora = with_each(model, ("qkv", "out", "up", "down"), LoRA)
    merged = with_each(lora, ("qkv", "out", "up", "down"), LoRA.merged)
    plain, ours = scores(model, tokenizer), scores(lora, tokenizer)
    assert_same(ours, scores(merged, tokenizer))
    assert all(
        not torch.allclose(ours[name], plain[name], atol=1e-3)
        for name in ("logits", "score", "classify", "embed")
    )


@pytest.mark.parametrize("pruned", [True, False])
def test_every_adapter_learns_in_the_last_layer_too(model, pruned):
    lora = with_each(model, ("qkv", "out", "up", "down"), LoRA).requires_grad_(False)
    lora.prune = pruned
    adapters = {
        name: p.requires_grad_() for name, p in lora.named_parameters() if name.endswith((".a", ".b"))
    }
    lora.loss(batch()).backward()
    assert len(adapters) == 16 and all(
        p.grad is not None and p.grad.abs().max() > 0 for p in adapters.values()
    )


@pytest.mark.parametrize("use", ["loss", "fill", "score", "classify", "embed", "head"])
def test_hooks_of_every_part_are_called_in_every_use(model, tokenizer, use):
    uses = dict(
        loss=lambda: model.loss(batch()),
        fill=lambda: fill(model, tokenizer, TEXT, max_tokens=1),
        score=lambda: score(model, tokenizer, TEXT, ["cat", "mat"]),
        embed=lambda: embed(model, tokenizer, "a cat"),
        classify=lambda: classify(model, tokenizer, TASK, "a cat."),
        head=lambda: LinearHead(model, 2)(ask_all(TASK, tokenizer, {"1": {"text": "a cat."}}, 32)),
    )
    called = {}
    for name, module in model.named_modules():
        if not isinstance(module, nn.ModuleList):
            module.register_forward_hook(lambda *_, name=name: called.setdefault(name, []).append("after"))
            module.register_forward_pre_hook(
                lambda *_, name=name: called.setdefault(name, []).append("before")
            )
    uses[use]()
    expected = {name for name, module in model.named_modules() if not isinstance(module, nn.ModuleList)}
    assert called.keys() == expected and {"", "layers.1.qkv"} < expected  # "" is the whole model
    order = {name: ["before", "after"] for name in expected}
    assert {name: calls[:2] for name, calls in called.items()} == order


@pytest.mark.filterwarnings("ignore:Full backward hook is firing:UserWarning")  # the tokens need no gradient
@pytest.mark.parametrize(
    "part", [f"layers.1.{part}" for part in PARTS] + ["layers.1", "final_norm", "token_embedding"]
)
def test_full_backward_hooks_hear_the_gradient(model, part):
    heard = []
    model.get_submodule(part).register_full_backward_hook(
        lambda module, before, after: heard.append(after[0].abs().max())
    )
    model.loss(batch()).backward()
    assert heard and heard[0] > 0


@pytest.mark.parametrize("part", ["norm1", "qkv", "out", "norm2", "up", "down"])
def test_a_hook_that_changes_what_a_part_gives_changes_it_in_every_use_the_same(model, tokenizer, part):
    """Doubling an output by a hook is doubling its weights."""
    hooked, doubled = copy.deepcopy(model), copy.deepcopy(model)
    getattr(hooked.layers[1], part).register_forward_hook(lambda module, inputs, out: 2 * out)
    with torch.no_grad():
        for weight in getattr(doubled.layers[1], part).parameters():
            weight.mul_(2)
    assert_same(scores(hooked, tokenizer), scores(doubled, tokenizer))


class Doubled(nn.Module):
    def forward(self, weight):
        return 2 * weight


PARAMETRIZED = {
    "weight_norm": parametrizations.weight_norm,
    "spectral_norm": parametrizations.spectral_norm,
    "doubled": lambda module: parametrize.register_parametrization(module, "weight", Doubled()),
    "pruned": lambda module: prune.l1_unstructured(module, "weight", 0.3),
    "old weight_norm": lambda module: nn.utils.weight_norm(module),
}


@pytest.mark.parametrize("kind", PARAMETRIZED)
@pytest.mark.parametrize("part", ["qkv", "up", "token_embedding"])
def test_parametrized_and_pruned_weights_are_what_every_use_sees(model, tokenizer, kind, part):
    changed, plain = copy.deepcopy(model), copy.deepcopy(model)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch recommends the new weight_norm
        for module in (
            [changed.token_embedding]
            if part == "token_embedding"
            else [getattr(x, part) for x in changed.layers]
        ):
            PARAMETRIZED[kind](module)
    changed.eval()
    changed.loss(batch())  # old hooks compute the weight when the module is called
    with torch.no_grad():
        for name, module in plain.named_modules():
            if hasattr(module, "weight"):
                module.weight.copy_(changed.get_submodule(name).weight)
    assert_same(scores(changed, tokenizer), scores(plain, tokenizer))
    for _ in range(2):  # the second step must not use the graph of the first
        changed.train().loss(batch()).backward()


def test_quantised_linear_layers_are_called_in_every_use(model, tokenizer):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.ao will move to torchao
        quantised = torch.ao.quantization.quantize_dynamic(
            copy.deepcopy(model), {nn.Linear}, dtype=torch.qint8
        )
    ours, plain = scores(quantised, tokenizer), scores(model, tokenizer)
    for name, x in ours.items():
        assert x.isfinite().all() and not torch.equal(x, plain[name]), name
    # the range of the 8 bits depends on all rows of a call, so the results are not equal
    assert (ours["logits"] - plain["logits"]).std() < plain["logits"].std() / 5


class Around(nn.Module):
    """A wrapper that passes everything on."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, *args, **kwargs):
        return self.inner(*args, **kwargs)


@pytest.mark.parametrize(
    "part",
    [
        *(f"layers.1.{part}" for part in PARTS),
        "layers.0",
        "layers.1",
        "token_embedding",
        "position_embedding",
        "final_norm",
    ],
)
def test_any_part_may_be_wrapped(model, tokenizer, part):
    wrapped = copy.deepcopy(model)
    wrapped.set_submodule(part, Around(wrapped.get_submodule(part)))
    assert_same(scores(wrapped, tokenizer), scores(model, tokenizer))


def test_a_last_layer_that_knows_nothing_of_rows_is_called_for_all_of_them(model):
    class Skip(nn.Module):
        def forward(self, x, *rest):
            return x

    model.layers[1] = Skip()
    rows = batch().target_rows
    torch.testing.assert_close(model(*columns(batch()), rows=rows), model(*columns(batch()))[rows])


def test_an_embedding_with_an_adapter_is_the_head_too(model, tokenizer):
    class Adapted(nn.Module):
        def __init__(self, base):
            super().__init__()
            self.base, self.a = base, nn.Parameter(torch.randn(base.num_embeddings, 2) / 4)
            self.b = nn.Parameter(torch.randn(2, base.embedding_dim) / 4)

        weight = property(lambda self: self.base.weight)

        def forward(self, ids):
            return self.base(ids) + F.embedding(ids, self.a) @ self.b

    adapted, merged = copy.deepcopy(model), copy.deepcopy(model)
    adapted.token_embedding = Adapted(adapted.token_embedding)
    merged.token_embedding.weight.data += (adapted.token_embedding.a @ adapted.token_embedding.b).detach()
    assert_same(scores(adapted, tokenizer), scores(merged, tokenizer))
    assert table_of(model.token_embedding, 9) is model.token_embedding.weight  # a plain one is not computed


def test_an_average_of_models_fills_and_scores(model, tokenizer):
    average = torch.optim.swa_utils.AveragedModel(
        model, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.5)
    )
    moved = copy.deepcopy(model)
    with torch.no_grad():
        for weight in moved.parameters():
            weight.add_(0.1)
    average.update_parameters(moved)
    average.update_parameters(model)
    with torch.no_grad():
        for weight, other in zip(moved.parameters(), model.parameters(), strict=True):
            weight.add_(other).div_(2)
    assert_same(scores(average.module, tokenizer), scores(moved, tokenizer))


@pytest.mark.skipif(importlib.util.find_spec("peft") is None, reason="pip install -e '.[interop]'")
@pytest.mark.parametrize("targets", [["qkv"], "all-linear", ["qkv", "token_embedding"]])
def test_adapters_of_peft_are_their_merged_weights_and_learn_everywhere(model, tokenizer, targets):
    import peft

    torch.manual_seed(1)
    config = peft.LoraConfig(r=2, target_modules=targets, init_lora_weights=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        adapted = peft.get_peft_model(copy.deepcopy(model), config).eval()
    glm = adapted.get_base_model()
    ours = scores(glm, tokenizer)
    adapted.train().loss(batch()).backward()
    learning = {name: p.grad for name, p in adapted.named_parameters() if p.requires_grad}
    assert learning and all(grad is not None and grad.abs().max() > 0 for grad in learning.values())
    adapted.eval()
    with adapted.disable_adapter():
        assert_same(scores(glm, tokenizer), scores(model, tokenizer))
    merged = adapted.merge_and_unload()
    assert not torch.allclose(ours["logits"], scores(model, tokenizer)["logits"], atol=1e-3)
    assert_same(ours, scores(merged, tokenizer))


def test_a_wrapper_of_the_whole_model_is_refused_by_name_and_its_model_works(model, tokenizer):
    wrapped = torch.optim.swa_utils.AveragedModel(model)
    for use in (
        lambda m: fill(m, tokenizer, TEXT, max_tokens=1).text,
        lambda m: write(m, tokenizer, "the cat", max_tokens=1),
        lambda m: score(m, tokenizer, TEXT, ["cat", "mat"])[1].text,
        lambda m: classify(m, tokenizer, TASK, "the cat sat.").label,
        lambda m: embed(m, tokenizer, "the cat").shape,
        lambda m: rewrite(m, tokenizer, TextToText("{text} [MASK]", "answer"), "the cat", max_tokens=1),
    ):
        with pytest.raises(MinglmError, match="model: a AveragedModel is not accepted; .* its .module"):
            use(wrapped)
        assert use(wrapped.module) == use(model)


def test_a_figure_of_an_embedding_shows_what_it_gives(model):
    from minglm.viz.figures.runs import fig_position_embeddings

    def drawn():
        axes = fig_position_embeddings(model).axes
        return torch.from_numpy(axes[0].images[0].get_array().data)

    plain = drawn()
    embedding = model.position_embedding
    model.position_embedding = Around(embedding)
    assert torch.equal(drawn(), plain)
    embedding.register_forward_hook(lambda module, inputs, out: out + inputs[0][:, None])
    assert not torch.equal(drawn(), plain)
    with torch.no_grad():
        embedding.weight[0, 0] = float("nan")
    with pytest.raises(MinglmError, match="the position embeddings are not finite"):
        drawn()


def test_what_a_file_cannot_hold_is_refused_by_name_before_it_is_written(model, tokenizer, tmp_path):
    changed = {
        r"layers\.0\.qkv \(LoRA\)": with_each(model, ("qkv",), LoRA),
        r"layers\.1\.up \(Linear\)": copy.deepcopy(model),
        r"layers\.0\.out \(ParametrizedLinear\)|layers\.0\.out": copy.deepcopy(model),
    }
    prune.l1_unstructured(list(changed.values())[1].layers[1].up, "weight", 0.3)
    parametrizations.weight_norm(list(changed.values())[2].layers[0].out)
    for name, other in changed.items():
        with pytest.raises(MinglmError, match=f"{name}.*it was changed"):
            other.save_pretrained(tmp_path / "model", tokenizer)
    assert not (tmp_path / "model").exists()
    merged = with_each(with_each(model, ("qkv",), LoRA), ("qkv",), LoRA.merged)
    merged.save_pretrained(tmp_path / "model", tokenizer)
    assert_same(scores(GLM.from_pretrained(tmp_path / "model"), tokenizer), scores(merged, tokenizer))


def test_attention_of_a_replaced_layer_is_refused_by_name(model):
    model.layers[1] = Around(model.layers[1])
    assert len(model.attention_weights(batch(), 0)) == 2
    with pytest.raises(MinglmError, match=r"layers\.1: it was replaced by a Around"):
        model.attention_weights(batch(), 1)


@pytest.mark.parametrize(
    "change",
    [
        lambda m: with_each(m, ("qkv", "down"), LoRA),
        lambda m: prune.l1_unstructured(m.layers[1].qkv, "weight", 0.3) and m or m,
        lambda m: parametrizations.spectral_norm(m.layers[0].up) and m or m,
        lambda m: m.compile(backend="eager") or m,
    ],
)
def test_a_view_of_a_changed_model_computes_what_the_model_does(model, change):
    changed = change(copy.deepcopy(model)).eval()
    expected = changed.loss(batch(), "none")
    changed.train()
    view = evaluating(changed)
    torch.testing.assert_close(view.loss(batch(), "none"), expected)
    assert view is not changed and not view.training and all(module.training for module in changed.modules())
