"""Measures the memory of the paper's models and of a very long sample: writes memory.json next to this file.

    python tutorials/results/memory.py        ten minutes, 16 GB

One optimiser step of GLM-Base and GLM-Large on 2,048 text tokens, without dropout, with the dense mask of the
reference and with the kernel, each in its own process. Both must give the same loss, gradient norm, and loss
after the step.
"""

import json
import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import torch

from minglm.attention import masked_attention
from minglm.batch import pack
from minglm.infilling import build_example
from minglm.machine import origin
from minglm.mask import GLMMask
from minglm.model import GLM
from minglm.train.config import resolve
from minglm.train.optimizer import make_optimizer

HERE = Path(__file__).parent
FIRST_TEXT_ID = 24
FAIR = {"float32": 1e-3, "bfloat16": 2e-2}  # the relative difference allowed between kernel and reference
LONG = 65_536


def megabytes():
    """The peak memory of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def one_step(preset, backend, dtype):
    """The results and costs of one optimiser step of a preset, on four samples of token spans."""
    config = resolve(preset, overrides={"model.dropout": 0.0})
    rng, T, examples = np.random.default_rng(0), config.model.max_positions, []
    for _ in range(4):
        spans, at = [], 1
        while at < T - 8:
            spans.append((at, at + 3))
            at += 3 + int(rng.integers(8, 24))
        tokens = rng.integers(FIRST_TEXT_ID, config.model.vocab_size, T)
        examples.append(build_example(tokens, spans, list(rng.permutation(len(spans)))))
    batch = pack(examples)
    torch.manual_seed(0)
    model = GLM(config.model)
    model.backend, model.checkpoint_activations = backend, config.train.checkpoint_activations
    optimizer = make_optimizer(model, config.train)
    began = time.monotonic()
    with torch.autocast("cpu", torch.bfloat16, enabled=dtype == "bfloat16"):
        loss = model.loss(batch)
    loss.backward()
    norm = float(torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0))
    optimizer.step()
    seconds = time.monotonic() - began
    with torch.no_grad():
        after = float(model.loss(batch))
    answers = dict(loss=float(loss), gradient_norm=norm, loss_after=after)
    costs = dict(gigabytes=megabytes() / 1024, seconds=seconds, text_tokens=batch.text_tokens)
    return dict(preset=preset, backend=backend, dtype=dtype) | answers | costs


def one_long_sample(T):
    """The memory that one head of width 32 needs for one sample, without inputs, outputs and gradients."""

    def step(T):
        q, k, v, g = (torch.randn(T, 1, 32) for _ in range(4))
        for x in (q, k, v):
            x.requires_grad_()
        masked_attention(q, k, v, GLMMask.packed([T], [int(0.85 * T)]), backend="kernel").backward(g)

    step(64)
    before, began = megabytes(), time.monotonic()
    step(T)
    return dict(tokens=T, megabytes=megabytes() - before, seconds=time.monotonic() - began)


if __name__ == "__main__":
    if sys.argv[1:]:
        result = one_step(*sys.argv[1:]) if len(sys.argv) > 2 else one_long_sample(int(sys.argv[1]))
        print(json.dumps(result))
        raise SystemExit

    def in_a_process(*words):
        command = [sys.executable, __file__, *words]
        return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)

    steps = []
    for preset in ("base", "large"):
        for dtype, fair in FAIR.items():
            ours, theirs = (in_a_process(preset, backend, dtype) for backend in ("kernel", "reference"))
            steps += [ours, theirs]
            for name in ("loss", "gradient_norm", "loss_after"):
                assert abs(ours[name] - theirs[name]) <= fair * abs(theirs[name]), f"{preset} {dtype}: {name}"
            print(*(json.dumps(step) for step in (ours, theirs)), sep="\n", flush=True)
    results = dict(**origin(), command="python tutorials/results/memory.py", steps=steps)
    results |= dict(long=in_a_process(str(LONG)))
    (HERE / "memory.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    print(f"wrote       {HERE / 'memory.json'}")
