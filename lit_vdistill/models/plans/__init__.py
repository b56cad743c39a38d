"""Who looks at whom when a prompt and its completions stand in one flat sequence."""
