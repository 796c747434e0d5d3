"""How fast the archive is, beside what else could be done with the same bytes on the same machine: `make bench`."""
