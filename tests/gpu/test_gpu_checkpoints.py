"""See on_gpu."""

from on_gpu import suite

globals().update(suite("test_checkpoints", ["test_arrays_stay_where_they_are"]))
