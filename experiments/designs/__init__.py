"""Who is treated when: assignment by hash, schedules, and what a design can know."""
