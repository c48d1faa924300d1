"""Widgets that paint their visible lines only (Textual's Line API)."""
