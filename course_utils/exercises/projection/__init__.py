"""The exercises of `course_utils.projection`, one file a part."""
