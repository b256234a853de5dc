"""The people of an image: detector, segmenters, COCO files, prompts, selection, duplicates."""
