"""Batches of arrays on a device, through csrc/cuda on the CPU: the suite of NumPy arrays."""

import on_cuda

globals().update(
    on_cuda.suite(
        "test_data",
        leave_out=("test_prefetching_gives_what_is_raised_to_the_caller_and_goes_on", "test_a_forked_child_goes_on"),
    )
)
