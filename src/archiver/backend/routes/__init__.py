"""One module for each part of the API; each gives a `router`."""
