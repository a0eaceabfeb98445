"""Cases that take long, of tests whose other cases are fast: file, test, how the case begins."""

SLOW = {
    "test_benchmarks.py": {
        "test_a_wrong_flag_is_one_line_and_exit_code_2": (
            "asha_clock-",
            "compile_time-",
            "population---no-",
            "population---space=darts-",
            "population---steps=many-",
            "supernet-",
            "table_search-",
        ),
    },
    "test_bilevel.py": {
        "test_gradients_equal_float64_differences_and_a_plain_reference": ("unrolled-",),
    },
    "test_cell_nets.py": {
        "test_multiply_adds_of_random_architectures_are_those_traced": (
            "metaqnn]",
            "nats_size]",
            "resnet]",
        ),
        "test_parameters_of_random_architectures_are_those_of_the_network": (
            "metaqnn]",
            "resnet]",
        ),
        "test_relaxed_architectures_are_refused_where_they_mean_nothing": ("nas_bench_101]",),
    },
    "test_cli.py": {
        "test_a_mistake_is_one_line_and_exit_code_2": (
            "args20-",
            "args21-",
            "args22-",
        ),
    },
    "test_convolutions.py": {
        "test_the_fused_layer_equals_its_three_parts": (
            "1-False]",
            "2-False]",
        ),
    },
    "test_darts.py": {
        "test_counts_are_those_of_the_network_itself": (
            "setting0]",
            "setting2]",
            "setting3]",
        ),
    },
    "test_faults.py": {
        "test_sigterm_ends_a_busy_process_at_once_and_a_saving_one_after_the_save": ("saving-",),
    },
    "test_genetic.py": {
        "test_a_rate_may_be_traced_or_differ_from_child_to_child": ("mutate_step]",),
        "test_the_parents_of_one_child_each_are_the_pairs_taken_apart": ("<lambda>]",),
    },
    "test_local.py": {
        "test_a_climb_evaluates_its_neighbourhood_once_and_moves_as_the_naive_one": (
            "False-1]",
            "True-1]",
        ),
    },
    "test_mesh.py": {
        "test_a_wrong_place_in_the_cluster_is_one_line": ("flags8-",),
        "test_candidates_spread_over_devices_have_the_same_bits": (
            "2x1]",
            "3x1]",
            "8x1]",
        ),
    },
    "test_mlp.py": {
        "test_it_equals_the_small_network_of_its_units": (
            "activation=[relu,tanh]",
            "activation=[tanh,sigmoid]",
        ),
    },
    "test_mobile.py": {
        "test_a_real_network_has_as_many_parameters_as_are_published": (
            "efficientnet_b7]",
            "fbnet_a]",
            "mobilenet_v3_large]",
        ),
    },
    "test_mobile_nets.py": {
        "test_a_smaller_kernel_is_the_transformed_middle_of_the_larger": ("1]",),
        "test_every_architecture_computes_what_its_own_network_does": ("ofa]",),
    },
    "test_multi_fidelity.py": {
        "test_a_candidate_that_always_fails_at_a_larger_budget_does_not_stop_the_search": (
            "asha-1]",
            "hyperband-1]",
            "successive_halving-1]",
        ),
        "test_exactly_the_best_of_each_rung_reach_the_next": (
            "strategy0-plan0-1]",
            "strategy1-plan1-13]",
            "strategy2-plan2-1]",
            "strategy2-plan2-4]",
        ),
    },
    "test_nas_bench_201.py": {
        "test_counts_hold_for_other_widths_depths_and_images": (
            "setting0]",
            "setting1]",
            "setting3]",
        ),
        "test_the_traced_network_has_the_official_flops": ("ImageNet16-",),
    },
    "test_nets.py": {
        "test_a_convolution_and_its_gradients_are_those_of_lax": (
            "image0-1-3]",
            "image0-1-5]",
            "image0-2-5]",
            "image1-1-3]",
            "image1-1-5]",
            "image1-2-5]",
        ),
        "test_a_depth_of_zero_passes_the_input_through": ("2]",),
        "test_an_int_runs_exactly_the_chosen_pieces": (
            "arch0]",
            "arch1]",
        ),
    },
    "test_one_shot.py": {
        "test_a_method_trains_for_its_steps_and_finds_the_best_of_its_search": ("fairnas]",),
    },
    "test_one_shot_selection.py": {
        "test_the_dominant_eigenvalue_equals_that_of_the_whole_hessian": ("1.0-power]",),
    },
    "test_plans.py": {
        "test_every_plan_has_the_numbers_of_a_plain_loop_for_every_space": (
            "cells-Plan(",
            "cells-grouped",
            "cells-vmap",
            "perceptrons-Plan(name='grouped', chunk=3, forms=())]",
            "perceptrons-Plan(name='vmap', chunk=2, forms=())]",
            "perceptrons-map]",
            "pieces-",
        ),
    },
    "test_policies.py": {
        "test_probabilities_add_up_to_1_and_the_entropies_of_places_to_the_entropy": ("lstm]",),
    },
    "test_q_learning.py": {
        "test_targets_are_those_of_dqn_and_double_dqn": ("None-",),
        "test_values_along_an_architecture_are_those_of_its_prefixes": ("mlp]",),
        "test_values_converge_to_the_best_completion_of_every_prefix": ("linear]",),
    },
    "test_relaxation.py": {
        "test_choices_that_are_not_there_have_weight_and_gradient_0": (
            "dirichlet]",
            "entmax15]",
            "softmax]",
        ),
        "test_sparse_maps_equal_bisection_and_its_finite_differences": ("sparsemax-",),
        "test_the_pull_back_equals_differentiation_through_the_sample": ("dirichlet]",),
    },
    "test_resume.py": {
        "test_going_on_twice_equals_training_at_once_bit_for_bit": ("grouped]",),
    },
    "test_rows.py": {
        "test_depthwise_convolution": ("2-1-5-8]",),
    },
    "test_search.py": {
        "test_stopped_and_started_again_gives_the_same_bytes": (
            "1-1]",
            "5-",
            "9-",
        ),
    },
    "test_six_bits.py": {
        "test_every_agent_finds_the_best_network_from_nearly_every_seed": (
            "edit-dqn]",
            "edit-linear]",
            "partial-",
        ),
    },
    "test_steps.py": {
        "test_a_candidate_with_hyperparameters_equals_a_training_with_those_values": ("adamw]",),
        "test_a_diverged_candidate_disturbs_no_other_with_everything_switched_on": ("map]",),
        "test_a_validation_equals_a_training_that_stops_there": ("map]",),
        "test_the_loss_is_the_cross_entropy_of_the_soft_labels": (
            "0.0-1.0]",
            "0.2-1.0]",
        ),
    },
    "test_supernet_search.py": {
        "test_the_weights_of_a_state_are_what_its_logits_mean": ("darts]",),
    },
    "test_transformer.py": {
        "test_it_equals_a_naive_reference_with_the_weights_of_the_small_network": (
            "encoder_decoder]",
        ),
    },
    "test_weight_sharing.py": {
        "test_a_loss_that_is_not_finite_teaches_nothing": ("each]",),
        "test_frozen_scores_are_measured_with_statistics_of_the_candidate": ("0]",),
        "test_rows_of_weight_0_teach_nothing_and_take_no_batch": (
            "each]",
            "mean]",
        ),
    },
}
