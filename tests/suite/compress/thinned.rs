//! Channels that are removed from what takes parts of them, divides them, or computes with their number.

use super::{decode, floats, graph, known};
use crate::golden::check_text;
use crate::support::onnx::{int, ints, model, node};
use lmc::base::Tensor;
use lmc::compress::observe::Observed;
use lmc::compress::onnx::Onnx;
use lmc::compress::prune::{self, Options, Pruned};
use tract_onnx::pb;

/// Weights of a pointwise convolution, of which some outputs are zero.
fn weights(shape: [usize; 2], gone: &[usize], seed: u32) -> Tensor {
    let mut w = floats(shape[0] * shape[1], seed);
    gone.iter().for_each(|&c| w[c * shape[1]..][..shape[1]].fill(0.0));
    Tensor::new([shape[0], shape[1], 1, 1], &w)
}

fn list(values: &[i64]) -> Tensor {
    Tensor::new([values.len()], values)
}

fn with(mut node: pb::NodeProto, attributes: Vec<pb::AttributeProto>) -> pb::NodeProto {
    node.attribute = attributes;
    node
}

fn parts(op: &str, inputs: &[&str], outputs: &[&str], attributes: Vec<pb::AttributeProto>) -> pb::NodeProto {
    let mut node = with(node(op, inputs, outputs[0]), attributes);
    node.output = outputs.iter().map(|o| o.to_string()).collect();
    node
}

fn thinned(onnx: &Onnx) -> Pruned {
    let options = Options { sparsity: 0.5, structured: true, global: false };
    prune::prune(onnx, &options, &known(onnx)).expect("pruned")
}

