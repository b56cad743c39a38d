"""The black-box teacher: stored responses, their quality, their matching to rollouts."""
