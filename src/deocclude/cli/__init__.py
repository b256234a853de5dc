"""The command line: one file a verb, and nothing that the library needs."""
