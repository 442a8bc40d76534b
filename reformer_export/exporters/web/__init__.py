"""A page that runs a language model in the browser, made from an artifact."""
