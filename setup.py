"""Builds the compiled twin of the core's hot path; where there is no compiler it is left out."""

from glob import glob

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.errors import BaseError, CCompilerError

MODULES = [
    f"maze.core._compiled.{name}" for name in ("events", "graph", "payload", "fanout", "outbox")
]


class BuildIfPossible(build_ext):
    """Says in one line what comes of a failure, where setuptools has a long one for each module."""

    command_name = "build_ext"  # as the warning has it

    def finalize_options(self):
        """Build as many modules at a time as there are processors, unless told otherwise."""
        super().finalize_options()
        self.parallel = self.parallel or True

    def build_extensions(self):
        """Build all; the compiled core only serves whole, so the first failure is the last."""
        self.failure = None
        super().build_extensions()
        if self.failure:
            self.warn(
                "the pure core will serve, as the compiled one, several times as fast, was not "
                f"built; it needs a C compiler and Python's headers ({self.failure})"
            )

    def build_extension(self, ext):
        """Build one, unless it is in vain."""
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
