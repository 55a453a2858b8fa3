"""Settings: which source wins, which values are refused with which message, and complete settings files."""

import dataclasses
import math

import pytest
from hypothesis import HealthCheck, given, strategies
from hypothesis import settings as hypothesis_settings

from minglm.errors import MinglmError
from minglm.model import GLM, GLMConfig
from minglm.model_config import num_parameters
from minglm.train.config import MODEL_HELP, DataConfig, TrainConfig, keys, resolve, settings_of_run, to_toml
from minglm.train.presets import PRESETS

# key -> (values that are accepted, values of the right type that are not)
RANGES = {
    "model.vocab_size": ([1, 30592], [0, -1]),
    "model.hidden_size": ([4, 768], [0, -4]),
    "model.num_layers": ([1, 24], [0, -1]),
    "model.num_heads": ([1, 16], [0, -1, 3]),  # 3 does not divide 256
    "model.max_positions": (
        [4, 2048],
        [0, 3, 2049],
    ),  # a batch of 2,048 tokens holds one full sample at least
    "model.dropout": ([0.0, 0.5], [-0.1, 1.0]),
    "model.gelu": (["tanh", "erf"], ["", "relu", "TANH"]),
    "model.family": (["glm", "gpt", "bert", "prefix", "glm-1d"], ["", "GLM", "t5"]),
    "data.text": ([(), ("a", "b c"), ("a,b",)], [("",), ("a", "")]),
    "data.text_key": (["text", "本文"], [""]),
    "data.processes": ([1, 64], [0, -1]),
    "data.tokenizer": (["", "gpt2/tokenizer.json"], []),
    "data.documents": (["blank_line", "line", "file"], ["", "lines"]),
    "data.errors": (["strict", "replace"], ["", "ignore"]),
    "data.cache": (["", "/tmp/x"], []),
    "data.blanks": (["budget", "drawn"], ["", "any"]),
    "data.samples": (["windows", "sentences"], ["", "sentence"]),
    "data.spread": ([0.0, 9.0], [-0.1]),
    "data.held_out_every": ([2, 100], [1, 0, -2]),
    "data.held_out_by": (["position", "content"], ["", "text"]),
    "data.token": ([0.0, 7.5], [-0.1]),
    "data.sentence": ([0.0, 7.5], [-0.1]),
    "data.document": ([0.0, 7.5], [-0.1]),
    "data.mask_ratio": ([0.01, 0.99], [0.0, 1.0, -0.1]),
    "data.mean_span_length": ([0.1, 40.0], [0.0, -1.0, 40.1]),
    "data.max_span_length": ([3, 500], [0, -1, 1]),
    "data.document_min_ratio": ([0.01, 1.0], [0.0, -0.1, 1.1]),
    "data.document_max_ratio": ([0.5, 1.0], [0.0, -0.1, 1.1, 0.49]),
    "train.steps": ([1, 10**6], [0, -1]),
    "train.minutes": ([0.0, 0.5], [-1.0]),
    "train.batch_tokens": ([128, 10**6], [0, 127]),
    "train.micro_batch_tokens": ([1, 10**6], [0, -1]),
    "train.lr": ([1e-9, 1.0], [0.0, -1.0]),
    "train.table_lr_ratio": ([0.5, 1000.0], [0, -1.0, float("nan")]),
    "train.min_lr_ratio": ([0.0, 1.0], [-0.1, 1.1]),
    "train.warmup": ([0.0, 0.99], [-0.1, 1.0]),
    "train.decay": (["cosine", "linear"], ["", "constant"]),
    "train.weight_decay": ([0.0, 2.0], [-0.1]),
    "train.beta1": ([0.0, 0.999], [-0.1, 1.0]),
    "train.beta2": ([0.0, 0.999], [-0.1, 1.0]),
    "train.eps": ([1e-300, 1.0], [0.0, -1e-8]),
    "train.optimizer": (["adamw", "muon"], ["", "sgd"]),
    "train.muon_lr_ratio": ([1e-9, 50.0], [0.0, -1.0]),
    "train.momentum": ([0.0, 0.999], [1.0, -0.1]),
    "train.clip": ([0.0, 5.0], [-1.0]),
    "train.seed": ([0, 2**63 - 1], [-1, 2**63]),
    "train.dtype": (["auto", "float32", "bfloat16"], ["", "float16"]),
    "train.device": (["auto", "cpu", "cuda", "cuda:0", "cuda:11"], ["", "gpu", "cuda:", "cuda:-1", "cpu\n"]),
    "train.backend": (["auto", "kernel:avx2"], [""]),
    "train.compile": ([True, False], []),
    "train.workers": ([-1, 0, 64], [-2, 65]),
    "train.shard": ([True, False], []),
    "train.checkpoint_activations": ([True, False], []),
    "train.eval_every": ([1, 10**6], [0, -1]),
    "train.sample_every": ([1, 10**6], [0, -1]),
    "train.eval_samples": ([1, 10**6], [0, -1]),
    "train.save_every": ([1, 10**6], [0, -1]),
    "train.keep": ([1, 99], [0, -1]),
    "train.log_every": ([1, 99], [0, -1]),
    "train.log": (["", "tensorboard"], ["wandb"]),
}
WRONG_TYPES = {
    int: [True, 1.0, "1.0", "one", None, [1], "9" * 5000],
    float: [True, math.nan, math.inf, -math.inf, "nan", "inf", "x", "", None, [0.5], 10**400],
    bool: [1, 0, "yes", "1", "", None],
    str: [1, None, ["auto"], b"auto", "\udcff"],
    tuple[str, ...]: [1, [1], ["a", None], {"a": 1}, None, ["\udcff"]],
}
LIMITS = [(key, value) for key, (good, _) in RANGES.items() for value in good]
BEYOND = [(key, value) for key, (_, bad) in RANGES.items() for value in bad]
MISTYPED = [(key, value) for key, setting in keys().items() for value in WRONG_TYPES[setting.type]]


