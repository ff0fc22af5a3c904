"""See on_cuda."""

from on_cuda import suite

globals().update(suite("test_errors", ["test_bad_parameters", "test_bad_gradients"]))
