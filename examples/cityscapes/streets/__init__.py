"""Code behind the scripts of this folder, in subpackages (rooms) whose imports point one way.

    config     options of each script, without torch
    system     command line, processes, signals, whole files, locks, devices, seeds
    data       label table, PNG files, data sets, drawn scenes, batches as a model takes them
    runs       directory of a run: configuration, weights, checkpoints, curves, pictures
    training   from options to a trained model: objectives, opening, loop, costs of a step
    judging    segmentation networks, scores, tables and plots
    using      samples, synthetic data sets, transfer of content
    demo       the page to paint on

``config`` and ``system`` import no other room, ``data`` imports these two, ``runs`` all three and ``models``, and the
rest may import all of them; ``demo`` may import every room. No room imports a script.
"""
