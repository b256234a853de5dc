"""The networks at run time, numpy in and numpy out: crops, masks, content, occlusion probability. No torch."""
