"""How large an experiment must be, by formula and on a pilot's own cells."""
