"""A training run, from its numbers to what the trained model writes.

To read in this order: `presets` (all numbers of a run), `sources` (what it learns from), `tokens`
(how a text is cut), `building` (model and optimiser), `loop` (step after step), `checkpoints` and
`folders` (what is kept), `recipes` (all of it together), `writing`, and `command_line`. What they
use: `optimisers`, `kernels`, `memory`, `baselines`, `locks`, `seeds`, and for several processes
`processes` and `distributed`. `experiments` runs what notebooks have no time for.
"""
