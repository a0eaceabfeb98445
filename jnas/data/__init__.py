"""Data sets for evaluators that train: TFDS builders of our own, and one reader for all of TFDS.

This is the only place that knows TFDS. A search sees `load`, whose rows never touch a test split;
`load_test` is for the one measurement after a search.
"""

from jnas.data.builders import made_by, names
from jnas.data.kinds import Split
from jnas.data.reading import Dataset, load, load_test

__all__ = ["Dataset", "Split", "load", "load_test", "made_by", "names"]
