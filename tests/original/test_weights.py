"""Weights of the original GLM: every published form is read, gives the original's numbers, and runs no code.

The files are written here from the list of keys below and by Megatron's rule for splitting matrices, without
any code of minglm.
"""

import argparse
import collections
import json
import os
import pickle
import random
import sys
import types

import numpy as np
import pytest
import safetensors.torch
import torch
from conftest import RECORDED
from hypothesis import given, settings
from hypothesis import strategies as st

from minglm import GLM, GLMConfig, GLMMask, MinglmError, Tokenizer, fill, write
from minglm.cli import parser
from minglm.original import weights as module
from minglm.original.weights import original_name, read_original, rename

from_original = GLM.from_original
PARITY = RECORDED / "thudm_parity_a.npz"
TRACKER = "latest_checkpointed_iteration.txt"


def keys_of(V, h, P, layers):
    """Every key of a Megatron file with its shape."""
    shapes = {
        "word_embeddings.weight": (V, h),
        "transformer.position_embeddings.weight": (P + 1, h),
        "transformer.block_position_embeddings.weight": (P + 1, h),
        "transformer.final_layernorm.weight": (h,),
        "transformer.final_layernorm.bias": (h,),
    }
    for i in range(layers):
        layer = {
            "input_layernorm.weight": (h,),
            "input_layernorm.bias": (h,),
            "attention.query_key_value.weight": (3 * h, h),
            "attention.query_key_value.bias": (3 * h,),
            "attention.dense.weight": (h, h),
            "attention.dense.bias": (h,),
            "post_attention_layernorm.weight": (h,),
            "post_attention_layernorm.bias": (h,),
            "mlp.dense_h_to_4h.weight": (4 * h, h),
            "mlp.dense_h_to_4h.bias": (4 * h,),
            "mlp.dense_4h_to_h.weight": (h, 4 * h),
            "mlp.dense_4h_to_h.bias": (h,),
        }
        shapes |= {f"transformer.layers.{i}.{name}": shape for name, shape in layer.items()}
    return shapes


