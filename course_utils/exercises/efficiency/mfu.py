"""efficiency.mfu: not yet."""

from course_utils.exercises.exercise import Exercise

exercise = Exercise("efficiency.mfu", used_by="", hints=())
