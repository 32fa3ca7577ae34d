"""Before and after: difference-in-differences, staggered adoption, synthetic control."""
