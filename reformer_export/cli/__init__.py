"""The command line: one file a verb; arguments in, one library call, an exit code out."""
