"""Training of the models: objectives, opening of a run, the loop, and costs of a step."""
