"""dpax in other programs, and their files: the front doors, and one file for each."""
