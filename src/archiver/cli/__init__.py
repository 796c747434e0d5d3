"""The `archiver` command of operators."""