def value_of(config, key):
    section, name = key.split(".")
    return getattr(getattr(config, section), name)


def show(value):
    return repr(value)[:20]


def error_of(**arguments):
    with pytest.raises(MinglmError) as caught:
        resolve(**arguments)
    message = str(caught.value)
    path = str(arguments.get("file", ""))  # as long as the folder of a test may be
    assert "\n" not in message and len(message.replace(path, "")) < 250
    return message


@pytest.fixture
def toml(tmp_path):
    def write(text):
        path = tmp_path / "settings.toml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write


# Which source wins


def test_the_command_line_beats_the_file_which_beats_the_preset_which_beats_the_default(toml):
    file = toml('preset = "base"\n[train]\nlr = 0.25\nsteps = 7\n')
    config = resolve(file=file, overrides={"train.steps": "9"})
    assert config.train.steps == 9  # over 7 and the preset's 150,000
    assert config.train.lr == 0.25  # over the preset's 4e-4
    assert config.train.min_lr_ratio == 0.05  # the preset's, over the default 0.1
    assert config.train.keep == 2  # a default
    assert config.preset == "base" and config.model.num_layers == 12


def test_the_preset_of_the_command_line_beats_the_one_in_the_file(toml):
    config = resolve("large", file=toml('preset = "small"\n[model]\ndropout = 0.25\n'))
    assert (config.preset, config.model.num_layers, config.model.dropout) == ("large", 24, 0.25)


def test_without_a_preset_it_is_tiny():
    assert resolve() == resolve("tiny")
    assert resolve().preset == "tiny"


def test_texts_from_the_command_line_become_what_the_setting_holds():
    config = resolve(
        overrides={
            "train.lr": "3e-4",
            "train.steps": "12",
            "train.compile": "True",
            "train.minutes": "5",
            "train.log": "tensorboard",
            "data.text": "a, b.txt",
        }
    )
    assert config.train.lr == 3e-4 and config.train.steps == 12 and config.train.compile is True
    assert type(config.train.minutes) is float
    assert config.data.text == ("a, b.txt",)  # one name, comma and all
    assert resolve(overrides={"data.text": ["a", "b"]}).data.text == ("a", "b")


def test_a_text_in_the_file_is_not_converted(toml):
    assert "train.lr: 3e-4 is not accepted; a number > 0" in error_of(file=toml('[train]\nlr = "3e-4"\n'))


# Refused values


def test_every_setting_stands_in_the_table_of_this_test():
    assert set(RANGES) == set(keys())


@pytest.mark.parametrize(("key", "value"), LIMITS, ids=show)
def test_values_up_to_the_limits_are_accepted(key, value):
    kept = value_of(resolve(overrides={key: value}), key)
    assert kept == value and type(kept) is type(value)


@pytest.mark.parametrize(("key", "value"), BEYOND, ids=show)
def test_values_beyond_the_limits_are_refused(key, value):
    message = error_of(overrides={key: value})
    section, name = key.split(".")
    assert section in message and name in message


@pytest.mark.parametrize(("key", "value"), MISTYPED, ids=show)
def test_values_of_another_type_are_refused(key, value):
    message = error_of(overrides={key: value})
    assert message.startswith(f"{key}: ") and keys()[key].accepted in message


