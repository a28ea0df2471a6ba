//! Sizes that data decide on, and what operators make of them: limits, sums, constants as long.

use crate::sizes::{agree, built, decode, floats};
use crate::support::onnx::{int, ints, model, node};
use lmc::base::Tensor;
use lmc::run::executor::Executor;
use lmc::target::resolve;
use tract_onnx::pb::NodeProto;

fn numbers(tensor: &Tensor) -> Vec<f32> {
    tensor.data.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
}

/// Of each row the elements above a threshold, of these the best 5 at most, in order, and as many labels: the
/// ends of detectors.
#[test]
fn the_best_of_what_is_found_in_each_row() {
    let mut nodes = vec![node("Split", &["x"], "r0")];
    nodes[0].output.extend(["r1".to_string(), "r2".to_string()]);
    let (mut best, mut labels) = (Vec::new(), Vec::new());
    for row in 0..3 {
        let name = |what: &str| format!("{what}{row}");
        let mut add = |op: &str, inputs: &[&str], output: &str| -> usize {
            let inputs: Vec<String> = inputs.iter().map(|i| i.replace('#', &row.to_string())).collect();
            let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
            nodes.push(node(op, &inputs, &output.replace('#', &row.to_string())));
            nodes.len() - 1
        };
        add("Squeeze", &["r#", "zero"], "row#");
        add("Greater", &["row#", "least"], "above#");
        add("NonZero", &["above#"], "places#");
        add("Squeeze", &["places#", "zero"], "which#");
        add("Gather", &["row#", "which#"], "kept#");
        add("Shape", &["kept#"], "count#");
        let limit = add("Concat", &["count#", "most"], "both#");
        let min = add("ReduceMin", &["both#"], "k#");
        add("TopK", &["kept#", "k#"], "best#");
        add("Shape", &["best#"], "long#");
        add("Expand", &["label#", "long#"], "labels#");
        nodes[limit].attribute.push(int("axis", 0));
        nodes[min].attribute.extend([ints("axes", &[0]), int("keepdims", 1)]);
        best.push(name("best"));
        labels.push(name("labels"));
    }
    let joined = |names: &[String], to: &str| -> NodeProto {
        let mut joined = node("Concat", &names.iter().map(String::as_str).collect::<Vec<_>>(), to);
        joined.attribute.push(int("axis", 0));
        joined
    };
    let doubled = node("Mul", &["all", "which"], "y");
    // Joined from the last: where a part begins is known only when all have been found.
    best.reverse();
    labels.reverse();
    nodes.extend([joined(&best, "all"), joined(&labels, "which"), doubled]);
    let label = |n: f32| Tensor::new([1], &[n]);
    let constants = [
        ("zero", Tensor::new([1], &[0i64])),
        ("least", Tensor::scalar(0.5f32)),
        ("most", Tensor::new([1], &[5i64])),
        ("label0", label(1.0)),
        ("label1", label(2.0)),
        ("label2", label(3.0)),
    ];
    let found = decode(&model(nodes, &[3, 300], &[-1], &constants));
    for target in
        [resolve("native", "native").expect("a host"), resolve("aarch64", "generic").expect("known")]
    {
        let built = built(&found, &[], &target);
        let mut executor =
            Executor::new(&built.program, &built.object.bytes, &target, None).expect("it runs");
        for (seed, scale) in [(1, 1.0), (2, 0.503), (3, 0.501), (4, 0.4)] {
            let x: Vec<f32> = numbers(&floats(&[900], seed)).iter().map(|v| v * scale).collect();
            let mut want = Vec::new();
            for (label, row) in x.chunks(300).enumerate().rev() {
                let mut above: Vec<f32> = row.iter().copied().filter(|&v| v > 0.5).collect();
                above.sort_by(|a, b| b.total_cmp(a));
                want.extend(above.iter().take(5).map(|v| v * (label + 1) as f32));
            }
            let got = executor.run(&[Tensor::new([3, 300], &x)]).expect("results");
            agree(&got, &[Tensor::new([want.len()], &want)], &format!("seed {seed}"));
        }
    }
}
