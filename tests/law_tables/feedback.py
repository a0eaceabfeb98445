"""Links on the way of feedback."""

from law_tables.entry import Entry, Recipe

LINKS: dict[str, Entry] = {}
RECIPES: dict[str, Recipe] = {}