def random_weights(V=128, h=64, P=16, layers=2, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return {
        key: 0.3 * torch.randn(shape, generator=generator) for key, shape in keys_of(V, h, P, layers).items()
    }


def cut(key, w, rank, ranks):
    """The piece of one weight on a Megatron rank."""

    def piece(w, dim=0):
        size = w.shape[dim] // ranks
        return w.narrow(dim, rank * size, size).clone()

    if "query_key_value" in key:
        h = len(w) // 3
        return torch.cat([piece(w[:h]), piece(w[h : 2 * h]), piece(w[2 * h :])])
    if "word_embeddings" in key or "dense_h_to_4h" in key:
        return piece(w)
    if key.endswith(("attention.dense.weight", "dense_4h_to_h.weight")):
        return piece(w, 1)
    return w.clone()


def training_state():
    """The contents of a Megatron file besides the weights."""
    return {
        "random_rng_state": random.getstate(),
        "np_rng_state": np.random.get_state(),
        "torch_rng_state": torch.get_rng_state(),
        "rng_tracker_states": {"model-parallel-rng": torch.get_rng_state()},
        "lr_scheduler": {"end_lr": np.float64(0.1)},
        "skipped_steps": 0,
        "csr_tensor_module_names": {"word_embeddings"},
        "args": argparse.Namespace(lr=1e-4, betas=(1, 2)),
    }


def write_megatron(folder, weights, ranks=1, tag="250000", iteration=250000, **more):
    """Write <folder>/<tag>/mp_rank_00_model_states.pt and so on, and the file that names the tag."""
    (folder / tag).mkdir(parents=True)
    (folder / TRACKER).write_text(tag)
    for rank in range(ranks):
        state = {
            "iteration": iteration,
            "module": {k: cut(k, w, rank, ranks) for k, w in weights.items()},
            **training_state(),
        }
        torch.save(state | more, folder / tag / f"mp_rank_{rank:02}_model_states.pt")
    return folder


def write_hub(folder, weights, form, **config):
    """Write a Hugging Face folder in one of four forms."""
    folder.mkdir(parents=True)
    config = {"model_type": "glm", "hidden_size": len(weights[min(weights, key=len)][0]), **config}
    (folder / "config.json").write_text(json.dumps(config))
    save = safetensors.torch.save_file if "safetensors" in form else torch.save
    if "index" not in form:
        save(weights, folder / form)
        return folder
    stem, ending = form.removesuffix(".index.json").rsplit(".", 1)
    keys, where = list(weights), {}
    for i, part in enumerate((keys[::2], keys[1::2]), 1):
        name = f"{stem}-{i:05}-of-00002.{ending}"
        save({key: weights[key] for key in part}, folder / name)
        where |= dict.fromkeys(part, name)
    (folder / form).write_text(json.dumps({"metadata": {}, "weight_map": where}))
    return folder


def sat_names(weights):
    """The same weights under the names of SwissArmyTransformer."""
    mixin = "mixins.block_position_embedding"
    renamed = {
        "word_embeddings.weight": "transformer.word_embeddings.weight",
        "transformer.block_position_embeddings.weight": f"{mixin}.block_position_embeddings.weight",
    }
    return {renamed.get(key, key): w for key, w in weights.items()}


def prefixed(prefix, weights):
    return {prefix + key: w for key, w in weights.items()}


def file(path, state):
    torch.save(state, path)
    return path


HUB_FORMS = (
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
    "model.safetensors",
    "model.safetensors.index.json",
)
FORMS = {  # name -> (a function that writes weights below a folder and returns the path to read, the gelu)
    **{
        f"Megatron, {n} ranks": (lambda where, w, n=n: write_megatron(where, w, n), "tanh") for n in (1, 2, 4)
    },
    "one rank's file": (
        lambda where, w: write_megatron(where, w, 2) / "250000" / "mp_rank_01_model_states.pt",
        "tanh",
    ),
    "the folder of a tag": (lambda where, w: write_megatron(where, w, 2) / "250000", "tanh"),
    **{
        f"hub, {form}": (lambda where, w, form=form: write_hub(where / "x", w, form), "erf")
        for form in HUB_FORMS
    },
    "hub, the file alone": (
        lambda where, w: write_hub(where / "x", w, "pytorch_model.bin") / "pytorch_model.bin",
        "erf",
    ),
    "saved by the port": (
        lambda where, w: write_hub(where / "x", prefixed("glm.", w), "pytorch_model.bin"),
        "erf",
    ),
    "cloze wrapper": (lambda where, w: file(where / "w.pt", {"module": prefixed("model.", w)}), "tanh"),
    "DDP wrapper": (lambda where, w: write_megatron(where, prefixed("module.", w), 2), "tanh"),
    "SAT": (lambda where, w: write_megatron(where, sat_names(w), 2), "tanh"),
}


@pytest.fixture(scope="module")
def parity():
    arrays = dict(np.load(PARITY))
    values = json.loads(str(arrays["config"]))
    config = GLMConfig(
        values["vocab_size"],
        values["hidden_size"],
        values["num_layers"],
        values["num_attention_heads"],
        values["max_sequence_length"],
        dropout=0.0,
    )
    weights = {name[5:]: torch.from_numpy(arrays[name[5:]]) for name in arrays if name.startswith("grad/")}
    assert {key: tuple(w.shape) for key, w in weights.items()} == keys_of(211, 64, 64, 3)
    return arrays, config, weights


def original_logits(model, arrays):
    """The logits of the fixture's rows, computed in one packed batch: (B, S, V)."""
    B, S = arrays["input_ids"].shape
    positions = torch.from_numpy(arrays["position_ids"]).long()
    mask = GLMMask.packed(torch.full((B,), S, dtype=torch.int32), torch.from_numpy(arrays["sep"]))
    tokens = torch.from_numpy(arrays["input_ids"]).long().flatten()
    return model(tokens, positions[:, 0].flatten(), positions[:, 1].flatten(), mask).view(B, S, -1)


def same(model, weights):
    """Whether a model has exactly these original weights."""
    state = model.state_dict()
    names = {original_name(name) for name in state}
    return names == set(weights) and all(
        torch.equal(w, weights[original_name(name)]) for name, w in state.items()
    )


def error_of(function, *args, **kwargs):
    with pytest.raises(MinglmError) as caught:
        function(*args, **kwargs)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# ---- the numbers


def test_the_original_codes_logits_loss_and_gradients_come_out(parity):
    arrays, config, weights = parity
    model = GLM.from_original(PARITY, config)
    logits = original_logits(model, arrays)
    assert logits.isfinite().all()
    torch.testing.assert_close(logits.detach(), torch.from_numpy(arrays["logits"]), atol=1e-4, rtol=0)
    targets = torch.from_numpy(arrays["targets"]).long().flatten()
    losses = torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets, reduction="none")
    learned = torch.from_numpy(arrays["loss_mask"]).flatten()
    loss = (losses * learned).sum() / learned.sum()
    torch.testing.assert_close(loss.detach(), torch.tensor(float(arrays["loss"])), atol=1e-5, rtol=1e-6)
    loss.backward()
    parameters = dict(model.named_parameters())
    assert len(weights) == len(parameters)
    wanted, _ = rename({name: arrays["grad/" + name] for name in weights})
    for name, parameter in parameters.items():
        error = (parameter.grad - wanted[name]).abs().max() / wanted[name].abs().max()
        assert error <= 1e-5, (name, error)


