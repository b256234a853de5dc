"""The HTTP service: `deocclude serve`, and its typed client. Extra `[serve]`; nothing here computes on pixels."""
