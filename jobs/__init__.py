"""Nightly evaluation: job specs, tasks, scores, history, gate, report."""
