"""Cases of fast tests that take ten seconds or more: slow ones, while their like stay fast."""

SLOW = (
    "test_cell_nets.py::test_a_known_architecture_is_the_same_network_as_one_that_is_data[resnet]",
    "test_edits.py::test_a_walk_starts_anew_after_an_episode_of_edits",
    "test_local.py::test_neighbours_that_fail_for_good_do_not_hold_the_search",
    "test_mesh.py::test_candidates_spread_over_devices_have_the_same_bits[8x1]",
    "test_mobile_nets.py::test_every_architecture_computes_what_its_own_network_does[ofa]",
    "test_mobile_torchvision.py::test_outputs_are_those_of_torchvision_with_its_weights[",
    "test_one_shot.py::test_a_method_trains_for_its_steps_and_finds_the_best_of_its_search[fairnas]",
    "test_one_shot_selection.py::test_edges_stay_whose_removal_costs_most_and_others_are_out",
    "test_plans.py::test_every_plan_has_the_numbers_of_a_plain_loop_for_every_space[cells-grouped",
    "test_plans.py::test_every_plan_has_the_numbers_of_a_plain_loop_for_every_space[cells-vmap",
    "test_plans.py::test_every_plan_has_the_numbers_of_a_plain_loop_for_every_space[cells-Plan(",
    "test_policies.py::test_the_entropy_of_independent_choices_is_climbed_exactly",
    "test_policies.py::test_the_mean_of_the_policy_gradient_is_the_gradient_of_the_expected_reward[",
    "test_predictors.py::test_a_graph_network_equals_message_passing_over_lists[gin_predictor-numpy_"
    "gin-nas_bench_201]",
    "test_predictors.py::test_a_graph_network_equals_message_passing_over_lists[gcn_predictor-numpy_"
    "gcn-nas_bench_201]",
    "test_q_learning.py::test_normalised_scores_are_in_standard_deviations_from_the_mean_so_far",
    "test_q_learning.py::test_replayed_rows_are_learned_in_batches_one_after_the_other",
    "test_relaxation.py::test_reinmax_is_exact_on_average_for_a_quadratic_loss_and_gumbel_is_not",
    "test_resume.py::test_rows_that_go_on_equal_a_candidate_trained_alone",
    "test_sampling.py::test_what_is_squeezed_keeps_its_ends_and_stays_uniform",
    "test_six_bits.py::test_every_agent_finds_the_best_network_from_nearly_every_seed[partial-linear]",
    "test_six_bits.py::test_every_agent_finds_the_best_network_from_nearly_every_seed[partial-dqn]",
    "test_six_bits.py::test_every_agent_finds_the_best_network_from_nearly_every_seed[edit-linear]",
    "test_steps.py::test_a_candidate_with_hyperparameters_equals_a_training_with_those_values[adamw]",
    "test_steps.py::test_a_diverged_candidate_disturbs_no_other_with_everything_switched_on[map]",
    "test_steps.py::test_a_validation_equals_a_training_that_stops_there[map]",
    "test_steps.py::test_training_in_pieces_equals_training_at_once_with_everything_switched_on",
    "test_supernet_search.py::test_a_sampling_search_trains_a_supernet_and_searches_it[enas-",
    "test_surrogate.py::test_the_predictor_learns_when_enough_rows_have_been_told_in_any_split",
    "test_transformer.py::test_it_equals_a_naive_reference_with_the_weights_of_the_small_network["
    "encoder_decoder]",
    "test_weight_sharing.py::test_a_round_together_takes_one_step_down_the_gradient_of_all_rows[mean]",
)
