"""efficiency.bubble: not yet."""

from course_utils.exercises.exercise import Exercise

exercise = Exercise("efficiency.bubble", used_by="", hints=())
