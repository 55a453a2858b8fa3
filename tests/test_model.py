"""The model: what its rows may depend on, and that skipping rows in training changes nothing.

tests/original/test_weights.py checks that it is the model of the original.
"""

import copy
import dataclasses
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from minglm import suffixes
from minglm.batch import pack
from minglm.errors import MinglmError
from minglm.files.weights import names_of_weights
from minglm.infilling import build_example
from minglm.mask import GLMMask
from minglm.model import GLM, GLMConfig
from minglm.ops import has_kernel
from minglm.suffixes import shortest_suffixes

pytestmark = pytest.mark.usefixtures("any_rung")

# all sizes of this model differ, so that a shape identifies a tensor
TINY = GLMConfig(vocab_size=41, hidden_size=12, num_layers=2, num_heads=3, max_positions=16, dropout=0.0)
BACKENDS = ("reference", "sdpa", *(["kernel"] if has_kernel()[0] else []))
every_backend = pytest.mark.parametrize("backend", BACKENDS)


def model_of(config=TINY, seed=0, **changes):
    """A model in which every weight has an effect: all are larger than at init, even biases."""
    torch.manual_seed(seed)
    model = GLM(dataclasses.replace(config, **changes))
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn_like(weight), alpha=0.2)
    return model


def example(length, spans, order=None, seed=0):
    """A sample of random tokens with these spans blanked."""
    tokens = np.random.default_rng(seed).integers(8, TINY.vocab_size, length)
    return build_example(tokens, spans, list(range(len(spans))) if order is None else order)


def three_samples():
    """Samples of 10, 5 and 11 rows, with Part A of 5, 3 and 8."""
    return [
        example(6, [(2, 3), (4, 6)], [1, 0], seed=1),
        example(3, [(1, 2)], seed=2),
        example(9, [(0, 2)], seed=3),
    ]


def inputs(batch):
    return batch.tokens, batch.position_ids, batch.block_position_ids, batch.mask


def gradients(model, scalar):
    model.zero_grad(set_to_none=True)
    scalar.backward()
    return {name: None if p.grad is None else p.grad.clone() for name, p in model.named_parameters()}


def assert_same(ours, theirs, **tolerance):
    """Assert that two {name: tensor} agree."""
    assert ours.keys() == theirs.keys()
    for name in ours:
        torch.testing.assert_close(
            ours[name], theirs[name], **tolerance, msg=lambda m, name=name: f"{name}: {m}"
        )


# ---- weights


def test_weights_have_their_published_names_and_shapes():
    V, C, P = TINY.vocab_size, TINY.hidden_size, TINY.max_positions
    layer = {
        "norm1.weight": (C,),
        "norm1.bias": (C,),
        "norm2.weight": (C,),
        "norm2.bias": (C,),
        "qkv.weight": (3 * C, C),
        "qkv.bias": (3 * C,),
        "out.weight": (C, C),
        "out.bias": (C,),
        "up.weight": (4 * C, C),
        "up.bias": (4 * C,),
        "down.weight": (C, 4 * C),
        "down.bias": (C,),
    }
    expected = {f"layers.{i}.{name}": shape for i in range(TINY.num_layers) for name, shape in layer.items()}
    expected |= {"final_norm.weight": (C,), "final_norm.bias": (C,), "token_embedding.weight": (V, C)}
    expected |= {"position_embedding.weight": (P + 1, C), "block_position_embedding.weight": (P + 1, C)}
    assert {name: tuple(weight.shape) for name, weight in GLM(TINY).state_dict().items()} == expected


@pytest.mark.parametrize("shape", [(41, 12, 2, 3, 16), (100, 32, 5, 4, 7), (9, 4, 1, 1, 1)])
def test_number_of_parameters_is_the_formula(shape):
    V, C, layers, _, P = shape
    assert (
        GLM(GLMConfig(*shape)).num_parameters()
        == V * C + 2 * (P + 1) * C + layers * (12 * C * C + 13 * C) + 2 * C
    )


