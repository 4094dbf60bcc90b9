"""The applications that are served to HTTP clients, one per file: small, plain, and the same for every server."""
