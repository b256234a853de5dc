"""Many images: what is planned, and how it is done."""
