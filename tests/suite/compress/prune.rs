//! Pruning: channels that are removed everywhere, weights that become zero.

use super::{decode, floats, graph, inputs, known, stored};
use crate::golden::check_text;
use crate::support::models;
use crate::support::onnx::{int, ints, model, node, with};
use lmc::base::Tensor;
use lmc::compress::observe::Observed;
use lmc::compress::onnx::Onnx;
use lmc::compress::prune;
use tract_onnx::pb;

/// A net in which half the channels of each layer are zero, whatever comes in: a convolution with
/// normalization, a depthwise one, a residual addition, a concatenation, a pool, a product.
fn half_empty() -> pb::ModelProto {
    let empty = |shape: &[usize], seed: u32, gone: &[usize]| {
        let inner: usize = shape[1..].iter().product();
        let mut w = floats(shape.iter().product(), seed);
        gone.iter().for_each(|&c| w[c * inner..][..inner].fill(0.0));
        Tensor::new(shape, &w)
    };
    let (a, b, c) = ([1, 4, 5, 7], [0, 2], [1, 2, 3]);
    let mut depthwise = node("Conv", &["r1", "w2", "b2"], "c2");
    depthwise.attribute = vec![int("group", 8), ints("pads", &[1, 1, 1, 1])];
    let concat = with(node("Concat", &["s", "c4"], "k"), [int("axis", 1)]);
    let nodes = vec![
        node("Conv", &["x", "w1"], "c1"),
        node("BatchNormalization", &["c1", "scale", "shift", "mean", "variance"], "n1"),
        node("Relu", &["n1"], "r1"),
        depthwise,
        node("Relu", &["c2"], "r2"),
        node("Conv", &["r2", "w3", "b3"], "c3"),
        node("Add", &["r1", "c3"], "s"),
        node("Conv", &["x", "w4"], "c4"),
        concat,
        node("Conv", &["k", "w5", "b5"], "c5"),
        node("Reshape", &["c5", "flat"], "f"),
        node("Gemm", &["f", "w6", "b6"], "y"),
    ];
    let constants = [
        ("w1", empty(&[8, 2, 1, 1], 1, &a)),
        ("scale", Tensor::new([8], &[1.0f32; 8])),
        ("shift", empty(&[8], 2, &a)),
        ("mean", Tensor::new([8], &[0.0f32; 8])),
        ("variance", Tensor::new([8], &[1.0f32; 8])),
        ("w2", Tensor::new([8, 1, 3, 3], &floats(72, 3))),
        ("b2", empty(&[8], 4, &a)),
        ("w3", empty(&[8, 8, 1, 1], 5, &a)),
        ("b3", empty(&[8], 6, &a)),
        ("w4", empty(&[4, 2, 1, 1], 7, &b)),
        ("w5", empty(&[6, 12, 1, 1], 8, &c)),
        ("b5", empty(&[6], 9, &c)),
        ("flat", Tensor::new([2], &[1i64, 96])),
        ("w6", Tensor::new([96, 3], &floats(288, 10))),
        ("b6", Tensor::new([3], &floats(3, 11))),
    ];
    model(nodes, &[1, 2, 4, 4], &[1, 3], &constants)
}

