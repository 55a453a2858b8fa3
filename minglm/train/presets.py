"""The presets: settings that belong together, by name. Settings not listed have the defaults of config.py."""

from typing import Any

# Users type single sentences, which are unusual for a model that has only seen full windows: there, the first
# positions always open a document, and the words around a blank are learned anew at each position. Many short
# blanks for the same reason: the paper's 15 % in spans of 3 give a small model a third as many.
SHORT_SAMPLES = dict(samples="sentences", mask_ratio=0.3, mean_span_length=1.5, blanks="drawn")

# The schedule of the presets for planning: GLM-10B's, as far as it is published.
PLANNED = dict(
    steps=250_000,
    batch_tokens=1024 * 1024,
    warmup=0.04,
    beta2=0.95,
    eps=1e-8,
    checkpoint_activations=True,
    eval_every=1000,
    sample_every=1000,
    save_every=5000,
)

# Only the settings that depend on the size of the model.
PRESETS: dict[str, dict[str, dict[str, Any]]] = {
    # 1.1 M parameters: three to six minutes on two CPU cores, and small enough to embed in one HTML page
    "page": {
        # no dropout: after four passes the held-out loss is still falling
        "model": dict(
            vocab_size=2048, hidden_size=128, num_layers=4, num_heads=4, max_positions=128, dropout=0.0
        ),
        # as tiny
        "data": dict(token=0.85, sentence=0.05, document=0.1, spread=0.7) | SHORT_SAMPLES,
        "train": dict(
            steps=4000,
            batch_tokens=1024,
            optimizer="muon",
            lr=2e-3,
            table_lr_ratio=8.0,
            muon_lr_ratio=2.0,
            warmup=0.05,
            min_lr_ratio=0.0,
            decay="linear",
            eval_every=1000,
            sample_every=500,
            save_every=2000,
            log_every=100,
        ),
    },
    # 3.7 M parameters, 7 MB in float16: the bundled model (tutorials/box.py has its texts)
    "box": {
        # no dropout: few passes
        "model": dict(
            vocab_size=4096, hidden_size=192, num_layers=6, num_heads=6, max_positions=512, dropout=0.0
        ),
        "data": dict(token=0.75, sentence=0.05, document=0.2, spread=0.8) | SHORT_SAMPLES,
        "train": dict(
            steps=15_000,
            batch_tokens=2048,
            optimizer="muon",
            lr=2e-3,
            table_lr_ratio=8.0,
            muon_lr_ratio=2.0,
            warmup=0.03,
            min_lr_ratio=0.0,
            decay="linear",
            eval_every=1000,
            sample_every=1000,
            save_every=250,
            log_every=100,
        ),
    },
    # 4.3 M parameters: on two CPU cores five minutes in bfloat16, some ten in float32
    "tiny": {
        # Four layers read half as much again as six in the same time. No dropout: the run is short
        "model": dict(
            vocab_size=4096, hidden_size=256, num_layers=4, num_heads=4, max_positions=128, dropout=0.0
        ),
        # mostly blanks of a word or two, because those can be judged at a glance
        "data": dict(token=0.85, sentence=0.05, document=0.1, spread=0.7) | SHORT_SAMPLES,
        # With one rate for all weights, the layers drown the tables' 0.02; see table_lr_ratio. The rate falls
        # to 0, because training ends there.
        "train": dict(
            steps=1500,
            batch_tokens=2048,
            optimizer="muon",
            lr=1.5e-3,
            table_lr_ratio=8.0,
            muon_lr_ratio=2.0,
            warmup=0.05,
            min_lr_ratio=0.0,
            decay="linear",
            eval_every=250,
            sample_every=200,
            save_every=500,
            log_every=50,
        ),
    },
    # 29.9 M: for one GPU and a corpus of some hundred megabytes
    "small": {
        "model": dict(
            vocab_size=8192, hidden_size=512, num_layers=8, num_heads=8, max_positions=512, dropout=0.1
        ),
        "train": dict(
            steps=20_000, batch_tokens=64 * 512, lr=6e-4, eval_every=500, sample_every=500, save_every=1000
        ),
    },
    # 109.3 M, GLM-Base: token spans only, batches of 1024 x 512 tokens, 6,000 steps of warm-up. The original
    # decays over the first 120,000 steps (large: 160,000) and then stays at the lowest rate; here the decay
    # takes all steps. The vocabulary is BERT's 30,522 plus special tokens, rounded up to a multiple of 128.
    "base": {
        "model": dict(
            vocab_size=30592, hidden_size=768, num_layers=12, num_heads=12, max_positions=512, dropout=0.1
        ),
        "data": dict(token=1.0, sentence=0.0, document=0.0),
        "train": dict(
            steps=150_000,
            batch_tokens=1024 * 512,
            lr=4e-4,
            min_lr_ratio=0.05,
            warmup=0.04,
            eval_every=1000,
            sample_every=1000,
            save_every=5000,
        ),
    },
    # 334.7 M, GLM-Large: as base, with 8,000 steps of warm-up
    "large": {
        "model": dict(
            vocab_size=30592, hidden_size=1024, num_layers=24, num_heads=16, max_positions=512, dropout=0.1
        ),
        "data": dict(token=1.0, sentence=0.0, document=0.0),
        "train": dict(
            steps=200_000,
            batch_tokens=1024 * 512,
            lr=2e-4,
            min_lr_ratio=0.05,
            warmup=0.04,
            eval_every=1000,
            sample_every=1000,
            save_every=5000,
        ),
    },
    # 1,920 M, the published GLM-2B's shape, for planning with --dry-run. The vocabulary is GPT-2's with
    # special tokens, rounded up; the schedule is our choice: that of 10b, with GLM-Large's rate.
    "2b": {
        "model": dict(
            vocab_size=50304, hidden_size=2048, num_layers=36, num_heads=32, max_positions=1024, dropout=0.1
        ),
        "train": PLANNED | dict(lr=2e-4),
    },
    # 9,881 M, the published GLM-10B's shape, for planning with --dry-run. Rate, betas, eps and warm-up are
    # those of its main phase (samples of 512); a batch has as many samples as GLM-Large's (our choice).
    "10b": {
        "model": dict(
            vocab_size=50304, hidden_size=4096, num_layers=48, num_heads=64, max_positions=1024, dropout=0.1
        ),
        "train": PLANNED | dict(lr=1e-4),
    },
}
