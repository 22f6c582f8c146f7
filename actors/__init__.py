"""EVY's actors: each subject's behaviour lives in the module of that name."""