def test_weights_start_small_and_smaller_where_they_write_to_the_residual():
    torch.manual_seed(0)
    model = GLM(GLMConfig(vocab_size=500, hidden_size=64, num_layers=3, num_heads=4, max_positions=100))
    for name, weight in model.named_parameters():
        if name.endswith("bias"):
            assert (weight == 0).all(), name
        elif "norm" in name:
            assert (weight == 1).all(), name
        else:
            std = 0.02 / math.sqrt(2 * 3) if name.endswith(("out.weight", "down.weight")) else 0.02
            assert weight.mean().item() == pytest.approx(0, abs=5 * std / math.sqrt(weight.numel())), name
            assert weight.std().item() == pytest.approx(std, rel=5 / math.sqrt(2 * weight.numel())), name


@pytest.mark.parametrize("seed", range(3))
def test_loss_starts_at_the_logarithm_of_the_vocabulary(seed):
    torch.manual_seed(seed)
    model = GLM(
        GLMConfig(vocab_size=1000, hidden_size=64, num_layers=2, num_heads=4, max_positions=16)
    ).eval()
    assert model.loss(pack(three_samples())).item() == pytest.approx(math.log(1000), abs=0.1)


BAD_CONFIGS = [
    *[
        (name, value)
        for name in ("vocab_size", "hidden_size", "num_layers", "num_heads", "max_positions")
        for value in (0, -1, 1.5, True, "8", None)
    ],
    ("hidden_size", 13),
    ("num_heads", 5),
    *[("dropout", value) for value in (-0.1, 1, 1.0, math.nan, "0.1", None, True)],
    ("gelu", "relu"),
    ("gelu", None),
]


@pytest.mark.parametrize(("name", "value"), BAD_CONFIGS)
def test_a_setting_that_cannot_be_is_named(name, value):
    with pytest.raises(MinglmError, match=rf"model\.{name}\b"):
        dataclasses.replace(TINY, **{name: value})


# ---- what a row depends on


@every_backend
@pytest.mark.parametrize("rule", ["GLM", "GPT", "BERT"])
def test_a_token_moves_the_rows_that_see_it_and_no_bit_of_any_other(backend, rule):
    model = model_of(num_layers=3).eval()
    model.backend = backend
    batch = pack(three_samples())
    lens, part_a_lens = batch.mask.len_q.tolist(), batch.mask.part_a_lens.tolist()
    if rule != "GLM":
        part_a_lens = [0] * 3 if rule == "GPT" else lens
        batch = dataclasses.replace(batch, mask=GLMMask.packed(lens, part_a_lens))
    # the sample of every row, and its index there
    place = [(s, i) for s, n in enumerate(lens) for i in range(n)]
    with torch.no_grad():
        before = model(*inputs(batch))
        for changed, (sample, j) in enumerate(place):
            tokens = batch.tokens.clone()
            tokens[changed] = (tokens[changed] + 7) % TINY.vocab_size
            after = model(tokens, *inputs(batch)[1:])
            same = (after == before).all(1).tolist()
            sees = [s == sample and (j < part_a_lens[s] or j <= i) for s, i in place]
            assert same == [not see for see in sees], f"row {j} of sample {sample} was changed"


@every_backend
@pytest.mark.parametrize("prune", [True, False])
def test_a_packed_batch_equals_its_samples_taken_alone(backend, prune):
    model = model_of().double()
    model.backend, model.prune = backend, prune
    examples = three_samples()
    together = model(*inputs(pack(examples)))
    alone = torch.cat([model(*inputs(pack([e]))) for e in examples])
    torch.testing.assert_close(together, alone, rtol=1e-12, atol=1e-12)

    losses = [model.loss(pack([e]), "sum") for e in examples]
    torch.testing.assert_close(model.loss(pack(examples), "sum"), sum(losses), rtol=1e-12, atol=1e-12)
    ours, theirs = gradients(model, model.loss(pack(examples), "sum")), gradients(model, sum(losses))
    assert_same(ours, theirs, rtol=1e-12, atol=1e-12)


