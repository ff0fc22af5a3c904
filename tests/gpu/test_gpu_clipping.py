"""See on_gpu."""

from on_gpu import suite

globals().update(suite("test_clipping", ["test_a_scalar_cannot_be_set_to_zero"]))