/// Attention with three heads of four channels, of which the first and the last are zero.
fn empty_heads() -> pb::ModelProto {
    let empty = |columns: std::ops::Range<usize>, seed: u32| {
        let mut w = floats(96, seed);
        w.iter_mut().enumerate().filter(|(i, _)| !columns.contains(&(i % 12))).for_each(|(_, w)| *w = 0.0);
        Tensor::new([8, 12], &w)
    };
    let moved =
        |from: &str, to: &str, order: &[i64]| with(node("Transpose", &[from], to), [ints("perm", order)]);
    let mut nodes = Vec::new();
    for (name, order) in [("q", [0, 2, 1, 3]), ("k", [0, 2, 3, 1]), ("v", [0, 2, 1, 3])] {
        let [weights, all, heads, turned] = ["w", "all_", "heads_", ""].map(|what| format!("{what}{name}"));
        nodes.push(node("MatMul", &["x", &weights], &all));
        nodes.push(node("Reshape", &[&all, "divided"], &heads));
        nodes.push(moved(&heads, &turned, &order));
    }
    nodes.extend([
        node("MatMul", &["q", "k"], "scores"),
        node("Mul", &["scores", "scale"], "scaled"),
        node("Add", &["scaled", "mask"], "masked"),
        node("Softmax", &["masked"], "weights"),
        node("MatMul", &["weights", "v"], "picked"),
        moved("picked", "turned", &[0, 2, 1, 3]),
        node("Reshape", &["turned", "joined"], "heads"),
        node("MatMul", &["heads", "wo"], "y"),
    ]);
    let constants = [
        ("wq", empty(4..8, 1)),
        ("wk", empty(4..8, 2)),
        ("wv", empty(4..8, 3)),
        ("wo", Tensor::new([12, 8], &floats(96, 4))),
        ("scale", Tensor::scalar(0.5f32)),
        ("mask", Tensor::new([1, 1, 4, 4], &floats(16, 5))),
        ("divided", Tensor::new([4], &[1i64, 4, 3, 4])),
        ("joined", Tensor::new([3], &[1i64, 4, 12])),
    ];
    model(nodes, &[1, 4, 8], &[1, 4, 8], &constants)
}

fn structured(sparsity: f64) -> prune::Options {
    prune::Options { sparsity, structured: true, global: false }
}

