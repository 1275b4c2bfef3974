"""The exercises of `course_utils.start_here`, one file a part."""
