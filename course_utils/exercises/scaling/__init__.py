"""The exercises of `course_utils.scaling`, one file a part."""
