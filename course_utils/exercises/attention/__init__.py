"""The exercises of `course_utils.attention`, one file a part."""
