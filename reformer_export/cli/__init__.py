"""The command line: one module for each command; arguments in, one library call, an exit code
out."""
