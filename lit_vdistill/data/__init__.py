"""Records, media and batches; the embedded world and its simulated teacher."""
