"""efficiency.mean_gradient: not yet."""

from course_utils.exercises.exercise import Exercise

exercise = Exercise("efficiency.mean_gradient", used_by="", hints=())
