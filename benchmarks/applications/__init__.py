"""The applications that the HTTP suites serve, one per file: small, plain, and the same for every server."""
