"""Builds the course as a site: `python tutorials/book OUT`. README.md says how it is made, and why so."""

import argparse
import shutil
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1]))


def main(arguments=None):
    parser = argparse.ArgumentParser(prog="book", description=__doc__)
    parser.add_argument("out", type=Path, metavar="OUT", help="a new or an empty folder")
    out, begin = parser.parse_args(arguments).out.resolve(), time.perf_counter()
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        print(
            f"book: error: OUT is {out}, which is not empty; a new or an empty folder is accepted",
            file=sys.stderr,
        )
        return 2
    try:
        from sphinx.cmd.build import main as sphinx
    except ImportError as error:
        print(f"book: error: {error.name} is missing; pip install 'minglm[site]'", file=sys.stderr)
        return 2
    from gather import ROOT, finish, gather

    with tempfile.TemporaryDirectory() as work:
        gather(ROOT, Path(work) / "text")
        words = ["-q", "-W", "--keep-going", "-c", HERE, "-d", Path(work) / "read", Path(work) / "text", out]
        if code := sphinx([str(word) for word in words]):
            return code
    shutil.rmtree(out / "_sources", ignore_errors=True)
    (out / ".buildinfo").unlink(missing_ok=True)
    finish(ROOT, out)
    sizes = {path: path.stat().st_size for path in out.rglob("*") if path.is_file()}
    pages = [path for path in sizes if path.suffix == ".html"]
    largest = sorted(pages, key=sizes.get)[-2:]
    names = ", ".join(f"{path.relative_to(out)} {sizes[path] / 1e6:.2f} MB" for path in reversed(largest))
    print(f"{len(pages)} pages, {sum(sizes.values()) / 1e6:.1f} MB in all; largest: {names}")
    print(f"{time.perf_counter() - begin:.0f} s; open {out / 'index.html'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
