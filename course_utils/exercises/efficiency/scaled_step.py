"""efficiency.scaled_step: not yet."""

from course_utils.exercises.exercise import Exercise

exercise = Exercise("efficiency.scaled_step", used_by="", hints=())
