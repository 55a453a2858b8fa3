"""How fast a run is: the time of a step, and MFU, the share of the hardware's peak that is put to use.

MFU (model FLOPs utilisation; Chowdhery et al. 2022, arXiv 2204.02311, section 4.1 and appendix B) is

    useful FLOP of a step / (seconds of the step * peak FLOP per second of all devices)

Useful FLOP are those of `model_config.useful_flop`: what the model needs for the samples, forward and
backward. What is computed again for `checkpoint_activations` does not count, nor do rows that are skipped.
"""

import re
import statistics
import time

import torch

# Dense matrix products, 10^12 FLOP/s: (bfloat16, TF32, float32), from NVIDIA's data sheets, which print twice
# as much for sparse ones.
PEAKS = {
    "B200": (2250, 1125, 75),
    "H200": (989, 494, 67),
    "GH200": (989, 494, 67),
    "H100": (989, 494, 67),
    "H100 NVL": (835, 417, 60),
    "H100 PCIe": (756, 378, 51),
    "A100": (312, 156, 19.5),
    "A40": (149.7, 74.8, 37.4),
    "A10": (125, 62.5, 31.2),
    "L40S": (362, 183, 91.6),
    "L4": (121, 60, 30.3),
    "RTX 4090": (165.2, 82.6, 82.6),
    "RTX 3090": (71, 35.6, 35.6),
}


def peak(device, dtype):
    """(FLOP/s that a device can do in matrix products, or None; where that number comes from).

    dtype: "float32" or "bfloat16". A GPU's is looked up by its name; a CPU's is measured, in milliseconds.
    """
    if device.type == "cpu":
        rate = measured_peak(getattr(torch, dtype))
        return rate, f"measured: plain {dtype} matrix products, {rate / 1e9:,.0f} GFLOP/s"
    name, tf32 = torch.cuda.get_device_name(device), uses_tf32()
    kind = "bfloat16" if dtype == "bfloat16" else "TF32" if tf32 else "float32"
    if (row := row_of(name)) is None:
        return None, f"{name} is not in the table of peaks, so no MFU is given"
    tera = row[("bfloat16", "TF32", "float32").index(kind)]
    return tera * 1e12, f"{name}, {kind}: {tera:,g} TFLOP/s"


def row_of(name):
    """The row of PEAKS for a GPU's name, or None. Example: "NVIDIA H100 PCIe" -> that of "H100 PCIe"."""
    words = set(re.split("[^A-Za-z0-9]+", name))
    known = [key for key in PEAKS if set(key.split()) <= words]
    return PEAKS[max(known, key=len)] if known else None


def measured_peak(dtype, at_least=0.002):
    """FLOP/s of this CPU: the best of three products of square matrices, so large that one takes 2 ms."""
    size, taken = 256, 0.0
    while taken < at_least:
        size *= 2
        a, times = torch.ones(size, size, dtype=dtype), []
        for _ in range(4):  # the first one prepares
            began = time.perf_counter()
            a @ a
            times.append(time.perf_counter() - began)
        taken = min(times)
    return 2 * size**3 / taken


def uses_tf32():
    """Whether matrix products of float32 on a GPU are done in TF32 (10 bits of mantissa instead of 23)."""
    return torch.get_float32_matmul_precision() != "highest"


def precision(device, dtype):
    """How matrix products are done, in a phrase for the banner."""
    if dtype == "bfloat16":
        return "matrix products in bfloat16; weights, sums and optimiser in float32"
    if device.type == "cpu":
        return "everything in float32"
    return (
        "matrix products in TF32, all else in float32" if uses_tf32() else "everything in float32, TF32 off"
    )


def mfu(rows, peak):
    """The MFU of some steps (dicts with "flop" and "seconds") on devices with `peak` FLOP/s together."""
    return sum(row["flop"] for row in rows) / (max(1e-9, sum(row["seconds"] for row in rows)) * peak)


def time_step(model, batches, dtypes, at_most=6.0):
    """{dtype: seconds per text token} of a forward and backward pass; the weights stay as they are.

    The median over the batches, alternating the dtypes, within about `at_most` seconds, but at least one
    batch. Each batch runs once before it is timed, because some libraries prepare for every new shape, and
    training repeats the shapes.
    """

    def run(batch, dtype):
        with torch.autocast(batch.tokens.device.type, torch.bfloat16, enabled=dtype == "bfloat16"):
            loss = model.loss(batch)
        loss.backward()
        if batch.tokens.device.type == "cuda":
            torch.cuda.synchronize()
        model.zero_grad(set_to_none=True)

    times, began = {dtype: [] for dtype in dtypes}, time.perf_counter()
    for batch in batches:
        for dtype in dtypes:
            run(batch, dtype)
            started = time.perf_counter()
            run(batch, dtype)
            times[dtype].append((time.perf_counter() - started) / batch.text_tokens)
        if time.perf_counter() - began > at_most:
            break
    return {dtype: statistics.median(seconds) for dtype, seconds in times.items()}