@pytest.mark.parametrize(
    ("kind", "name", "value"),
    [
        (DataConfig, "held_out_every", 1),
        (DataConfig, "token", math.nan),
        (DataConfig, "text", [b"a"]),
        (TrainConfig, "lr", -1),
        (TrainConfig, "compile", 1),
        (TrainConfig, "steps", 2.0),
    ],
)
def test_a_config_built_by_hand_is_checked_too(kind, name, value):
    config = resolve().data if kind is DataConfig else resolve().train
    with pytest.raises(MinglmError, match=name):
        dataclasses.replace(config, **{name: value})


def test_an_error_names_the_setting_what_came_and_what_is_accepted():
    assert error_of(overrides={"train.lr": -1}) == "train.lr: -1 is not accepted; a number > 0"
    assert error_of(overrides={"train.decay": "step"}) == (
        "train.decay: step is not accepted; a text (cosine or linear)"
    )
    assert error_of(overrides={"train.batch_tokens": "100"}) == (
        "train.batch_tokens: 100 is not accepted; a whole number >= model.max_positions (128)"
    )


def test_a_whole_number_serves_where_a_number_is_due():
    train = dataclasses.replace(resolve().train, clip=2)
    assert train.clip == 2.0 and type(train.clip) is float


def test_a_lone_name_is_one_file_and_not_its_letters():
    assert DataConfig(text="abc").text == ("abc",)


def test_a_mixture_needs_one_objective():
    message = error_of(overrides={"data.token": 0, "data.sentence": 0, "data.document": 0})
    assert "data.token" in message and "> 0" in message
    assert "data.token" in error_of(overrides={"data.token": 1e308, "data.sentence": 1e308})  # the sum is inf
    assert resolve(overrides={"data.token": 0, "data.sentence": 0}).data.document > 0


# Unknown names


@pytest.mark.parametrize(
    ("came", "nearest"),
    [
        ("train.learning_rate", "train.lr"),
        ("lr", "train.lr"),
        ("train.mask_ratio", "data.mask_ratio"),
        ("optimizer.lr", "train.lr"),
        ("train.wieght_decay", "train.weight_decay"),
        ("eval-every", "train.eval_every"),
        ("model.n_layer", "model.num_layers"),
        ("data.tokens", "data.token"),
    ],
)
def test_an_unknown_setting_is_an_error_that_names_the_nearest(came, nearest):
    assert error_of(overrides={came: "1"}) == f"unknown setting {came}; did you mean {nearest}?"


@pytest.mark.parametrize("came", ["qqq", "a.b.c", "", ".", "train.__class__", "\n"])
def test_an_unknown_setting_near_nothing_says_where_all_are_listed(came):
    assert error_of(overrides={came: 1}).endswith("; accepted: what --print-config lists")


def test_an_unknown_preset_is_an_error_that_names_the_nearest():
    assert error_of(preset="smal") == "unknown preset smal; did you mean small?"
    assert error_of(preset="huge").endswith("accepted: page, box, tiny, small, base, large, 2b, 10b")
    assert "unknown preset" in error_of(preset="")


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("[trian]\nlr = 1.0\n", "unknown section trian; did you mean train?"),
        ("[qqq]\nlr = 1.0\n", "unknown section qqq; accepted: model, data, train"),
        ("lr = 1.0\n", "unknown setting lr; did you mean train.lr?"),
        ("[train]\nlearning_rate = 1.0\n", "unknown setting train.learning_rate; did you mean train.lr?"),
        ('presets = "tiny"\n', "unknown setting presets; did you mean preset?"),
        ('preset = "tinny"\n', "unknown preset tinny; did you mean tiny?"),
        ("preset = 3\n", "unknown preset 3; accepted: page, box, tiny, small, base, large, 2b, 10b"),
        ("preset = [1]\n", "unknown preset [1]; accepted:"),
        ("model = 3\n", "model: 3 is not accepted; a table [model]"),
        ("[train.lr]\npeak = 1.0\n", "train.lr: {'peak': 1.0} is not accepted; a number > 0"),
        ("[train]\nlr = -1\n", "train.lr: -1 is not accepted; a number > 0"),
        ("[train]\nlr = nan\n", "train.lr: nan is not accepted; a number > 0"),
        ("[train]\nlr = \n", "not TOML: Invalid value (at line 2, column 6)"),
        ("[train]\nlr = 1.0\nlr = 2.0\n", "line 3"),
        ("[train]\nsteps = " + "9" * 5000, "not TOML"),
        ("[data]\ntext = " + "[" * 5000, "not TOML"),
        (b"[data]\ncache = '\xff'\n", "not utf-8 at byte 16"),
    ],
)
def test_a_bad_settings_file_is_one_line_that_names_file_and_place(toml, text, part):
    file = toml(text)
    message = error_of(file=file)
    assert message.startswith(f"{file}: ") and part in message


