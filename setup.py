"""Builds the compiled twin of the core's hot path; where there is no compiler it is left out."""

from glob import glob

from setuptools import Extension, setup

setup(
    ext_modules=[
        Extension(
            f"maze.core.{module}",
            [f"maze/core/{module}.pyx"],
            depends=glob("maze/core/*.pxd"),
            extra_compile_args=["-O3"],
            optional=True,
        )
        for module in ("_events", "_graph", "_fanout")
    ]
)
