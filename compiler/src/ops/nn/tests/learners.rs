//! Trees and linear models of ai.onnx.ml.

use super::*;

/// A tree of two levels, and a tree that is one leaf, vote for two targets; NaN goes the false way.
#[test]
fn tree_ensemble_regressor() {
    let ints = |v: &[i64]| Attr::Ints(v.to_vec());
    let modes = ["BRANCH_LEQ", "LEAF", "BRANCH_GT", "LEAF", "LEAF", "LEAF"].map(String::from);
    let attrs = [
        ("nodes_treeids", ints(&[0, 0, 0, 0, 0, 1])),
        ("nodes_nodeids", ints(&[0, 1, 2, 3, 4, 0])),
        ("nodes_featureids", ints(&[0, 0, 1, 0, 0, 0])),
        ("nodes_modes", Attr::Strs(modes.to_vec())),
        ("nodes_values", Attr::Floats(vec![0.5, 0.0, 2.0, 0.0, 0.0, 0.0])),
        ("nodes_truenodeids", ints(&[1, 0, 3, 0, 0, 0])),
        ("nodes_falsenodeids", ints(&[2, 0, 4, 0, 0, 0])),
        ("target_treeids", ints(&[0, 0, 0, 1])),
        ("target_nodeids", ints(&[1, 3, 4, 0])),
        ("target_ids", ints(&[0, 1, 0, 1])),
        ("target_weights", Attr::Floats(vec![1.0, 2.0, 4.0, 8.0])),
        ("n_targets", Attr::Int(2)),
    ];
    let x = Tensor::new([4, 2], &[0.5f32, 9.0, 0.6, 3.0, 0.6, 2.0, f32::NAN, 3.0]);
    let got = run("ai.onnx.ml", "TreeEnsembleRegressor", &attrs, &[Some(x)], 1);
    assert_eq!(floats(&got[0]), [1.0, 8.0, 0.0, 10.0, 4.0, 8.0, 0.0, 10.0]);
}

/// All nodes compare alike: every comparison, with missing features on either side.
#[test]
fn trees_of_one_comparison() {
    let ints = |v: &[i64]| Attr::Ints(v.to_vec());
    let less_equal_greater = [
        ("BRANCH_LEQ", [1, 1, 0]),
        ("BRANCH_LT", [1, 0, 0]),
        ("BRANCH_GTE", [0, 1, 1]),
        ("BRANCH_GT", [0, 0, 1]),
        ("BRANCH_EQ", [0, 1, 0]),
        ("BRANCH_NEQ", [1, 0, 1]),
    ];
    for ((mode, holds), missing) in less_equal_greater.into_iter().flat_map(|m| [(m, 0), (m, 1)]) {
        let attrs = [
            ("nodes_treeids", ints(&[0, 0, 0])),
            ("nodes_nodeids", ints(&[0, 1, 2])),
            ("nodes_featureids", ints(&[1, 0, 0])),
            ("nodes_modes", Attr::Strs([mode, "LEAF", "LEAF"].map(String::from).to_vec())),
            ("nodes_values", Attr::Floats(vec![0.5, 0.0, 0.0])),
            ("nodes_truenodeids", ints(&[1, 0, 0])),
            ("nodes_falsenodeids", ints(&[2, 0, 0])),
            ("nodes_missing_value_tracks_true", ints(&[missing, 0, 0])),
            ("target_treeids", ints(&[0, 0])),
            ("target_nodeids", ints(&[1, 2])),
            ("target_ids", ints(&[0, 0])),
            ("target_weights", Attr::Floats(vec![1.0, 0.0])),
            ("n_targets", Attr::Int(1)),
        ];
        let x = Tensor::new([4, 2], &[9.0f32, 0.25, 9.0, 0.5, 9.0, 0.75, 9.0, f32::NAN]);
        let got = run("ai.onnx.ml", "TreeEnsembleRegressor", &attrs, &[Some(x)], 1);
        // A missing feature is unequal to any.
        let missing = f32::from(u8::from(missing == 1 || mode == "BRANCH_NEQ"));
        let [less, equal, greater] = holds.map(|h| h as f32);
        assert_eq!(floats(&got[0]), [less, equal, greater, missing], "{mode}");
    }
}

/// A tree of so many nodes that words of 64 bits hold them: the leaf says how many numbers are below the features,
/// which are all the same.
#[test]
fn a_tree_of_many_nodes() {
    const NODES: i64 = (1 << 17) - 1;
    const FEATURES: i64 = 100;
    let all: Vec<i64> = (0..2 * NODES + 1).collect();
    let inner =
        |f: fn(i64) -> i64| Attr::Ints(all.iter().map(|&i| if i < NODES { f(i) } else { 0 }).collect());
    // Node `i` of a level, which has `level` nodes, is compared with the middle of its part.
    let split = |i: i64| {
        let level = 1i64 << (i + 1).ilog2();
        ((2 * (i + 1 - level) + 1) * ((NODES + 1) / (2 * level))) as f32 - 0.5
    };
    let modes = all.iter().map(|&i| if i < NODES { "BRANCH_LEQ" } else { "LEAF" }.to_string());
    let leaves: Vec<i64> = (NODES..2 * NODES + 1).collect();
    let attrs = [
        ("nodes_treeids", inner(|_| 0)),
        ("nodes_nodeids", Attr::Ints(all.clone())),
        ("nodes_featureids", inner(|i| i % FEATURES)),
        ("nodes_modes", Attr::Strs(modes.collect())),
        ("nodes_values", Attr::Floats(all.iter().map(|&i| if i < NODES { split(i) } else { 0.0 }).collect())),
        ("nodes_truenodeids", inner(|i| 2 * i + 1)),
        ("nodes_falsenodeids", inner(|i| 2 * i + 2)),
        ("target_treeids", Attr::Ints(vec![0; leaves.len()])),
        ("target_nodeids", Attr::Ints(leaves.clone())),
        ("target_ids", Attr::Ints(vec![0; leaves.len()])),
        ("target_weights", Attr::Floats((0..=NODES).map(|i| i as f32).collect())),
        ("n_targets", Attr::Int(1)),
    ];
    let of = [0f32, 1.0, 77.0, 65535.0, 65536.0, 100000.0, 131070.0, 131071.0];
    let x: Vec<f32> = of.iter().flat_map(|&v| [v; FEATURES as usize]).collect();
    let x = Tensor::new([of.len(), FEATURES as usize], &x);
    let got = run("ai.onnx.ml", "TreeEnsembleRegressor", &attrs, &[Some(x)], 1);
    assert_eq!(floats(&got[0]), of);
}

/// Two classes of which the coefficients give the score of one.
#[test]
fn linear_classifier_of_two_classes() {
    let attrs = [
        ("coefficients", Attr::Floats(vec![1.0, -2.0])),
        ("intercepts", Attr::Floats(vec![0.5])),
        ("classlabels_ints", Attr::Ints(vec![7, 9])),
        ("post_transform", Attr::Str("LOGISTIC".into())),
    ];
    let x = Tensor::new([2, 2], &[1.0f32, 0.0, 0.0, 1.0]);
    let got = run("ai.onnx.ml", "LinearClassifier", &attrs, &[Some(x)], 2);
    assert_eq!(got[0].to_vec::<i64>(), Some(vec![9, 7]));
    let sigmoid = |v: f32| 1.0 / (1.0 + (-v).exp());
    close(&floats(&got[1]), &[sigmoid(-1.5), sigmoid(1.5), sigmoid(1.5), sigmoid(-1.5)]);
}