def test_backends_give_the_same_logits_and_gradients():
    model, batch = model_of().double(), pack(three_samples())
    results = []
    for model.backend in ("auto", *BACKENDS):
        results.append({"logits": model(*inputs(batch)), **gradients(model, model.loss(batch))})
    for other in results[1:]:
        assert_same(results[0], other, rtol=1e-12, atol=1e-12)


def test_the_backend_belongs_to_the_running_model_alone():
    model, other = model_of(), model_of()
    model.backend, model.prune, model.checkpoint_activations = "reference", False, True
    assert model.config == other.config and "backend" not in dataclasses.asdict(model.config)
    assert model.state_dict().keys() == other.state_dict().keys()
    other.load_state_dict(model.state_dict())
    assert other.backend == "auto" and other.prune and not other.checkpoint_activations
    other.backend = "flash"
    with pytest.raises(MinglmError, match="backend: 'flash'"):
        other.loss(pack(three_samples()))


def test_the_last_row_of_the_position_tables_is_used_and_nothing_lies_beyond():
    model, P = model_of(), TINY.max_positions
    mask = GLMMask.packed([2], [1])

    def logits(position, block_position):
        return model(
            torch.tensor([8, 6]), torch.tensor([0, position]), torch.tensor([0, block_position]), mask
        )

    inner = logits(P - 1, P - 1)
    assert not torch.equal(logits(P, P - 1)[1], inner[1]) and not torch.equal(logits(P - 1, P)[1], inner[1])
    assert torch.equal(logits(P, P)[0], inner[0])  # Part A does not see the row that moved
    for beyond in ((P + 1, 1), (1, P + 1)):
        with pytest.raises(IndexError):
            logits(*beyond)


def test_the_two_gelus_differ_and_are_what_they_say():
    batch, heard = pack(three_samples()), {}
    for gelu in ("tanh", "erf"):
        model = model_of(gelu=gelu)
        layer = model.layers[0]
        layer.up.register_forward_hook(lambda module, inputs, out: heard.update(up=out))
        layer.down.register_forward_hook(lambda module, inputs, out: heard.update(down=inputs[0]))
        heard[gelu] = model(*inputs(batch))
        x = heard["up"].double()
        inside = (
            torch.erf(x / 2**0.5)
            if gelu == "erf"
            else torch.tanh((2 / math.pi) ** 0.5 * (x + 0.044715 * x**3))
        )
        torch.testing.assert_close(heard["down"].double(), x * (1 + inside) / 2, rtol=1e-5, atol=1e-6)
    assert 1e-6 < (heard["tanh"] - heard["erf"]).abs().max().item() < 1e-1


# ---- training computes only the rows that it needs


def some_rows(which, mask):
    """Ascending rows of the three samples, by description."""
    return torch.tensor(
        {
            "Part B": torch.where(mask.rows()[1] >= mask.part_a_lens[mask.rows()[0]])[0].tolist(),
            "some in the middle": [1, 4, 7, 8, 11, 17, 20],
            "none of one sample": [3, 8, 9, 25],
            "one row": [12],
            "every row": list(range(26)),
            "none": [],
        }[which],
        dtype=torch.int64,
    )


every_choice_of_rows = pytest.mark.parametrize(
    "which", ["Part B", "some in the middle", "none of one sample", "one row", "every row", "none"]
)


def logits_and_gradients(model, batch, rows, prune):
    """Logits of the rows, a weighted sum of them, and every gradient of that sum, by name."""
    model.prune = prune
    logits = model(*inputs(batch), rows)
    weights = torch.randn(logits.shape, generator=torch.Generator().manual_seed(0)).to(logits.dtype)
    loss = (logits.log_softmax(-1) * weights).sum()
    return {"logits": logits.detach(), "loss": loss.detach(), **gradients(model, loss)}


