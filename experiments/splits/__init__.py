"""Reading a split: from a log of units in arms to effects, scorecards and sequential answers."""
