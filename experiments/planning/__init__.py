"""From a pilot to the experiment to run."""
