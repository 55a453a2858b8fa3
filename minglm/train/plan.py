"""What a run would need, from its settings alone: `minglm pretrain --dry-run`. No tensor is made."""

from ..model_config import num_parameters

GB = 1e9
TFLOPS = 989.0  # of an H100 or H200 in bfloat16, without sparsity


def plan(config, gpus=8, mfu=0.4, tflops=TFLOPS):
    """The lines of a plan, as a dict: parameters, memory of a GPU, tokens, FLOP and days.

    mfu: the share of the GPUs' peak that is reached. tflops: that peak, 10^12 FLOP/s. The memory is that
    of `memory`; the framework needs 1 or 2 GB more.
    """
    t, weights = config.train, num_parameters(config.model)
    tokens, flop = t.steps * t.batch_tokens, t.steps * step_flop(config)
    days = flop / (gpus * tflops * 1e12 * mfu) / 86_400
    lines = {"parameters": f"{weights / 1e6:,.1f} M"}
    for name, processes in (("a GPU", 1), ("sharded", gpus)):
        parts = memory(config, processes)
        shown = ", ".join(f"{part} {size / GB:,.2f}" for part, size in parts.items())
        many = f" over {gpus}" if name == "sharded" else ", not sharded"
        lines[name] = f"{sum(parts.values()) / GB:,.2f} GB{many}: {shown}"
    lines["tokens"] = f"{tokens / 1e9:,.2f} billion of text, in {t.steps:,} steps of {t.batch_tokens:,}"
    lines["work"] = f"{flop:.2e} FLOP"
    lines["time"] = f"{days:,.2f} days on {gpus} GPUs of {tflops:,.0f} TFLOP/s at an MFU of {mfu:.0%}"
    return lines


def memory(config, processes):
    """{part: bytes} of one GPU, estimated; processes: over how many the weights are sharded, or 1.

    W weights take 4 bytes each, their gradients 4, AdamW 8 (Muon 4 for matrices). Sharding divides all three;
    `gathered` are the tables, two layers (one is fetched ahead) and the gradients of the tables and a layer.
    `casts`: 2 W for copies in bfloat16 (sharded and recomputing: of one layer and the tables).
    Activations of R rows, e bytes per number, are R C (8 + 14 e) per layer (10 + 14 e with dropout), or 4 R C
    and one layer's when recomputed; M target rows have logits of V (12 + e) bytes each.
    """
    m, t = config.model, config.train
    C, V, layers = m.hidden_size, m.vocab_size, m.num_layers
    W, layer = num_parameters(m), 12 * C * C + 13 * C
    tables, matrices = W - layers * layer, layers * 12 * C * C
    state = 4 * matrices + 8 * (W - matrices) if t.optimizer == "muon" else 8 * W
    e, recompute = 4 if t.dtype == "float32" else 2, t.checkpoint_activations
    sizes = dict(weights=4 * W, gradients=4 * W, optimiser=state)
    sizes = {name: size / processes for name, size in sizes.items()}
    if processes > 1:
        sizes["gathered"] = 4 * (2 * tables + 3 * layer)
    if e == 2:
        sizes["casts"] = 2 * (tables + layer if recompute and processes > 1 else W)
    per_layer, share = C * (8 + 14 * e + 2 * (m.dropout > 0)), learned_share(config)
    R = t.micro_batch_tokens
    activations = R * (layers * 4 * C + per_layer if recompute else layers * per_layer)
    sizes["activations"] = activations + R * share / (1 + share) * V * (12 + e)
    return sizes


def learned_share(config):
    """Target rows per text token, about: what each objective masks, and one `eop` per token span."""
    d = config.data
    each = dict(
        token=d.mask_ratio * (1 + 1 / d.mean_span_length),
        sentence=d.mask_ratio,
        document=(d.document_min_ratio + d.document_max_ratio) / 2,
    )
    weights = {name: getattr(d, name) for name in each}
    return sum(weights[name] * each[name] for name in each) / sum(weights.values())


def step_flop(config):
    """FLOP of a step, as in `model_config.useful_flop`; each row is taken to see max_positions keys."""
    m, text, share = config.model, config.train.batch_tokens, learned_share(config)
    C, N, M, layers = m.hidden_size, text * (1 + share), text * share, m.num_layers
    products = 12 * C * C * N * (layers - 1) + 2 * C * C * N + 10 * C * C * M + C * m.vocab_size * M
    return 6 * products + 14 * C * m.max_positions * (N * (layers - 1) + M)
