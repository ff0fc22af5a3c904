"""See on_cuda."""

from on_cuda import suite

globals().update(suite("test_health"))
