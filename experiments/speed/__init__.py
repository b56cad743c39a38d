"""How fast shared prompts are, measured against the plain way and against TRL."""
