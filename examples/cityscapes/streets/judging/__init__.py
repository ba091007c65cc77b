"""Evaluation of trained models: judges, scores, bits per dimension, tables and plots."""
