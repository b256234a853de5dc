"""The package's version, read by the build and by `deocclude --version` without importing anything else."""

__version__ = "0.1.0"
