"""Batches of arrays on a device, through csrc/cuda on the CPU: the suite of NumPy arrays."""

import on_cuda

globals().update(
    on_cuda.suite(
        "test_data",
        leave_out=(  # nothing is made ahead there
            "test_prefetching_gives_what_is_raised_to_the_caller_and_goes_on",
            "test_all_that_are_wanted_are_made_ahead",
            "test_nobody_waits_for_batches_that_were_dropped",
            "test_nobody_keeps_a_batch_that_was_handed_out",
            "test_an_error_in_a_batch_keeps_nothing",
            "test_batches_at_the_end_of_the_program_are_made_by_who_asks",
            "test_where_no_thread_starts_batches_are_made_by_who_asks",
            "test_a_batch_that_the_end_of_the_program_left_out_is_made_by_who_waits",
            "test_rows_without_bytes",
            "test_a_forked_child_goes_on",
        ),
    )
)
