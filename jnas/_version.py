"""The version of jnas, kept here and nowhere else."""

__version__ = "0.1.0"
