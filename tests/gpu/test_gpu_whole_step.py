"""See on_gpu."""

from on_gpu import suite

globals().update(suite("test_whole_step"))
