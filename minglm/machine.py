"""What this machine and this build are: processor, versions, where a number came from."""

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
NEEDS = {  # rung: what /proc/cpuinfo calls the instructions it needs
    "avx2": {"avx2", "fma"},
    "avx512": {"avx512f", "avx512bw", "avx512vl", "avx512dq"},
    "avx512_bf16": {"avx512f", "avx512bw", "avx512vl", "avx512dq", "avx512_bf16"},
    "neon": {"asimd"},
}


def origin():
    """What a result is stamped with: version, commit where there is one, machine, threads, day."""
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
    """What a number has to come with, as a dict; load: how many others were at work in the last minute, None if not known.

    On a GPU, "gpu" is its name and compute capability.
    """
    here = cpu()
    gpu = {}
    if torch.device(device).type == "cuda":
        gpu["gpu"] = "{} (capability {}.{})".format(
            torch.cuda.get_device_name(), *torch.cuda.get_device_capability()
        )
    return gpu | {
        # its widest vectors, as torch sees them
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
    return (
        gpu
        + "{cpu}, {cores} cores, {threads} threads, torch {torch}, Python {python}, {system}, {date}".format(
            **about
        )
    )


def cpu():
    """The processor: its name, its cores that this process may use, and the rungs whose instructions it has."""
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
    """What setup.py wrote when it built the extension, or could not; empty in a checkout that was never built."""
    file = HERE / "_build_info.json"
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}


def openmp_runtimes():
    """Files of the OpenMP runtimes in this process. Two of them would mean two pools of threads for the same cores."""
    try:
        maps = Path("/proc/self/maps").read_text(encoding="utf-8")
    except OSError:
        return []
    return sorted(set(re.findall(r"\S*/lib(?:g|i)?omp\S*\.so\S*", maps)))
