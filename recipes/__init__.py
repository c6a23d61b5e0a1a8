"""Recipes: one file per task, from data to a report, and the command line that runs them."""
