"""What is in a set: checks, tiles, a page to look at."""
