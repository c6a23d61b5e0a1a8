"""Recipes that work on pictures."""
