"""What the HTTP server costs, compared with the bare runner."""
