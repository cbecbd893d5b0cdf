"""HTTP out to addresses that somebody else chose: every connection is checked where it goes."""
