"""See on_cuda."""

from on_cuda import suite

globals().update(suite("test_clipping", ["test_a_scalar_cannot_be_set_to_zero"]))
