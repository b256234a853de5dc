"""Pure functions of arrays: masks, crops, compositing, background, depth order. No files, no networks."""
