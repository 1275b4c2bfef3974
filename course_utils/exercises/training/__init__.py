"""The exercises of `course_utils.training`, one file a part."""
