"""The exercises of `course_utils.encoder`, one file a part."""
