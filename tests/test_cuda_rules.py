"""The rules on the CUDA backend: see on_cuda."""

from on_cuda import suite

globals().update(suite("test_rules", ["test_denormals_are_kept_whatever_another_library_set"]))
