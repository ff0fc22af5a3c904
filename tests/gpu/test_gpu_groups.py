"""See on_gpu."""

from on_gpu import suite

globals().update(
    suite(
        "test_groups",
        [
            "test_what_there_was_before_a_group_was_added_lives_on",
            "test_a_parameter_made_read_only_later_is_not_written",
            "test_a_state_is_no_parameter",
        ],
    )
)
