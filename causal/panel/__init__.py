"""Units by periods: who is treated when, and what is known of each cohort."""