@every_backend
@pytest.mark.parametrize("layers", [1, 3])
@every_choice_of_rows
def test_a_pruned_last_layer_changes_nothing(backend, layers, which):
    model, batch = model_of(num_layers=layers).double(), pack(three_samples())
    model.backend = backend
    rows = some_rows(which, batch.mask)
    pruned, whole = (logits_and_gradients(model, batch, rows, prune) for prune in (True, False))
    assert pruned["logits"].shape == (len(rows), TINY.vocab_size)
    for results in (pruned, whole):
        for name, x in results.items():
            assert x is not None and x.isfinite().all(), name
    assert_same(pruned, whole, rtol=1e-12, atol=1e-12)


@given(chosen=st.sets(st.integers(0, 25)))
def test_any_rows_can_be_asked_for(chosen):
    model, batch = model_of().double(), pack(three_samples())
    rows = torch.tensor(sorted(chosen), dtype=torch.int64)
    with torch.no_grad():
        everything = model(*inputs(batch))
        torch.testing.assert_close(model(*inputs(batch), rows), everything[rows], rtol=1e-12, atol=1e-12)


@every_backend
def test_a_pruned_loss_in_float32_is_as_good_as_the_whole_one(backend):
    batch, errors = pack(three_samples()), {}
    truth = logits_and_gradients(model_of().double(), batch, batch.target_rows, False)
    for prune in (True, False):
        model = model_of()
        model.backend = backend
        got = logits_and_gradients(model, batch, batch.target_rows, prune)
        errors[prune] = {name: float((got[name] - truth[name]).abs().max()) for name in truth}
    for name, x in truth.items():
        rounding = torch.finfo(torch.float32).eps * float(x.abs().max())
        assert errors[True][name] <= 2 * errors[False][name] + rounding, name


def test_a_last_layer_computes_the_shortest_suffixes_and_no_row_more():
    batch, seen = pack(three_samples()), []
    model = model_of()
    model.layers[-1].out.register_forward_hook(lambda module, inputs, out: seen.append(len(out)))
    for rows, suffix in (([3, 8, 9, 25], 7 + 1), ([0], 10), ([], 0), (batch.target_rows.tolist(), 5 + 2 + 3)):
        model(*inputs(batch), torch.tensor(rows, dtype=torch.int64))
        assert seen.pop() == suffix
    model.prune = False
    model(*inputs(batch), torch.tensor([25]))
    assert seen.pop() == 26


@given(
    lens=st.lists(st.integers(0, 5), max_size=6),
    fraction=st.sampled_from([0.0, 0.2, 0.6, 1.0]),
    seed=st.integers(0, 2**32),
)
def test_suffixes_begin_at_the_first_wanted_row_of_each_sample(lens, fraction, seed):
    random = np.random.default_rng(seed)
    mask = GLMMask.packed(lens, [int(random.integers(0, n + 1)) for n in lens])
    rows = np.flatnonzero(random.random(sum(lens)) < fraction)
    expected, len_q, start = [], [], 0
    for n in lens:
        wanted = [r for r in rows if start <= r < start + n]
        expected += (mine := list(range(wanted[0], start + n)) if wanted else [])
        len_q.append(len(mine))
        start += n
    suffix, suffix_mask, where = shortest_suffixes(mask, torch.from_numpy(rows))
    assert suffix.tolist() == expected and suffix_mask.len_q.tolist() == len_q
    assert suffix[where].tolist() == rows.tolist()
    assert suffix_mask.visible_keys().tolist() == mask.visible_keys()[suffix].tolist()
    assert torch.equal(suffix_mask.dense(), mask.dense()[suffix])


