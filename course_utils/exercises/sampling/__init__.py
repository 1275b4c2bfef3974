"""The exercises of `course_utils.sampling`, one file a part."""