/// The largest difference of two models' results.
fn difference(a: &Onnx, b: &Onnx, sample: Tensor) -> f32 {
    let sample = vec![sample];
    let [a, b] = [a, b].map(|onnx| {
        let all = Observed::new(onnx, &[]).expect("a model").outputs(&sample).expect("outputs");
        all[0].to_vec::<f32>().expect("floats")
    });
    a.iter().zip(&b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

/// Heads stay or go as a whole, with the columns of all projections and the rows of the last one.
#[test]
fn empty_heads_are_removed() {
    let onnx = decode(&empty_heads());
    let made = prune::prune(&onnx, &structured(0.6), &known(&onnx)).expect("pruned");
    check_text("compress/heads.txt", &graph(&made.onnx));
    assert_eq!(made.notes.len(), 1, "{:?}", made.notes);
    let off = difference(&onnx, &made.onnx, Tensor::new([1, 4, 8], &floats(32, 6)));
    assert!(off < 1e-5, "{off}");
}

/// Removing channels that are zero changes nothing: every reader loses the right ones.
#[test]
fn empty_channels_are_removed() {
    let onnx = decode(&half_empty());
    let made = prune::prune(&onnx, &structured(0.5), &known(&onnx)).expect("pruned");
    check_text("compress/pruned.txt", &graph(&made.onnx));
    assert_eq!(made.notes, ["node 'the Gemm' (Gemm) keeps its channels: it is an output of the model"]);
    for sample in inputs(3) {
        let off = difference(&onnx, &made.onnx, sample[0].clone());
        assert!(off < 1e-4, "{off}");
    }
}

#[test]
fn weights_become_zero() {
    let onnx = decode(&stored());
    for global in [false, true] {
        let options = prune::Options { sparsity: 0.8, structured: false, global };
        let made = prune::prune(&onnx, &options, &known(&onnx)).expect("pruned");
        let zeros = |name: &str| {
            let (_, w) = made.onnx.floats(name).expect("weights");
            w.iter().filter(|w| **w == 0.0).count() as f64 / w.len() as f64
        };
        let all = [("w1", 960.0), ("w2", 576.0)].map(|(n, count)| zeros(n) * count).iter().sum::<f64>();
        assert!(all / 1536.0 >= 0.8, "{global}: {all}");
        assert!(global || zeros("w2") >= 0.8);
        assert_eq!(made.layers.len(), 2);
    }
    let say = |onnx: &Onnx, sparsity, structured| {
        let options = prune::Options { sparsity, structured, global: false };
        prune::prune(onnx, &options, &known(onnx)).err().expect("an error").to_string()
    };
    assert!(say(&onnx, 1.0, false).starts_with("--sparsity: 1 is not a part"));
    let relu = decode(&model(vec![node("Relu", &["x"], "y")], &[2], &[2], &[]));
    assert!(say(&relu, 0.5, false).starts_with("there is nothing to prune"));
    assert!(say(&relu, 0.5, true).starts_with("there is nothing to prune"));
    let w = Tensor::new([2, 2, 1, 1], &floats(4, 1));
    let single =
        decode(&model(vec![node("Conv", &["x", "w"], "y")], &[1, 2, 4, 4], &[1, 2, 4, 4], &[("w", w)]));
    assert!(say(&single, 0.5, true).contains("no channel can be removed"));
}

/// Real models of several families are pruned, and what is left compiles and runs.
#[test]
fn real_models_lose_channels() {
    for name in ["kws_dscnn", "ic_resnet8", "ad_autoencoder"] {
        let entry = models::named(name);
        let onnx = Onnx::read(&entry.folder.join("model.onnx")).expect("a model");
        let sample = entry.data(0).0;
        let known = lmc::compress::observe::known(&onnx, &sample).expect("types");
        let options = prune::Options { sparsity: 0.5, structured: true, global: false };
        let made = prune::prune(&onnx, &options, &known).expect("pruned");
        assert!(made.notes.len() <= 1, "{name}: {:?}", made.notes);
        let left: usize = made.layers.iter().map(|l| l.weights).sum();
        let (whole, half) = (onnx.encode().expect("bytes").len(), made.onnx.encode().expect("bytes").len());
        assert!(half * 5 < whole * 3 && left > 0, "{name}: {half} of {whole}");
        Observed::new(&made.onnx, &[]).expect("a model").outputs(&sample).expect("outputs");
    }
}

/// Weights that several nodes make of a constant become one, and what they were made of goes.
#[test]
fn chains_over_constants_are_computed() {
    let nodes = vec![
        node("Neg", &["w"], "minus"),
        node("Identity", &["minus"], "same"),
        node("Transpose", &["same"], "turned"),
        node("MatMul", &["x", "turned"], "y"),
    ];
    let weights = Tensor::new([16, 16], &floats(256, 1));
    let onnx = decode(&model(nodes, &[1, 16], &[1, 16], &[("w", weights)]));
    let options = prune::Options { sparsity: 0.5, structured: false, global: false };
    let made = prune::prune(&onnx, &options, &known(&onnx)).expect("pruned").onnx;
    let names: Vec<&str> = made.initializers.iter().map(|i| i.proto.name.as_str()).collect();
    assert_eq!((made.nodes.len(), names), (1, vec!["turned"]));
}

/// Weights that a node of the graph holds stay there.
#[test]
fn constant_nodes_are_rewritten() {
    let tensor = pb::AttributeProto {
        name: "value".into(),
        t: Some(lmc::import::to_tensor_proto("", &Tensor::new([16, 16], &floats(256, 1)))),
        r#type: pb::attribute_proto::AttributeType::Tensor as i32,
        ..Default::default()
    };
    let constant = with(node("Constant", &[], "w"), [tensor]);
    let onnx = decode(&model(vec![constant, node("MatMul", &["x", "w"], "y")], &[1, 16], &[1, 16], &[]));
    let options = prune::Options { sparsity: 0.5, structured: false, global: false };
    let made = prune::prune(&onnx, &options, &known(&onnx)).expect("pruned").onnx;
    assert!(made.initializers.is_empty());
    let (_, weights) = made.floats("w").expect("weights");
    assert!(weights.iter().filter(|w| **w == 0.0).count() >= 128);
    known(&made);
}
