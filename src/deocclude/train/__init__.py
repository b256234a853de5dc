"""Training: configs, the loop of all stages, one file per stage, losses. Network definitions are in models/."""
