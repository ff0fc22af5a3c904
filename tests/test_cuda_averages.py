"""See on_cuda."""

from on_cuda import suite

globals().update(suite("test_averages", ["test_swapping_a_parameter_that_became_read_only_changes_nothing"]))
