"""Pure functions from the fleet's state to rows of text; no Textual."""
