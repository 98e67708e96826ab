"""One file per data set; each registers its entry."""
