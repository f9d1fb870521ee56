"""Builds the compiled twin of the core's hot path; where there is no compiler it is left out."""

from glob import glob

from setuptools import Extension, setup

MODULES = [
    *(f"maze.core.{name}" for name in ("_events", "_graph", "_payload", "_fanout")),
    "maze._outbox",
]

setup(
    ext_modules=[
        Extension(
            module,
            [f"{module.replace('.', '/')}.pyx"],
            depends=glob("maze/core/*.pxd"),
            extra_compile_args=["-O3"],
            optional=True,
        )
        for module in MODULES
    ]
)
