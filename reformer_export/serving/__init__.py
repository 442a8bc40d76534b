"""Serving an artifact: over HTTP, in other people's servers, and over a corpus."""
