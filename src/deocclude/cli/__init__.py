"""The command line: one module for each verb, and nothing that the library needs."""
