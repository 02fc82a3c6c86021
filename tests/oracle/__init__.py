"""DeePMD-kit's own classes, called as it calls them: the numbers that dpax is compared with."""
