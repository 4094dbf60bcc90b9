"""What the tests share.

    process    a `hybrid run` of its own process group, its log, and its certain end
    template   a quick start of such a run: a fork of a process that has imported it
    processes  children, members of a group: cheap looks at /proc
    loops      the loops that handler tests run on
    rows       a table whose rows are checked within one test
    leaks      which descriptors and children a test left behind
    clients    small blocking clients with deadlines

Import as `support.process`: the folder `tests` is on the path (pyproject.toml), the repository's root must not be,
because there `hybrid` is a folder that lacks its two sister packages.
"""
