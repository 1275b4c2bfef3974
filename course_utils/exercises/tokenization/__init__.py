"""The exercises of `course_utils.tokenization`, one file a part."""
