"""Search by a model of the score."""

from law_tables.entry import Entry, Recipe

LINKS: dict[str, Entry] = {}
RECIPES: dict[str, Recipe] = {}
