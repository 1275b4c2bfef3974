"""The exercises of `course_utils.interpretability`, one file a part."""
