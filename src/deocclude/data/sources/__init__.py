"""Where training people, occluders and backgrounds come from; one form for all."""
