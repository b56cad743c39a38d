"""One client for every model behind an HTTP endpoint: teacher, judge, rater."""
