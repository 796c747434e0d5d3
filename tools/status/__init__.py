"""STATUS.md: what was run, and what was seen. A check that could not run is "not run", never "passed"."""
