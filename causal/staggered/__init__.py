"""Adoption at several times: each cohort against those not treated."""
