"""Beyond one machine: a plan's jobs on a Ray cluster, with photos and results on a disk or in an object store."""

from deocclude.scale.run import run

__all__ = ["run"]
