"""What could overturn an event study."""
