"""See on_gpu."""

from on_gpu import suite

globals().update(suite("test_rules", ["test_denormals_are_kept_whatever_another_library_set"]))
