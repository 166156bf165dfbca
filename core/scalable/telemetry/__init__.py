"""What happened: a run's directory, its writer, the probes that feed it, and its readers."""
