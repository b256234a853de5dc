"""Files in and out: images, layers, request stamps, typical poses, Hugging Face files. No networks of ours."""
