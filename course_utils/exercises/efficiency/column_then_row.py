"""efficiency.column_then_row: not yet."""

from course_utils.exercises.exercise import Exercise

exercise = Exercise("efficiency.column_then_row", used_by="", hints=())
