"""dpax in other programs: one file for each."""
