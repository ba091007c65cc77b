"""Use of trained models: samples, synthetic data sets, transfer of content."""