@given(st.lists(st.integers(1, 12), min_size=1, max_size=6), st.floats(0, 1), st.integers(0, 99))
def test_suffixes_can_be_rounded_up_to_a_multiple_of_rows(lens, fraction, seed):
    mask = GLMMask.packed(lens, [0] * len(lens))
    rows = torch.from_numpy(np.flatnonzero(np.random.default_rng(seed).random(sum(lens)) < fraction))
    shortest, *_ = shortest_suffixes(mask, rows)
    suffix, queries, wanted = shortest_suffixes(mask, rows, 8)
    assert set(shortest.tolist()) <= set(suffix.tolist()) and torch.equal(suffix[wanted], rows)
    assert len(suffix) == min(sum(lens), -(-len(shortest) // 8) * 8)
    ends = torch.tensor(lens).cumsum(0)
    assert suffix.tolist() == [
        i for end, n in zip(ends, queries.len_q, strict=True) for i in range(end - n, end)
    ]


@pytest.mark.parametrize("prune", [True, False])
def test_rounding_rows_up_changes_nothing(prune, monkeypatch):
    model, batch = model_of(num_layers=3).double(), pack(three_samples())
    plain = logits_and_gradients(model, batch, batch.target_rows, prune) | {"loss": model.loss(batch, "none")}
    monkeypatch.setattr(suffixes, "row_multiple", lambda device: 16)
    filled = logits_and_gradients(model, batch, batch.target_rows, prune) | {
        "loss": model.loss(batch, "none")
    }
    assert model(*inputs(batch)).shape[0] == 26
    assert_same(filled, plain, rtol=1e-12, atol=1e-12)


def test_in_bfloat16_every_matrix_product_has_a_round_number_of_rows():
    model, seen = model_of(), []

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            if func in (torch.ops.aten.addmm.default, torch.ops.aten.mm.default):
                seen.append(args[-2].shape[0])
            return func(*args, **(kwargs or {}))

    for bf16 in (True, False):
        seen.clear()
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16), torch.no_grad(), Watch():
            model.loss(pack(three_samples()))
        assert len(seen) >= 9 and all(rows % 16 == 0 for rows in seen) == bf16


def test_the_example_of_shortest_suffixes_is_true():
    suffix, mask, where = shortest_suffixes(GLMMask.packed([6], [4]), torch.tensor([4, 5]))
    assert (suffix.tolist(), mask.len_q.tolist(), mask.len_k.tolist(), where.tolist()) == (
        [4, 5],
        [2],
        [6],
        [0, 1],
    )


class Tallest(TorchDispatchMode):
    """The most rows of any tensor as wide as the vocabulary, forward and backward."""

    rows = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        for x in result if isinstance(result, tuple | list) else [result]:
            if (
                isinstance(x, torch.Tensor)
                and x.dim() > 1
                and x.shape[-1] == TINY.vocab_size
                and len(x) != TINY.hidden_size
            ):
                self.rows = max(self.rows, x.numel() // x.shape[-1])
        return result


@pytest.mark.parametrize("prune", [True, False])
def test_logits_of_rows_that_learn_nothing_are_never_computed(prune):
    model, batch = model_of(), pack(three_samples())
    model.prune = prune
    with Tallest() as learned:
        model.loss(batch).backward()
    with Tallest() as every:
        model(*inputs(batch))
    assert (learned.rows, every.rows) == (len(batch.targets), len(batch.tokens)) == (10, 26)


# ---- the loss


def test_the_loss_is_the_cross_entropy_of_the_learned_rows_in_each_reduction():
    model, batch = model_of().double(), pack(three_samples())
    log_p = model(*inputs(batch)).log_softmax(-1)
    nats = -torch.stack(
        [log_p[row, target] for row, target in zip(batch.target_rows, batch.targets, strict=True)]
    )
    for reduction, expected in dict(none=nats, sum=nats.sum(), mean=nats.mean()).items():
        torch.testing.assert_close(model.loss(batch, reduction), expected, rtol=1e-12, atol=1e-12)
    assert torch.equal(model.loss(batch), model.loss(batch, "mean"))
    with pytest.raises(MinglmError, match="reduction: 'average' .*mean.*sum.*none"):
        model.loss(batch, "average")


def test_logits_are_read_with_the_embedding_and_nothing_else():
    model, batch = model_of().double(), pack(three_samples())
    h = model.hidden(*inputs(batch))
    torch.testing.assert_close(
        model(*inputs(batch)), h @ model.token_embedding.weight.T, rtol=1e-12, atol=1e-12
    )
    x = (h - model.final_norm.bias) / model.final_norm.weight
    torch.testing.assert_close(x.mean(1), torch.zeros_like(x[:, 0]), rtol=0, atol=1e-12)
    torch.testing.assert_close(x.square().mean(1), torch.ones_like(x[:, 0]), rtol=1e-3, atol=0)


def test_the_loss_of_a_model_in_bfloat16_is_counted_in_float32():
    batch = pack(three_samples())
    loss = model_of().bfloat16().loss(batch)
    assert loss.dtype == torch.float32 and loss.item() == pytest.approx(
        model_of().loss(batch).item(), rel=0.05
    )


@every_backend
@pytest.mark.parametrize("prune", [True, False])
@pytest.mark.parametrize("checkpointed", [True, False])
@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_a_batch_without_samples_has_loss_0_and_gives_every_weight_a_gradient_of_0(
    backend, prune, checkpointed, reduction
):
    # In distributed training a process without a sample must still exchange gradients.
    model = model_of(dropout=0.1)
    model.backend, model.prune, model.checkpoint_activations = backend, prune, checkpointed
    loss = model.loss(pack([]), reduction)
    assert loss.shape == () and loss.item() == 0
    for name, gradient in gradients(model, loss).items():
        assert gradient is not None and (gradient == 0).all(), name
    assert model.loss(pack([]), "none").shape == (0,)


@every_backend
def test_a_batch_that_learns_nothing_gives_every_weight_a_gradient_of_0(backend):
    model = model_of()
    model.backend = backend
    loss = model.loss(pack([example(5, []), example(3, [])]), "sum")
    assert loss.item() == 0
    for name, gradient in gradients(model, loss).items():
        assert gradient is not None and (gradient == 0).all(), name


def test_one_batch_can_be_learned_by_heart():
    torch.manual_seed(0)
    model = GLM(dataclasses.replace(TINY, hidden_size=24))
    batch = pack(three_samples())
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-2)
    first = model.loss(batch).item()
    for _ in range(80):
        loss = model.loss(batch)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert first > 3 and model.loss(batch).item() < 0.1


# ---- modes


def saved_bytes(model, batch):
    """The loss, its gradients, and the memory kept for the backward pass (without weights)."""
    kept, weights = {}, {p.untyped_storage().data_ptr() for p in model.parameters()}

    def keep(x):
        storage = x.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return x

    torch.manual_seed(5)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
        loss = model.loss(batch)
    return {"loss": loss.detach(), **gradients(model, loss)}, sum(kept.values())


@every_backend
@pytest.mark.parametrize("prune", [True, False])
def test_checkpointed_activations_save_memory_and_change_nothing(backend, prune):
    model, batch = model_of(num_layers=4, dropout=0.2), pack(three_samples())
    model.backend, model.prune = backend, prune
    plain, plain_bytes = saved_bytes(model, batch)
    model.checkpoint_activations = True
    checkpointed, checkpointed_bytes = saved_bytes(model, batch)
    assert_same(plain, checkpointed, rtol=0, atol=0)  # even dropout: the recomputation draws the same numbers
    assert checkpointed_bytes < plain_bytes / 3


def test_dropout_follows_the_seed_in_training_and_is_off_in_evaluation():
    model, batch = model_of(dropout=0.3), pack(three_samples())

    def loss(seed):
        torch.manual_seed(seed)
        return model.loss(batch).item()

    assert loss(1) == loss(1) != loss(2)
    model.eval()
    assert loss(1) == loss(2) == model_of(dropout=0.0).loss(batch).item()


def test_dropout_acts_on_the_embedding_sum_the_attention_output_and_the_mlp_output(monkeypatch):
    # and nowhere else: there is no dropout on attention weights
    model, batch, shapes = model_of(dropout=0.3), pack(three_samples()), []
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.register_forward_hook(lambda module, inputs, out: shapes.append(tuple(out.shape)))
    model.prune = False
    model.loss(batch)
    assert shapes == [(26, TINY.hidden_size)] * (1 + 2 * TINY.num_layers)
    calls = []
    monkeypatch.setattr(F, "dropout", lambda x, *args, **kwargs: calls.append(1) or x)
    model.loss(batch)
    assert len(calls) == 1 + 2 * TINY.num_layers  # the same, except for what a module does not show


def test_autocast_to_bfloat16_trains_the_same_model():
    model, batch = model_of(), pack(three_samples())
    whole = gradients(model, model.loss(batch))
    with torch.autocast("cpu", torch.bfloat16):
        loss = model.loss(batch)
    assert loss.dtype == torch.float32 and loss.item() == pytest.approx(model.loss(batch).item(), rel=0.02)
    for name, gradient in gradients(model, loss).items():
        assert gradient.dtype == torch.float32
        assert float((gradient - whole[name]).norm()) <= 0.05 * float(whole[name].norm()) + 1e-3, name


def test_a_compiled_model_gives_the_same_losses_and_gradients():
    model = model_of()
    batches = [pack(three_samples()), pack(three_samples()[:2])]
    expected = [{"loss": (loss := model.loss(b)).detach(), **gradients(model, loss)} for b in batches]
    model.compile(backend="aot_eager")
    for batch, plain in zip(batches, expected, strict=True):
        loss = model.loss(batch)
        assert_same({"loss": loss.detach(), **gradients(model, loss)}, plain, rtol=1e-5, atol=1e-5)
    assert model.state_dict().keys() == GLM(TINY).state_dict().keys()


def test_a_copy_of_a_compiled_model_computes_with_its_own_weights():
    model = model_of(num_layers=1)
    model.compile(backend="eager")
    twin, batch = copy.deepcopy(model), pack(three_samples()[1:2])
    with torch.no_grad():
        twin.layers[0].qkv.weight.zero_()
    assert twin.loss(batch).item() != model.loss(batch).item()


# ---- pictures


@every_backend
@pytest.mark.parametrize("layer", [0, 1, -1])
def test_attention_weights_are_the_softmax_of_what_the_layer_asks_and_offers(backend, layer):
    model, batch, heard = model_of(dropout=0.5), pack(three_samples()), []
    model.backend, C, H = backend, TINY.hidden_size, TINY.num_heads
    weights = model.attention_weights(batch, layer)
    assert model.training and all(module.training for module in model.modules())
    assert [tuple(w.shape) for w in weights] == [(H, 10, 10), (H, 5, 5), (H, 11, 11)]

    model.eval()
    model.layers[layer].qkv.register_forward_hook(lambda module, inputs, out: heard.append(out))
    with torch.no_grad():
        model(*inputs(batch))
    qkv, start = heard[0].double().numpy(), 0
    for w, part_a_len in zip(weights, batch.mask.part_a_lens.tolist(), strict=True):
        T = w.shape[1]
        torch.testing.assert_close(w.sum(-1), torch.ones(H, T))
        for h in range(H):
            columns = slice(h * C // H, (h + 1) * C // H)
            q, k = qkv[start : start + T, :C][:, columns], qkv[start : start + T, C : 2 * C][:, columns]
            for i in range(T):
                open_cells = [j for j in range(T) if j < part_a_len or j <= i]
                e = np.exp(k[open_cells] @ q[i] / math.sqrt(C // H))
                np.testing.assert_allclose(w[h, i, open_cells], e / e.sum(), rtol=1e-4, atol=1e-6)
                assert (w[h, i, [j for j in range(T) if j not in open_cells]] == 0).all()
        start += T


def test_attention_weights_leave_an_evaluating_model_so_and_refuse_a_layer_that_is_not_there():
    model, batch = model_of(dropout=0.5).eval(), pack(three_samples())
    assert not model.attention_weights(batch, 0)[0].requires_grad and not model.training
    assert model.attention_weights(pack([]), 0) == []
    for layer in (2, -3):
        with pytest.raises(MinglmError, match=f"layer: {layer} "):
            model.attention_weights(batch, layer)


def test_the_names_of_weights_are_those_of_the_model():
    config = GLMConfig(vocab_size=10, hidden_size=4, num_layers=2, num_heads=1, max_positions=8)
    assert sorted(names_of_weights(config)) == sorted(GLM(config).state_dict())
