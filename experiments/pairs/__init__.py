"""Reading designs on both sides: pairs of viewer and author, and shares of viewers."""
