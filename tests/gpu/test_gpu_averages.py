"""See on_gpu."""

from on_gpu import suite

globals().update(suite("test_averages", ["test_swapping_a_parameter_that_became_read_only_changes_nothing"]))
