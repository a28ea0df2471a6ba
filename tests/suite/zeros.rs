//! Pruned weights: products of which zeros are left out, as a whole model, at sizes known at compile time and at run
//! time.

use crate::sizes::{built, check, decode, floats};
use crate::support::onnx::{int, ints, model, node, with};
use lmc::base::Tensor;
use lmc::target::resolve;
use tract_onnx::pb;

/// Weights of which one in five is not zero.
fn pruned(shape: &[usize], seed: u64) -> Tensor {
    let values = floats(shape, seed).to_vec::<f32>().expect("floats");
    let kept = |(i, v): (usize, f32)| if i * 7 % 5 == 2 || i % 31 == 4 { v } else { 0.0 };
    let values: Vec<f32> = values.into_iter().enumerate().map(kept).collect();
    Tensor::new(shape, &values)
}

/// Two layers over all steps, with a residual connection.
fn layers(steps: i64) -> pb::ModelProto {
    let nodes = vec![
        node("MatMul", &["x", "w1"], "p1"),
        node("Add", &["p1", "b1"], "s1"),
        node("Relu", &["s1"], "r1"),
        node("MatMul", &["r1", "w2"], "p2"),
        node("Add", &["p2", "x"], "y"),
    ];
    let constants = [("w1", pruned(&[48, 100], 1)), ("b1", floats(&[100], 2)), ("w2", pruned(&[100, 48], 3))];
    model(nodes, &[-2, steps, 48], &[-2, steps, 48], &constants)
}

/// How many kernels multiply by lists of weights: those have words in the place of floats.
fn lists(proto: &pb::ModelProto, bounds: &[(&str, usize)], cpu: (&str, &str)) -> usize {
    let target = resolve(cpu.0, cpu.1).expect("known");
    let program = built(&decode(proto), bounds, &target).program;
    let words = |k: &&lmc::tile::Kernel| k.params.iter().any(|p| p.dtype == lmc::base::DType::I32);
    program.kernels.iter().filter(words).count()
}

#[test]
fn zeros_are_left_out() {
    for steps in [40, 101] {
        let proto = layers(steps as i64);
        for cpu in [("x86_64", "generic"), ("x86_64", "x86-64-v3"), ("aarch64", "generic")] {
            assert_eq!(lists(&proto, &[("batch", 1)], cpu), 2, "{cpu:?}");
        }
        let cases: Vec<Vec<Tensor>> = (1..3).map(|b| vec![floats(&[b, steps, 48], 9)]).collect();
        check(&proto, &[("batch", 2)], &cases);
    }
}

#[test]
fn steps_are_known_at_run_time() {
    let proto = layers(-1);
    let bounds = [("batch", 2), ("length", 90)];
    assert!(lists(&proto, &bounds, ("x86_64", "x86-64-v3")) > 0);
    let cases: Vec<Vec<Tensor>> = [(1, 90), (2, 7), (1, 64), (2, 1), (1, 25), (2, 49)]
        .map(|(b, s)| vec![floats(&[b, s, 48], 5)])
        .to_vec();
    check(&proto, &bounds, &cases);
}

/// Filters of which one is empty, and one has decayed beside its bias.
fn decayed(shape: &[usize], seed: u64) -> Tensor {
    let mut values = floats(shape, seed).to_vec::<f32>().expect("floats");
    let filter = values.len() / shape[0];
    values[filter..2 * filter].fill(0.0);
    values[2 * filter..3 * filter].iter_mut().for_each(|w| *w *= 1e-30);
    Tensor::new(shape, &values)
}

/// Channels that two convolutions make and a third scales by their means, as many as are left of twenty.
fn scaled(rows: i64) -> pb::ModelProto {
    let nodes = vec![
        node("Conv", &["x", "w", "b"], "n"),
        node("BatchNormalization", &["n", "b", "d", "b", "variance"], "a"),
        node("Conv", &["x", "v", "d"], "c"),
        node("Tanh", &["c"], "t"),
        node("Add", &["a", "t"], "sum"),
        node("Shape", &["x"], "shape"),
        node("Gather", &["shape", "third"], "count"),
        with(node("Cast", &["count"], "number"), [int("to", 1)]),
        node("Div", &["sum", "number"], "quotient"),
        node("PRelu", &["quotient", "slope"], "r"),
        with(node("ReduceMean", &["r"], "mean"), [ints("axes", &[2, 3])]),
        node("Conv", &["mean", "u", "b"], "e"),
        node("Sigmoid", &["e"], "gate"),
        node("Mul", &["r", "gate"], "g"),
        node("Conv", &["g", "p"], "y"),
    ];
    let constants = [
        ("w", decayed(&[20, 3, 1, 1], 1)),
        ("b", floats(&[20], 2)),
        ("v", decayed(&[20, 3, 1, 1], 3)),
        ("d", floats(&[20], 4)),
        ("variance", Tensor::new([20], &[2f32; 20])),
        ("third", Tensor::new([1], &[2i64])),
        ("slope", floats(&[20, 1, 1], 5)),
        ("u", decayed(&[20, 20, 1, 1], 6)),
        ("p", floats(&[4, 20, 3, 3], 7)),
    ];
    model(nodes, &[1, 3, rows, 6], &[1, 4, if rows < 0 { -3 } else { rows - 2 }, 4], &constants)
}

#[test]
fn channels_that_decayed_are_left_out() {
    let cases = |rows: &[usize]| rows.iter().map(|&n| vec![floats(&[1, 3, n, 6], 9)]).collect::<Vec<_>>();
    let target = resolve("x86_64", "generic").expect("known");
    for (proto, bounds, rows) in
        [(scaled(7), &[][..], &[7][..]), (scaled(-1), &[("length", 9)], &[9, 3, 4, 8])]
    {
        // Three of each convolution's weights over the input, and twenty over the means.
        let notes = built(&decode(&proto), bounds, &target).notes;
        assert!(notes.iter().any(|n| n.starts_with("26 weights")), "{notes:?}");
        check(&proto, bounds, &cases(rows));
    }
}
