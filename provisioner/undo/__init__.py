"""Taking back what the journal of a host records: validated, surveyed, removed, never data."""
