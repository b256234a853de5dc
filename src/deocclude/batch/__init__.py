"""Many photos: the plan of the work, and the work."""