def test_a_wrong_gelu_would_be_noticed(parity):
    arrays, config, weights = parity
    erf = GLMConfig(**{**vars(config), "gelu": "erf"})
    off = original_logits(from_original(weights, erf), arrays) - torch.from_numpy(arrays["logits"])
    assert off.abs().max() > 1e-3


@pytest.mark.parametrize("form", FORMS)
def test_every_published_form_gives_the_originals_numbers(parity, tmp_path, capsys, form):
    arrays, config, weights = parity
    weights = weights | {
        "word_embeddings.weight": torch.cat([weights["word_embeddings.weight"], torch.ones(1, 64)])
    }
    config = GLMConfig(**{**vars(config), "vocab_size": 212})  # a table that can be split into 1, 2 and 4
    layout, gelu = FORMS[form]
    path = layout(tmp_path, weights)
    model = GLM.from_original(str(path), config)
    assert same(model, weights) and not model.training and capsys.readouterr() == ("", "")
    with torch.no_grad():
        logits = original_logits(model, arrays)[..., :211]
    torch.testing.assert_close(logits, torch.from_numpy(arrays["logits"]), atol=1e-4, rtol=0)
    read = from_original(path).config  # without a config: from the source and the shapes
    assert read == GLMConfig(212, 64, 3, 1, 64, gelu=gelu)  # one head of width 64; the fixture has 4
    assert ("Hugging Face" in read_original(path).why_gelu) == (gelu == "erf")


@settings(max_examples=25)
@given(
    st.integers(1, 3),
    st.sampled_from([1, 2, 4]),
    st.integers(1, 9),
    st.integers(1, 3),
    st.integers(1, 9),
    st.randoms(),
    st.sampled_from(["", "module.", "glm.", "model.", "module.model.glm."]),
)
def test_cut_and_put_together_again_nothing_is_lost(
    tmp_path_factory, width, ranks, tokens, layers, positions, rng, prefix
):
    weights = random_weights(4 * tokens, 64 * width, positions, layers)
    keys = list(weights)
    rng.shuffle(keys)
    folder = write_megatron(
        tmp_path_factory.mktemp("m"), prefixed(prefix, {key: weights[key] for key in keys}), ranks
    )
    assert same(from_original(folder), weights)


def test_qkv_is_cut_in_each_third(tmp_path):
    """The mistake of joining whole pieces would put K of rank 0 before Q of rank 1."""
    weights = random_weights(h=64)
    folder = write_megatron(tmp_path, weights, 2) / "250000"
    pieces = [
        torch.load(folder / f"mp_rank_0{r}_model_states.pt", weights_only=False)["module"] for r in (0, 1)
    ]
    key = "transformer.layers.0.attention.query_key_value.bias"
    assert not torch.equal(torch.cat([p[key] for p in pieces]), weights[key])
    assert torch.equal(from_original(folder).layers[0].qkv.bias, weights[key])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_weights_of_any_float_type_become_float32(tmp_path, dtype):
    weights = {key: w.to(dtype) for key, w in random_weights().items()}
    model = from_original(write_megatron(tmp_path, weights, 2))
    assert same(model, {key: w.float() for key, w in weights.items()})


