"""Folders that the published code of GLM loads, written from a model of minglm.

    hf          config.json, model.safetensors, tokenizer files        for the published modeling_glm.py
    megatron    latest_checkpointed_iteration.txt, release/mp_rank_00_model_states.pt    for the training code

Weights keep their bytes and get the original's names; the head is the word table there, too, so it is written
once. A key "minglm" holds what the original's settings cannot say, for the way back (`weights`).
"""

import json
import os
from pathlib import Path

import safetensors.torch
import torch

from ..checks import check_pair
from ..errors import MinglmError, listed
from ..files.lock import contents
from ..files.weights import check_plain, unwrapped
from ..files.whole import folder_whole, one_line
from .tokenizer_files import tokenizer_files
from .weights import original_name

LAYOUTS = ("hf", "megatron")
CODE = "configuration_glm.py, modeling_glm.py and tokenization_glm.py"  # in every published folder


def save_original(model, directory, layout="hf", tokenizer=None, vocabulary=None):
    """Write a folder for the published code, atomically -> [the names of its files].

    layout: "hf" or "megatron". tokenizer: only a Hugging Face folder has its files. vocabulary: the file of
    the original's SentencePiece, which is copied, because it cannot be made of a tokenizer.json. Raises
    MinglmError for a changed model, a tokenizer that the published classes cannot read, and a folder that is
    not empty.
    """
    if layout not in LAYOUTS:
        raise MinglmError(f"layout: {layout!r} is not accepted; {' or '.join(LAYOUTS)} is")
    model, directory = unwrapped(model), Path(os.path.realpath(directory))
    check_plain(model)
    files = {}
    if tokenizer is not None and layout == "hf":
        check_pair(model, tokenizer)
        files = tokenizer_files(tokenizer, vocabulary)
    weights = {original_name(name): w.to("cpu", torch.float32) for name, w in model.state_dict().items()}
    with one_line(f"cannot write {directory}"):
        if directory.exists() and (names := contents(directory)):
            accepted = "accepted: a new name or an empty folder"
            raise MinglmError(f"{directory}: holds {listed(names)}; {accepted}")
        with folder_whole(directory) as folder:
            for name, data in files.items():
                (folder / name).write_bytes(data)
            (_write_hub if layout == "hf" else _write_megatron)(folder, weights, model.config)
        return sorted(p.relative_to(directory).as_posix() for p in directory.rglob("*") if p.is_file())


def _write_hub(folder, weights, config):
    weights = {name: weight.contiguous() for name, weight in weights.items()}
    (folder / "model.safetensors").write_bytes(safetensors.torch.save(weights, metadata={"format": "pt"}))
    text = json.dumps(hub_config(config), indent=2) + "\n"
    (folder / "config.json").write_text(text, encoding="utf-8")


def _write_megatron(folder, weights, config):
    """The tag "release" tells the training code that there is no state of an optimizer to load."""
    state = {
        "iteration": 0,
        "module": {name: weight.clone() for name, weight in weights.items()},
        "mp_world_size": 1,
        "dp_world_size": 1,
        "global_steps": 0,
        "skipped_steps": 0,
        "minglm": {"num_heads": config.num_heads, **beyond(config)},
    }
    (folder / "release").mkdir()
    torch.save(state, folder / "release" / "mp_rank_00_model_states.pt")
    (folder / "latest_checkpointed_iteration.txt").write_text("release")


def hub_config(config):
    """The config.json of a GLMConfig, with the keys of the published GLMConfig.

    max_sequence_length P stands for tables of P + 1 rows there, as here. Attention probabilities have no
    dropout, as in our training. auto_map names the published classes, whose code has to be put beside it.
    """
    return {
        "architectures": ["GLMModel"],
        "model_type": "glm",
        "auto_map": {
            "AutoConfig": "configuration_glm.GLMConfig",
            "AutoModel": "modeling_glm.GLMModel",
            "AutoModelForSeq2SeqLM": "modeling_glm.GLMForConditionalGeneration",
            "AutoModelForMultipleChoice": "modeling_glm.GLMForMultipleChoice",
        },
        "vocab_size": config.vocab_size,
        "hidden_size": config.hidden_size,
        "num_layers": config.num_layers,
        "num_attention_heads": config.num_heads,
        "max_sequence_length": config.max_positions,
        "block_position_encoding": True,
        "relative_encoding": False,
        "attention_scale": 1.0,
        "attention_dropout_prob": 0.0,
        "embedding_dropout_prob": config.dropout,
        "output_dropout_prob": config.dropout,
        "initializer_range": 0.02,
        "output_predict": True,
        "parallel_output": True,
        "checkpoint_activations": False,
        "checkpoint_num_layers": 1,
        "pool_token": "cls",
        "spell_length": None,
        "spell_func": "lstm",
        "torch_dtype": "float32",
        "minglm": beyond(config),
    }


def beyond(config):
    """The settings of a GLMConfig that the original's cannot say."""
    return {"gelu": config.gelu, "dropout": config.dropout, "family": config.family}


def differences(config, layout):
    """What the published code will do differently with this model: a list of sentences, most often empty."""
    found = []
    form = "erf" if layout == "hf" else "tanh"
    if config.gelu != form:
        found.append(
            f"the published code computes gelu in its {form} form, these weights learned {config.gelu}"
        )
    if layout == "megatron" and config.vocab_size % 128:
        option = "--make-vocab-size-divisible-by 1"
        found.append(f"{config.vocab_size:,} tokens, no multiple of 128: the training code needs {option}")
    if layout == "megatron" and config.hidden_size != 64 * config.num_heads:
        found.append(
            f"heads are not of width 64: give the training code --num-attention-heads {config.num_heads}"
        )
    if config.family != "glm":
        found.append(
            f"the weights learned the layout of {config.family!r}, which the published code never makes"
        )
    return found
