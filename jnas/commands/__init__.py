"""Parts of the `jnas` command."""
