"""The machine and the build: processor, versions, and the origin of a result."""

import datetime
import json
import os
import platform
import re
import subprocess
import time
from pathlib import Path

import torch

from .version import __version__

HERE = Path(__file__).resolve().parent  # the folder of the package
NEEDS = {  # rung: the flags in /proc/cpuinfo of the instructions it needs
    "avx2": {"avx2", "fma"},
    "avx512": {"avx512f", "avx512bw", "avx512vl", "avx512dq"},
    "avx512_bf16": {"avx512f", "avx512bw", "avx512vl", "avx512dq", "avx512_bf16"},
    "neon": {"asimd"},
}


def origin():
    """The origin of a result, as a dict: version, commit (or None), machine, threads, day."""
    try:
        git = ["git", "-C", str(HERE), "rev-parse", "--short", "HEAD"]
        commit = subprocess.run(git, capture_output=True, text=True).stdout.strip() or None
    except OSError:
        commit = None
    return dict(
        minglm=__version__,
        commit=commit,
        torch=torch.__version__,
        python=platform.python_version(),
        machine=cpu()["name"],
        cores=os.cpu_count(),
        threads=torch.get_num_threads(),
        day=time.strftime("%Y-%m-%d"),
    )


def machine(device="cpu"):
    """The machine on which a number was measured, as a dict; "gpu" is its name and compute capability.

    load: the average number of running processes in the last minute, None if unknown.
    """
    here = cpu()
    gpu = {}
    if torch.device(device).type == "cuda":
        major, minor = torch.cuda.get_device_capability()
        gpu["gpu"] = f"{torch.cuda.get_device_name()} (capability {major}.{minor})"
    return gpu | {
        # with the widest vectors that torch uses
        "cpu": f"{here['name']} ({torch.backends.cpu.get_cpu_capability()})",
        "cores": here["cores"],
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "date": datetime.date.today().isoformat(),
        "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
    }


def machine_line(about):
    """machine() in one line."""
    gpu = f"{about['gpu']}, " if "gpu" in about else ""
    line = "{cpu}, {cores} cores, {threads} threads, torch {torch}, Python {python}, {system}, {date}"
    return gpu + line.format(**about)


def cpu():
    """The processor as a dict: its name, the cores this process may use, the rungs that it can run."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        text = ""
    name = re.search(r"^model name\s*: (.*)", text, re.M)
    flags = set(" ".join(re.findall(r"^(?:flags|Features)\s*: (.*)", text, re.M)).split())
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    sets = [rung for rung, needed in NEEDS.items() if needed <= flags]
    return dict(name=name[1] if name else platform.processor() or platform.machine(), cores=cores, sets=sets)


def build_info():
    """What setup.py recorded when it built the extension, or failed to; empty if it never ran."""
    file = HERE / "_build_info.json"
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}


def openmp_runtimes():
    """The files of the OpenMP runtimes in this process. Two would mean two thread pools on the same cores."""
    try:
        maps = Path("/proc/self/maps").read_text(encoding="utf-8")
    except OSError:
        return []
    return sorted(set(re.findall(r"\S*/lib(?:g|i)?omp\S*\.so\S*", maps)))
