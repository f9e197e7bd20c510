"""Where a bootstrap file, or an offer and its answer, is dropped for the other side to find.

Empty until it is specified: today the user carries the file.
"""
