"""The exercises of `course_utils.positions`, one file a part."""