def test_a_state_dict_and_plain_files_are_read_too(tmp_path, capsys):
    weights = random_weights()
    np.savez(tmp_path / "w.npz", **{key: w.numpy() for key, w in weights.items()})
    safetensors.torch.save_file(weights, tmp_path / "w.safetensors")
    torch.save(weights, tmp_path / "w.pt")
    torch.save({"module": weights}, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    for path in tmp_path.iterdir():
        model = from_original(path)
        assert same(model, weights) and model.config.gelu == "tanh", path
    before = {key: w.clone() for key, w in weights.items()}
    assert same(from_original({"module": weights, **training_state()}), weights)
    assert all(torch.equal(before[key], weights[key]) for key in weights)
    assert capsys.readouterr() == ("", "")


# ---- what the shapes do not show


def test_heads_come_from_a_hub_config_which_may_not_contradict_the_weights(tmp_path):
    weights = random_weights()
    assert (
        from_original(
            write_hub(tmp_path / "a", weights, "pytorch_model.bin", num_attention_heads=4)
        ).config.num_heads
        == 4
    )
    for config, says in (
        (dict(hidden_size=4096), "hidden_size is 4096, the weights have 64"),
        (dict(num_attention_heads="4"), "num_attention_heads is '4'"),
        (dict(model_type="minglm"), "GLM.from_pretrained"),
    ):
        folder = write_hub(tmp_path / says[:9], weights, "pytorch_model.bin", **config)
        assert says in error_of(from_original, folder)
        (folder / "config.json").write_text("{")
        assert f"{folder / 'config.json'}: damaged" in error_of(from_original, folder)
    assert "give a config" in error_of(from_original, random_weights(h=40))
    assert from_original(random_weights(h=40), GLMConfig(128, 40, 2, 4, 16)).config.num_heads == 4
    assert read_original(random_weights(h=40)).config(num_heads=4, gelu="erf") == GLMConfig(
        128, 40, 2, 4, 16, gelu="erf"
    )


def test_short_position_tables_grow_fresh_rows_and_long_ones_are_an_error(parity, capsys):
    _, config, weights = parity
    model = from_original(weights, GLMConfig(**{**vars(config), "max_positions": 100}))
    for ours, theirs in (("position", "position"), ("block_position", "block_position")):
        table = model.get_parameter(f"{ours}_embedding.weight").detach()
        assert torch.equal(table[:65], weights[f"transformer.{theirs}_embeddings.weight"])
        assert table.shape == (101, 64) and 0.018 < table[65:].std() < 0.022
    assert capsys.readouterr().err.count("65 of 101 rows") == 2
    message = error_of(from_original, weights, GLMConfig(**{**vars(config), "max_positions": 32}))
    assert "transformer.position_embeddings.weight has shape (65, 64), the config asks for (33" in message


@pytest.mark.parametrize("is_hub", [False, True])
def test_gmask_gets_the_row_that_it_shared_with_eop(tmp_path, monkeypatch, capsys, is_hub):
    """10B-chinese is recognised by its table's shape, here of another width. The hub's form has the copy."""
    monkeypatch.setattr(module, "SHARED_GMASK", (50048, 64))
    weights = random_weights(50048, 64, 4, 1)
    table = weights["word_embeddings.weight"]
    before = table.clone()
    if is_hub:
        table[50009] = table[50007]
    path = (
        write_hub(tmp_path / "x", weights, "pytorch_model.bin")
        if is_hub
        else write_megatron(tmp_path, weights, 2)
    )
    rows = from_original(path).token_embedding.weight
    assert torch.equal(rows[50009], before[50007]) and not torch.equal(before[50009], before[50007])
    assert torch.equal(rows[:50009], before[:50009]) and torch.equal(rows[50010:], before[50010:])
    assert ("row 50007" in capsys.readouterr().err) is not is_hub
    if not is_hub:
        from_original(weights)
        assert torch.equal(table, before), "the caller's own tensor was changed"
        assert torch.equal(
            from_original(random_weights(50048, 128, 4, 1)).token_embedding.weight[50009],
            random_weights(50048, 128, 4, 1)["word_embeddings.weight"][50009],
        )


@pytest.mark.parametrize("form", ["Megatron", "pytorch_model.bin", "model.safetensors.index.json"])
def test_heads_of_other_tasks_are_ignored_with_one_note(tmp_path, capsys, form):
    weights = random_weights()
    extra = {
        "pool_layer.weight": (64, 64),
        "multichoice_head.bias": (1,),
        "dense.weight": (64, 64),
        "out_proj.bias": (2,),
        "prompt_spell.lstm_head.weight_ih_l0": (8, 8),
    }
    both = weights | {key: torch.ones(shape) for key, shape in extra.items()}
    path = write_megatron(tmp_path, both, 2) if form == "Megatron" else write_hub(tmp_path / "x", both, form)
    assert same(from_original(path), weights)
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and err.startswith("minglm: note: ") and all(key in err for key in extra)


# ---- what does not fit


def test_each_missing_backbone_weight_is_an_error_that_names_it(parity):
    _, config, weights = parity
    for name in weights:
        rest = {other: w for other, w in weights.items() if other != name}
        assert f"weight {name} is missing" in error_of(from_original, rest, config)
        assert "missing" in error_of(from_original, rest)
    assert "word_embeddings.weight is missing" in error_of(from_original, {})
    message = error_of(from_original, weights, GLMConfig(**{**vars(config), "num_layers": 2}))
    assert "transformer.layers.2.input_layernorm.weight is one too many" in message


def test_ranks_that_do_not_belong_together_are_refused(tmp_path):
    weights = random_weights()
    folder = write_megatron(tmp_path / "a", weights, 4) / "250000"
    files = [folder / f"mp_rank_0{rank}_model_states.pt" for rank in range(4)]
    third = files[2].read_bytes()
    files[2].unlink()  # a gap
    for path in (folder, folder.parent, files[0]):
        assert f"{files[2]}: not found, though mp_rank_03_model_states.pt is there" in error_of(
            from_original, path
        )
    files[2].write_bytes(third)
    files[3].unlink()  # the last one: only the shapes show it
    assert "has 144 of 192 rows: ranks are missing" in error_of(from_original, folder)
    alone = write_alone(tmp_path / "one", write_megatron(tmp_path / "b", weights, 2))
    assert "96 of 192 rows" in error_of(from_original, alone)

    folder = write_megatron(tmp_path / "c", weights, 2, mp_world_size=4) / "250000"
    assert "2 of 4 ranks" in error_of(from_original, folder)
    other = write_megatron(tmp_path / "d", weights, 2, iteration=249999) / "250000" / files[1].name
    mixed = write_megatron(tmp_path / "e", weights, 2) / "250000"
    (mixed / files[1].name).write_bytes(other.read_bytes())
    message = error_of(from_original, mixed)
    assert "different iterations" in message and "mp_rank_01_model_states.pt: 249999" in message
    other = write_megatron(tmp_path / "f", random_weights(seed=1), 2) / "250000" / files[1].name
    (mixed / files[1].name).write_bytes(other.read_bytes())
    assert "is not the same on ranks 0 and 1: not of one checkpoint" in error_of(from_original, mixed)


def write_alone(folder, checkpoint):
    """The first rank of a checkpoint, moved to a folder without the others."""
    folder.mkdir()
    return (checkpoint / "250000" / "mp_rank_00_model_states.pt").rename(
        folder / "mp_rank_00_model_states.pt"
    )


@pytest.mark.parametrize(
    "change, says",
    [
        (
            lambda m: m.pop("transformer.final_layernorm.bias"),
            "weight transformer.final_layernorm.bias is missing",
        ),
        (
            lambda m: m.update({"word_embeddings.weight": torch.ones(3, 64)}),
            "has shapes (64, 64), (3, 64) on ranks 0 to 1",
        ),
        (
            lambda m: m.update({"transformer.layers.0.attention.dense.weight": torch.tensor(1.0)}),
            "has shapes (64, 32), () on",
        ),
        (lambda m: m.update({"word_embeddings.weight": "text"}), "is not an array of numbers"),
        (
            lambda m: m.update({"module.word_embeddings.weight": torch.ones(64, 64)}),
            "two keys mean word_embeddings.weight",
        ),
        (
            lambda m: m.update({"word_embeddings.weight": torch.ones(64, 64).to_sparse()}),
            "is not an array of numbers",
        ),
        (
            lambda m: m.update({"word_embeddings.weight": torch.ones(1).expand(10**9, 10**6)}),
            "is not an array of numbers",
        ),
    ],
)
def test_a_rank_that_is_wrong_is_named(tmp_path, change, says):
    path = write_megatron(tmp_path, random_weights(), 2) / "250000" / "mp_rank_01_model_states.pt"
    state = torch.load(path, weights_only=False)
    change(state["module"])
    torch.save(state, path)
    message = error_of(from_original, tmp_path)
    assert says in message and str(tmp_path) in message


@pytest.mark.parametrize(
    "name, shape",
    [
        ("transformer.layers.1.attention.query_key_value.bias", (191,)),
        ("word_embeddings.weight", (128, 63)),
        ("transformer.final_layernorm.weight", (64, 1)),
        ("transformer.layers.0.mlp.dense_h_to_4h.weight", (64, 256)),
        ("transformer.block_position_embeddings.weight", (18, 64)),
        ("word_embeddings.weight", (64,)),
    ],
)
def test_shapes_that_do_not_fit_are_one_clear_line(tmp_path, name, shape):
    weights = random_weights() | {name: torch.ones(shape)}
    message = error_of(from_original, file(tmp_path / "w.pt", weights), GLMConfig(128, 64, 2, 1, 16))
    assert str(shape) in message and str(tmp_path / "w.pt") in message
    assert str(tmp_path / "w.pt") in error_of(from_original, tmp_path / "w.pt")
    for one in range(4):  # all ranks have the same wrong shape
        weights[name] = torch.ones(()) if one == 3 else torch.ones((5,) * (one + 1))
        parts = [
            {k: weights[k] if k == name else cut(k, w, rank, 2) for k, w in weights.items()}
            for rank in (0, 1)
        ]
        for rank, part in enumerate(parts):
            file(tmp_path / f"mp_rank_0{rank}_model_states.pt", {"module": part})
        error_of(from_original, tmp_path / "mp_rank_00_model_states.pt", GLMConfig(128, 64, 2, 1, 16))


def test_half_a_file_is_named(tmp_path):
    weights = random_weights(32, 64, 4, 1)
    paths = [write_megatron(tmp_path / "m", weights, 2) / "250000" / "mp_rank_01_model_states.pt"]
    paths += [
        write_hub(tmp_path / form[:6], weights, form) / form
        for form in ("pytorch_model.bin", "model.safetensors")
    ]
    paths += [
        write_hub(tmp_path / "x", weights, "model.safetensors.index.json")
        / "model-00002-of-00002.safetensors"
    ]
    np.savez(tmp_path / "w.npz", **{key: w.numpy() for key, w in weights.items()})
    old = tmp_path / "old.pt"
    torch.save({"module": weights}, old, _use_new_zipfile_serialization=False)
    for path in (*paths, tmp_path / "w.npz", old):
        whole = path.read_bytes()
        for size in (0, 1, 100, len(whole) // 2, len(whole) - 1):
            path.write_bytes(whole[:size])
            assert str(path) in error_of(from_original, path if path.parent == tmp_path else path.parent)
        path.write_bytes(whole)
        assert same(from_original(path if path.parent == tmp_path else path.parent), weights)


def test_an_index_that_points_astray_is_refused(tmp_path):
    folder = write_hub(tmp_path / "x", random_weights(), "pytorch_model.bin.index.json")
    index = folder / "pytorch_model.bin.index.json"
    good = json.loads(index.read_text())
    (folder / "pytorch_model-00002-of-00002.bin").rename(tmp_path / "aside")
    assert f"{folder / 'pytorch_model-00002-of-00002.bin'}: not found" in error_of(from_original, folder)
    for where in ("../aside", "/etc/passwd", "", 3, ["a"]):
        index.write_text(json.dumps({"weight_map": good["weight_map"] | {"word_embeddings.weight": where}}))
        assert f"{index}: accepted: a weight_map" in error_of(from_original, folder)
    (tmp_path / "aside").rename(folder / "pytorch_model-00002-of-00002.bin")
    index.write_text(
        json.dumps({"weight_map": good["weight_map"] | {"more.weight": "pytorch_model-00001-of-00002.bin"}})
    )
    assert "lacks more.weight" in error_of(from_original, folder)
    for text in ("[]", "{", '{"weight_map": []}'):
        index.write_text(text)
        assert str(index) in error_of(from_original, folder)


def test_a_path_without_weights_names_what_is_accepted(tmp_path):
    (tmp_path / "empty").mkdir()
    for path in (tmp_path / "nothing", tmp_path / "empty"):
        message = error_of(from_original, path)
        assert str(path) in message and "mp_rank_00_model_states.pt" in message and "\n" not in message
    for tag in ("../elsewhere", "", "/", "250001", "\0", "a b", "x" * 5000):
        (tmp_path / TRACKER).write_text(tag)
        assert str(tmp_path / TRACKER) in error_of(from_original, tmp_path)
    (tmp_path / TRACKER).write_text("empty\n")
    assert f"{tmp_path / 'empty'}: no weights" in error_of(from_original, tmp_path)
    torch.save([1, 2], tmp_path / "list.pt")
    assert "holds a list" in error_of(from_original, tmp_path / "list.pt")
    (tmp_path / "bad.pt").write_bytes(b"no weights at all")
    assert str(tmp_path / "bad.pt") in error_of(from_original, tmp_path / "bad.pt")


# ---- nothing that is loaded runs code


class Calls:
    """An object as in a hostile file: unpickling it calls a function."""

    def __init__(self, function, *args, state=None):
        self.reduced = (function, args) if state is None else (function, args, state)

    def __reduce__(self):
        return self.reduced


class Unknown:
    """A class that is in no file of the original."""


def hostile(mark):
    """Attacks by name; each would create the file `mark` if it ran."""
    run = Calls(os.system, f"touch {mark}")
    array = np.empty(1, dtype=object)
    array[0] = run
    call = Calls(eval, f"open({str(mark)!r}, 'w')")
    return {
        "at the top": run,
        "builtins": call,
        "in a list": [1, [run]],
        "as a key": {(1, run): 2},
        "as a value": {"module": run},
        "in the arguments of an allowed class": Calls(collections.OrderedDict, [("a", call)]),
        "in the arguments of a tensor's maker": Calls(
            torch._utils._rebuild_parameter, run, False, collections.OrderedDict()
        ),
        "as the maker of a tensor": Calls(
            torch._tensor._rebuild_from_type_v2, os.system, torch.Tensor, (f"touch {mark}",), {}
        ),
        "in the state of a namespace": argparse.Namespace(a=run),
        "as the state of an allowed class": Calls(collections.OrderedDict, state={"a": call}),
        "as the state of an unknown class": Calls(Unknown, state={"a": 1}),
        "in an array of objects": array,
        "in a scalar of objects": Calls(np.float64(0).__reduce__()[0], np.dtype("O"), pickle.dumps(run)),
        "as a dtype's argument": Calls(np.dtype, [("a", run)]),
        "through getattr": Calls(getattr, "os", "system"),
        "through torch.load": Calls(torch.load, str(mark)),
        "through an import": Calls(__import__, "antigravity"),
        "a function as a value": {"f": os.system},
    }


def test_a_hostile_pickle_never_runs(tmp_path):
    mark = tmp_path / "ran"
    pickle.loads(pickle.dumps(hostile(mark)["at the top"]))
    assert mark.exists(), "this test must be able to fail"
    mark.unlink()
    good = random_weights(32, 64, 4, 1)
    for name, evil in hostile(mark).items():
        refused = tmp_path / "evil"
        refused.mkdir(exist_ok=True)
        state = {"module": good, "iteration": 1, "args": evil}
        paths = [file(refused / "w.pt", state), refused / "w.bin", refused / "old.pt"]
        paths[1].write_bytes(pickle.dumps(state, protocol=2))
        torch.save(state, paths[2], _use_new_zipfile_serialization=False)
        for path in (*paths, file(refused / "mp_rank_00_model_states.pt", state)):
            message = error_of(from_original, path)
            assert message.startswith(f"{path}: no weights that are safe to read: "), (name, message)
            assert "weights_only" not in message  # torch would advise to switch the protection off
        assert not mark.exists(), name
    np.savez(tmp_path / "w.npz", hostile(mark)["in an array of objects"])
    error_of(from_original, tmp_path / "w.npz")
    assert not mark.exists() and "antigravity" not in sys.modules
    endless = {"module": {}}
    endless["module"]["module"] = endless
    assert "is missing" in error_of(from_original, file(tmp_path / "w.pt", endless))
    assert "it asks for posix.system" in error_of(
        from_original, file(tmp_path / "w.pt", {"a": hostile(mark)["at the top"]})
    )


def test_objects_of_the_training_are_ignored_and_never_made(tmp_path, monkeypatch):
    """A loss scaler of the original's fp16 package, which is not installed and must not be imported."""
    made = []
    fp16, loss_scaler = types.ModuleType("fp16"), types.ModuleType("fp16.loss_scaler")
    scaler = type(
        "DynamicLossScaler",
        (),
        {"__module__": "fp16.loss_scaler", "__setstate__": lambda self, s: made.append(s)},
    )
    loss_scaler.DynamicLossScaler = fp16.loss_scaler = scaler
    monkeypatch.setitem(sys.modules, "fp16", fp16)
    monkeypatch.setitem(sys.modules, "fp16.loss_scaler", loss_scaler)
    state = scaler()
    state.cur_scale = 2.0**32
    weights = random_weights()
    path = write_megatron(
        tmp_path, weights, 1, optimizer={"loss_scaler": state, "state": {0: {"exp_avg": torch.ones(2)}}}
    )
    assert same(from_original(path), weights) and not made
    monkeypatch.delitem(sys.modules, "fp16.loss_scaler")
    assert same(from_original(path), weights)
    namespace = module.load(path / "250000" / "mp_rank_00_model_states.pt")["args"]
    assert type(namespace) is module.Ignored and not vars(namespace)


# ---- minglm convert


def convert(capsys, *args):
    """Run the command as from the command line -> its output."""
    capsys.readouterr()
    args = parser().parse_args(["convert", *map(str, args)])
    args.run(args)
    return capsys.readouterr()


BERT = [
    "[PAD]",
    "[unused0]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    "[MASK]",
    *"abcdefghijklmnopqrstuvwxyz.,",
    "the",
    "##s",
    "cat",
    "sat",
]


def test_a_converted_checkpoint_fills_blanks(tmp_path, capsys):
    weights = random_weights()
    folder = write_megatron(tmp_path / "m", weights | {"pool_layer.bias": torch.ones(1)}, 2)
    (tmp_path / "vocab.txt").write_text("\n".join(BERT))
    out = convert(capsys, folder, "--out", tmp_path / "out", "--tokenizer", tmp_path / "vocab.txt").out
    for line in (
        "Megatron, 2 ranks of iteration 250000",
        "2 layers, width 64, 128 tokens, 16 positions",
        "1 of width 64",
        "tanh",
        "pool_layer.bias",
        f"{tmp_path / 'vocab.txt'}: pad 0, cls 3, eos 0, mask 5, smask 5, gmask 5, sop 38",
        "minglm fill",
    ):
        assert line in out, out
    model, tokenizer = GLM.from_pretrained(tmp_path / "out"), Tokenizer.from_pretrained(tmp_path / "out")
    assert same(model, weights) and tokenizer.vocab_size == model.config.vocab_size == 128
    filled = fill(model, tokenizer, "The [MASK] sat on the [MASK].", max_tokens=3)
    assert len(filled.blanks) == 2 and filled.text.startswith("the ") and filled.text.endswith(".")
    assert all(0 < len(blank.answer.tokens) <= 3 for blank in filled.blanks)
    assert write(model, tokenizer, "the cat", max_tokens=3).startswith("the cat")
    assert same(from_original(folder), weights)  # the source is unchanged


def test_convert_takes_the_tokenizer_beside_hub_weights_and_the_gelu_that_is_asked_for(tmp_path, capsys):
    folder = write_hub(tmp_path / "x", random_weights(), "pytorch_model.bin", num_attention_heads=2)
    output = convert(capsys, folder, "--out", tmp_path / "a")
    assert (
        "erf (as the Hugging Face code computes)" in output.out
        and "2 of width 32 (config.json)" in output.out
    )
    assert "no tokenizer" in output.err and not (tmp_path / "a" / "tokenizer.json").exists()
    (folder / "vocab.txt").write_text("\n".join(BERT))
    assert (
        f"{folder / 'vocab.txt'}: "
        in convert(capsys, folder, "--out", tmp_path / "b", "--gelu", "tanh", "--heads", 4).out
    )
    config = GLM.from_pretrained(tmp_path / "b").config
    assert (config.gelu, config.num_heads) == ("tanh", 4) and (tmp_path / "b" / "tokenizer.json").exists()


def test_a_conversion_that_fails_writes_nothing(tmp_path, capsys):
    folder = write_megatron(tmp_path / "m", random_weights(), 2)
    (tmp_path / "vocab.txt").write_text("\n".join([*BERT, *map(str, range(100))]))
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "thesis.txt").write_text("years of work")
    for args, says in (
        ((folder, "--tokenizer", tmp_path / "vocab.txt"), "140 tokens, the model's table has 128 rows"),
        ((folder, "--tokenizer", tmp_path / "nothing"), "not found"),
        ((folder, "--heads", 5), "num_heads = 5"),
        ((folder, "--heads", 0), "num_heads"),
        ((tmp_path / "nothing",), "not found"),
    ):
        assert says in error_of(convert, capsys, *args, "--out", tmp_path / "out")
        assert not (tmp_path / "out").exists()
    assert "holds thesis.txt" in error_of(convert, capsys, folder, "--out", tmp_path / "thesis")
    assert os.listdir(tmp_path / "thesis") == ["thesis.txt"]
