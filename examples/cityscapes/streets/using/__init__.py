"""Use of trained models: samples, synthetic data sets, content transfer."""
