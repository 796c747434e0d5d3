"""What `archiver doctor` looks at: one module for each kind of dependency, each a function that gives findings."""
