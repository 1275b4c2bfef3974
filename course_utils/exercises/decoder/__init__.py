"""The exercises of `course_utils.decoder`, one file a part."""
