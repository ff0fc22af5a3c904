"""See on_cuda."""

from on_cuda import suite

globals().update(suite("test_groups", ["test_a_parameter_made_read_only_later_is_not_written"]))
