"""Parameter groups, freezing and learning-rate schedules."""
