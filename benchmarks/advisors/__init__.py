"""The advisors against published methods, on recorded workflows."""
