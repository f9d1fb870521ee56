"""Builds the compiled core. Without a compiler the build succeeds, and the pure core serves."""

from glob import glob
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.errors import BaseError, CCompilerError

MODULES = [
    f"maze.core._compiled.{name}"
    for name in ("events", "graph", "payload", "fanout", "outbox", "replay")
]


class BuildIfPossible(build_ext):
    """The ``build_ext`` command, which reports a failure in one line, not one per module."""

    command_name = "build_ext"  # the name in the warning

    def finalize_options(self):
        """Build as many modules at a time as there are processors, unless told otherwise."""
        super().finalize_options()
        self.parallel = self.parallel or True

    def build_extensions(self):
        """Build all modules; stop at the first failure, as the core needs all of them."""
        # Only the C compiler runs in parallel: the Cython compiler is not made for threads.
        translations = cythonize(self.extensions, quiet=True)
        for ext, translated in zip(self.extensions, translations, strict=True):
            ext.sources = translated.sources
        self.failure = None
        super().build_extensions()
        if self.failure:
            self.remove_modules(self.get_ext_fullpath)
            self.warn(
                "the compiled core was not built, so the pure core will serve, several times "
                f"slower; to build it, install a C compiler and Python's headers ({self.failure})"
            )

    def copy_extensions_to_source(self):
        """Copy the modules beside the sources; after a failure, remove those of older builds."""
        super().copy_extensions_to_source()
        if self.failure:
            self.inplace = True
            self.remove_modules(self.get_ext_fullpath)

    def remove_modules(self, path_of):
        """Remove every module that was built, as some without the others are of no use."""
        for ext in self.extensions:
            Path(path_of(ext.name)).unlink(missing_ok=True)

    def build_extension(self, ext):
        """Build one module, unless another one has failed."""
        if self.failure:
            return
        try:
            super().build_extension(ext)
        except (BaseError, CCompilerError) as error:
            self.failure = error


setup(
    cmdclass={"build_ext": BuildIfPossible},
    ext_modules=[
        Extension(
            module,
            [f"{module.replace('.', '/')}.pyx"],
            depends=glob("maze/core/_compiled/*.pxd"),
            extra_compile_args=["-O3"],
            optional=True,
        )
        for module in MODULES
    ],
)
