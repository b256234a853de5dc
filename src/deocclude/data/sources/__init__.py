"""Sources of training people, occluders and backgrounds, all in one form."""