/// Half of the channels go, and the results stay what they are.
fn check(name: &str, proto: &pb::ModelProto, shape: &[usize], notes: &[&str]) {
    let onnx = decode(proto);
    let made = thinned(&onnx);
    check_text(&format!("compress/{name}.txt"), &graph(&made.onnx));
    assert_eq!(made.notes, notes);
    let sample = vec![Tensor::new(shape, &floats(shape.iter().product(), 77))];
    let outputs = |onnx: &Onnx| Observed::new(onnx, &[]).expect("a model").outputs(&sample).expect("outputs");
    let [a, b] = [&onnx, &made.onnx].map(|onnx| outputs(onnx)[0].to_vec::<f32>().expect("floats"));
    let off = a.iter().zip(&b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(off < 1e-4, "{name}: {off}");
    assert!(a.iter().any(|x| x.abs() > 1e-2));
}

/// Halves of a layer's channels, as exporters write `chunk`: where they begin is computed from their number. One half
/// goes on; a part of a concatenation is taken off; a shape is put together of numbers.
fn halves() -> pb::ModelProto {
    let nodes = vec![
        node("Conv", &["x", "w1"], "c1"),
        node("Shape", &["c1"], "shape"),
        node("Gather", &["shape", "one"], "number"),
        node("Add", &["number", "one"], "more"),
        node("Div", &["more", "two"], "half"),
        node("Mul", &["half", "two"], "all"),
        node("Slice", &["c1", "zero", "half", "one"], "a"),
        node("Slice", &["c1", "half", "all", "one"], "b"),
        node("Conv", &["b", "w2"], "c2"),
        with(node("Concat", &["a", "c2", "b"], "k"), vec![int("axis", 1)]),
        node("Slice", &["k", "zero", "twelve", "one"], "t"),
        parts("Split", &["t"], &["p", "q"], vec![int("axis", 1)]),
        node("Mul", &["p", "q"], "m"),
        node("Shape", &["m"], "size"),
        node("Slice", &["size", "zero", "one"], "front"),
        with(node("Concat", &["front", "back"], "shaped"), vec![int("axis", 0)]),
        node("Reshape", &["m", "shaped"], "r"),
        node("Conv", &["r", "w3"], "y"),
    ];
    let constants = [
        ("w1", weights([8, 2], &[0, 2, 5, 6], 1)),
        ("w2", weights([8, 4], &[0, 3, 4, 6], 2)),
        ("w3", weights([3, 6], &[], 3)),
        ("zero", list(&[0])),
        ("one", list(&[1])),
        ("two", list(&[2])),
        ("back", list(&[6, 4, 4])),
        ("twelve", list(&[12])),
    ];
    model(nodes, &[1, 2, 4, 4], &[1, 3, 4, 4], &constants)
}

#[test]
fn parts_of_channels_are_followed() {
    // The two factors keep the same channels, which the layers do not all have: of the parts that meet, each keeps
    // half.
    let onnx = decode(&halves());
    let made = thinned(&onnx);
    check_text("compress/halves.txt", &graph(&made.onnx));
    assert_eq!(known(&made.onnx)["y"].0.shape, known(&onnx)["y"].0.shape);
    assert_eq!(known(&made.onnx)["k"].0.shape, [1, 8, 4, 4]);
}

/// Queries, keys and values of one product: heads of all three go together.
#[test]
fn heads_of_one_projection_are_removed() {
    let gone: Vec<usize> = (0..24).filter(|c| c / 2 % 4 < 2).collect();
    let mut w = floats(8 * 24, 1);
    w.iter_mut().enumerate().filter(|(i, _)| gone.contains(&(i % 24))).for_each(|(_, w)| *w = 0.0);
    let part = |name: &str, which: &str| with(node("Gather", &["turned", which], name), vec![int("axis", 0)]);
    let nodes = vec![
        node("MatMul", &["x", "w"], "all"),
        node("Reshape", &["all", "divided"], "heads"),
        with(node("Transpose", &["heads"], "turned"), vec![ints("perm", &[2, 0, 3, 1, 4])]),
        part("q", "zero"),
        part("k", "one"),
        part("v", "two"),
        with(node("Transpose", &["k"], "kt"), vec![ints("perm", &[0, 1, 3, 2])]),
        node("MatMul", &["q", "kt"], "scores"),
        node("Softmax", &["scores"], "s"),
        node("MatMul", &["s", "v"], "picked"),
        with(node("Transpose", &["picked"], "back"), vec![ints("perm", &[0, 2, 1, 3])]),
        node("Reshape", &["back", "joined"], "merged"),
        node("MatMul", &["merged", "wo"], "y"),
    ];
    let constants = [
        ("w", Tensor::new([8, 24], &w)),
        ("wo", Tensor::new([8, 8], &floats(64, 2))),
        ("divided", list(&[1, 5, 3, 4, 2])),
        ("joined", list(&[1, 5, 8])),
        ("zero", Tensor::scalar(0i64)),
        ("one", Tensor::scalar(1i64)),
        ("two", Tensor::scalar(2i64)),
    ];
    let notes = ["node 'the MatMul' (MatMul) keeps its channels: it is an output of the model"];
    check("projection", &model(nodes, &[1, 5, 8], &[1, 5, 8], &constants), &[1, 5, 8], &notes);
}

/// A normalization of groups as reshapes around one of instances: whole groups go.
#[test]
fn groups_that_are_normalized_are_removed() {
    let nodes = vec![
        node("Conv", &["x", "w1"], "c1"),
        node("Shape", &["c1"], "shape"),
        node("Reshape", &["c1", "grouped"], "g"),
        node("InstanceNormalization", &["g", "scale", "shift"], "n"),
        node("Reshape", &["n", "shape"], "back"),
        node("Mul", &["back", "gamma"], "m"),
        node("Add", &["m", "c1"], "a"),
        node("Conv", &["a", "w2"], "y"),
    ];
    let constants = [
        ("w1", weights([8, 2], &[2, 3, 6, 7], 1)),
        ("w2", weights([3, 8], &[], 2)),
        ("grouped", list(&[1, 4, -1])),
        ("scale", Tensor::new([4], &[1.0f32; 4])),
        ("shift", Tensor::new([4], &[0.0f32; 4])),
        ("gamma", Tensor::new([8, 1, 1], &floats(8, 3))),
    ];
    let notes = ["node 'the Conv' (Conv) keeps its channels: it is an output of the model"];
    check("groups", &model(nodes, &[1, 2, 4, 4], &[1, 3, 4, 4], &constants), &[1, 2, 4, 4], &notes);
}

/// A number of channels that is multiplied with, and one that says another axis' size: the channels stay.
#[test]
fn channels_whose_number_counts_stay() {
    let count = |reader: Vec<pb::NodeProto>, constants: &[(&str, Tensor)], y: &[i64]| {
        let mut nodes = vec![
            node("Conv", &["x", "w1"], "c1"),
            node("Conv", &["c1", "w2"], "c2"),
            node("Shape", &["c1"], "shape"),
            node("Gather", &["shape", "one"], "number"),
        ];
        nodes.extend(reader);
        let mut all = vec![
            ("w1", weights([8, 2], &[], 1)),
            ("w2", weights([8, 8], &[], 2)),
            ("w3", weights([3, 8], &[], 3)),
            ("one", list(&[1])),
        ];
        all.extend(constants.iter().cloned());
        let options = Options { sparsity: 0.5, structured: true, global: false };
        let onnx = decode(&model(nodes, &[1, 2, 4, 4], y, &all));
        let made = prune::prune(&onnx, &options, &known(&onnx)).expect("pruned");
        assert_eq!(known(&made.onnx)["y"].0.shape, known(&onnx)["y"].0.shape);
        made.notes
    };
    let scaled = vec![
        with(node("Cast", &["number"], "float"), vec![int("to", 1)]),
        node("Div", &["c2", "float"], "d"),
        node("Conv", &["d", "w3"], "y"),
    ];
    let notes = count(scaled, &[], &[1, 3, 4, 4]);
    assert_eq!(notes.len(), 2, "{notes:?}");
    assert!(
        notes[0].contains("'the Conv' (Conv) keeps its channels: node 'the Div' (Div) depends on how many")
    );
    // A sum over the other layer's channels, spread over as many as the first one has.
    let spread = vec![
        node("Conv", &["c2", "w3"], "c3"),
        with(node("Concat", &["size", "number"], "wide"), vec![int("axis", 0)]),
        node("Reshape", &["c3", "flat"], "column"),
        node("Expand", &["column", "wide"], "y"),
    ];
    let constants = [("size", list(&[48])), ("flat", list(&[48, 1]))];
    let notes = count(spread, &constants, &[48, 8]);
    assert!(
        notes[0].contains("'the Conv' (Conv) keeps its channels: node 'the Expand' (Expand) depends"),
        "{notes:?}"
    );
}
