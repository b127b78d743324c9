"""Words, paths, settings and policy that every workflow shares, each defined once."""
