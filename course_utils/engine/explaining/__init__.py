"""Why an answer is wrong, where it is no known mistake: looked for in the learner's own code."""
