"""Builds minglm, with the extension minglm._C from csrc/ if there is a C++ compiler.

    pip install -e .                       builds the extension in this folder; run again after a change in
                                           csrc/, it recompiles only what the change affects
    python setup.py build_ext --inplace    the same without pip
    pip install .                          a copy that no longer needs this folder

None of them needs torch or a GPU. Without a compiler the package is the same, in pure Python.
csrc/build.py does the work; it also lists the environment variables and says how CUDA kernels are compiled.
"""

import importlib.util
import shutil
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_ext import build_ext

# by its path: in pip's isolated build, neither csrc/ nor this folder is on the import path
spec = importlib.util.spec_from_file_location("minglm_build", Path(__file__).with_name("csrc") / "build.py")
native = importlib.util.module_from_spec(spec)
spec.loader.exec_module(native)


class NinjaBuild(build_ext):
    """build_ext with ninja. Leaves _build_info.json next to the extension, or where it would have been."""

    def run(self):
        if self.force:
            shutil.rmtree(native.BUILD, ignore_errors=True)
        record = native.build_extension(self.parallel, required="build_ext" in self.distribution.commands)
        if not record["extension"]:  # from here on this is a package in pure Python
            self.extensions = self.distribution.ext_modules = []
        native.install(record, Path(self.build_lib, "minglm"))
        if self.inplace:
            native.install(record, Path("minglm"))


class Wheel(bdist_wheel):
    """A wheel is bound to a platform only if it holds the extension, which is known once that is built."""

    def run(self):
        build_lib = self.get_finalized_command("build").build_lib
        shutil.rmtree(build_lib, ignore_errors=True)  # it may hold modules that are gone
        self.run_command("build")
        self.skip_build, self.root_is_pure = True, not self.distribution.has_ext_modules()
        super().run()


if __name__ == "__main__":
    extension = Extension("minglm._C", [str(path) for path in (native.BINDINGS, *native.PLAIN)])
    setup(ext_modules=[extension], cmdclass=dict(build_ext=NinjaBuild, bdist_wheel=Wheel))
