"""See on_gpu."""

from on_gpu import suite

ON_THE_HOST = ["test_a_scalar_cannot_be_set_to_zero", "test_steps_round_to_nearest_whatever_another_library_set"]
globals().update(suite("test_clipping", ON_THE_HOST))
