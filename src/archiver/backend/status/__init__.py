"""The status page for operators: what it shows, and who may see it."""