def test_a_missing_settings_file_is_named(tmp_path):
    assert str(tmp_path / "none.toml") in error_of(file=tmp_path / "none.toml")
    assert str(tmp_path) in error_of(file=tmp_path)  # a folder


def test_a_byte_order_mark_and_windows_line_ends_do_no_harm(toml):
    assert resolve(file=toml("\ufeff[train]\r\nsteps = 3\r\n".encode())).train.steps == 3


# The settings file is complete


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_survives_its_settings_file(toml, preset):
    config = resolve(preset)
    assert resolve(file=toml(to_toml(config))) == config


hard = ['"', "\\", '"""', "a\r\nb", "\x7f", "\x00", "#", "😀"]
texts = strategies.text(min_size=1) | strategies.sampled_from(hard)


@hypothesis_settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    names=strategies.lists(texts),
    key=texts,
    cache=strategies.just("") | texts,
    backend=texts,
    lr=strategies.floats(0, exclude_min=True, allow_infinity=False),
    ratio=strategies.floats(0, 1, exclude_max=True),
    seed=strategies.integers(0, 2**63 - 1),
    compile=strategies.booleans(),
)
def test_any_settings_survive_their_file(toml, names, key, cache, backend, lr, ratio, seed, compile):
    config = resolve(
        "small",
        overrides={
            "data.text": names,
            "data.text_key": key,
            "data.cache": cache,
            "train.backend": backend,
            "train.lr": lr,
            "model.dropout": ratio,
            "train.warmup": ratio,
            "train.seed": seed,
            "train.compile": compile,
        },
    )
    back = resolve(file=toml(to_toml(config)))
    assert back == config
    assert math.copysign(1, back.model.dropout) == math.copysign(1, config.model.dropout)


def test_the_settings_file_names_every_setting_and_says_what_it_is():
    lines = to_toml(resolve()).splitlines()
    said = [(line.partition(" = ")[0], line.rpartition("  # ")[2]) for line in lines if "  # " in line]
    assert said == [(key.split(".")[1], setting.help) for key, setting in keys().items()]


# What the command line is built from


def test_keys_lists_type_default_and_words_of_every_field():
    assert set(MODEL_HELP) == {field.name for field in dataclasses.fields(GLMConfig)}
    assert keys()["train.lr"].type is float and keys()["data.text"].type == tuple[str, ...]
    for key, setting in keys().items():
        assert setting.default == value_of(resolve(), key), key
        assert setting.help and "\n" not in setting.help, key


def test_presets_leave_out_what_is_a_default():
    for groups in PRESETS.values():
        assert {f"{section}.{name}" for section, group in groups.items() for name in group} <= set(keys())
        assert "minutes" not in groups["train"]  # a preset is a number of steps, so that two runs agree


# Sizes


@pytest.mark.parametrize(
    ("preset", "low", "high"),
    [
        ("page", 0.9e6, 1.5e6),
        ("tiny", 4e6, 5e6),
        ("small", 25e6, 35e6),
        ("base", 109.25e6, 109.35e6),
        ("large", 334.65e6, 334.75e6),
    ],
)
def test_presets_have_the_size_they_promise(preset, low, high):
    assert (
        low <= num_parameters(resolve(preset).model) <= high
    )  # base, large: counted from the shapes of the original


@pytest.mark.parametrize(
    "config",
    [
        GLMConfig(10, 2, 1, 1, 3),
        GLMConfig(11, 6, 3, 2, 7),
        resolve("tiny").model,
    ],
    ids=["by hand", "odd", "tiny"],
)
def test_the_formula_counts_what_the_model_holds(config):
    assert num_parameters(config) == sum(weight.numel() for weight in GLM(config).parameters())


def test_the_default_preset_keeps_the_promises_of_its_results():
    config = resolve()
    assert config.model.vocab_size >= 4096
    weights = (config.data.token, config.data.sentence, config.data.document)
    assert config.data.token / sum(weights) >= 0.4
    assert config.train.minutes == 0


def test_the_settings_of_an_older_run_are_what_it_did_and_not_what_its_preset_says_today(toml):
    """A run.toml from before samples of sentences, drawn blanks and Muon existed does not name them."""
    now = resolve("box")
    text = "\n".join(
        line
        for line in to_toml(now).splitlines()
        if line.split(" ")[0] not in {"samples", "blanks", "optimizer"}
    )
    old = settings_of_run(toml(text))
    assert (old.data.samples, old.data.blanks, old.train.optimizer) == ("windows", "budget", "adamw")
    assert settings_of_run(toml(to_toml(now))) == now != old
