//! Batches whose entries have nothing to do with each other: what becomes of their stages, and that one object gives at
//! each size what the naive loops of the model bound to that size give, in the memory of a single entry.

use crate::golden::check_folder;
use crate::sizes::{bounded, built, built_as, check, check_as, decode, floats};
use crate::support::onnx::{int, ints, model, node, value, with};
use lmc::base::{Affine, Tensor};
use lmc::definition::{ValueId, parse, verify};
use lmc::import::Bindings;
use lmc::plan::{Interface, Lowered, Program, Step};
use lmc::sizes::single;
use lmc::target::resolve;
use tract_onnx::pb;

/// What the text's lowering is for a single entry of its first size. What no stage writes is an input, what none reads
/// is an output.
fn answer(text: &str) -> String {
    let lowering = parse(text).expect("a lowering");
    let written: Vec<ValueId> = lowering.stages.iter().flat_map(|s| s.writes()).collect();
    let read: Vec<ValueId> = lowering.stages.iter().flat_map(|s| s.reads()).collect();
    let shown = |v: ValueId| {
        let value = &lowering.values[v as usize];
        let counted = |form: &Affine| (0..lowering.sizes.len() as u32).find(|_| form.has_size());
        let symbolic = lowering.dims.get(&v).map(|dims| dims.iter().map(counted).collect());
        let interface = Interface {
            name: value.name.clone(),
            ty: value.ty.clone(),
            symbolic: symbolic.unwrap_or_default(),
        };
        (v, interface)
    };
    let given = |v: &ValueId| {
        let constant = lowering.values[*v as usize].constant.is_some();
        !constant && !lowering.sizes.iter().any(|s| s.value == *v)
    };
    let all = || 0..lowering.values.len() as ValueId;
    let inputs = all().filter(|v| given(v) && !written.contains(v)).map(shown).collect();
    let outputs = all().filter(|v| written.contains(v) && !read.contains(v)).map(shown).collect();
    let lowered = Lowered { lowering: lowering.clone(), inputs, outputs, visible: vec![0], entries: None };
    let made = single(lowered);
    verify(&made.lowering).unwrap_or_else(|e| panic!("{e}"));
    match made.entries {
        Some(_) => made.lowering.to_string(),
        None => "together\n".to_string(),
    }
}

#[test]
fn stages_of_a_single_entry() {
    check_folder("entries", answer);
}

/// Whether a program goes from entry to entry.
fn repeats(program: &Program) -> bool {
    matches!(program.steps.last(), Some(Step::Repeat { trip: Some(_), .. }))
}

/// The program for a batch, and the one for a single entry.
fn programs(proto: &pb::ModelProto, count: usize) -> [Program; 2] {
    let (model, target) = (decode(proto), resolve("native", "native").expect("a host"));
    let one = Bindings { dims: [("batch".to_string(), 1)].into(), ..Bindings::default() };
    [bounded(&[("batch", count)]), one].map(|b| built_as(&model, &b, &target).program)
}

fn padded(op: &str, inputs: &[&str], output: &str, kernel: i64, group: i64) -> pb::NodeProto {
    let mut made = node(op, inputs, output);
    made.attribute = vec![ints("kernel_shape", &[kernel, kernel]), ints("pads", &[kernel / 2; 4])];
    made.attribute.extend((op == "Conv").then(|| int("group", group)));
    made
}

/// An inverted residual with a squeezed branch, then a pool and a product.
fn network() -> pb::ModelProto {
    let nodes = vec![
        padded("Conv", &["x", "first"], "a", 3, 1),
        node("HardSwish", &["a"], "b"),
        padded("Conv", &["b", "expand"], "c", 1, 1),
        node("Relu", &["c"], "d"),
        padded("Conv", &["d", "filter"], "e", 3, 48),
        node("GlobalAveragePool", &["e"], "f"),
        padded("Conv", &["f", "squeeze"], "g", 1, 1),
        node("Sigmoid", &["g"], "h"),
        node("Mul", &["e", "h"], "i"),
        padded("Conv", &["i", "project"], "j", 1, 1),
        node("Add", &["j", "b"], "k"),
        padded("MaxPool", &["k"], "l", 3, 1),
        node("GlobalAveragePool", &["l"], "m"),
        node("Flatten", &["m"], "n"),
        node("MatMul", &["n", "dense"], "o"),
        node("Softmax", &["o"], "y"),
    ];
    let constants = [
        ("first", floats(&[16, 3, 3, 3], 1)),
        ("expand", floats(&[48, 16, 1, 1], 2)),
        ("filter", floats(&[48, 1, 3, 3], 3)),
        ("squeeze", floats(&[48, 48, 1, 1], 4)),
        ("project", floats(&[16, 48, 1, 1], 5)),
        ("dense", floats(&[16, 10], 6)),
    ];
    let mut proto = model(nodes, &[-2, 3, 14, 14], &[-2, 10], &constants);
    proto.opset_import[0].version = 14;
    proto
}

#[test]
fn networks_are_those_of_a_single_entry() {
    let proto = network();
    let cases: Vec<Vec<Tensor>> =
        [3, 1, 4, 2].iter().map(|&n| vec![floats(&[n, 3, 14, 14], n as u64)]).collect();
    check(&proto, &[("batch", 4)], &cases);
    let [all, one] = programs(&proto, 4);
    assert!(repeats(&all) && all.arena_bytes == one.arena_bytes && all.macs == 4 * one.macs);
    // One more compares the sizes.
    assert_eq!(all.kernels.len(), one.kernels.len() + 1);
}

/// Attention within each entry, an input and an output that have no entries, and one that is the sum of two.
#[test]
fn tensors_without_entries_stay_where_they_are() {
    let turned = with(node("Transpose", &["k"], "t"), [ints("perm", &[0, 2, 1])]);
    let nodes = vec![
        node("Add", &["x", "places"], "a"),
        node("MatMul", &["a", "wq"], "q"),
        node("MatMul", &["a", "wk"], "k"),
        turned,
        node("MatMul", &["q", "t"], "s"),
        node("Softmax", &["s"], "p"),
        node("MatMul", &["p", "a"], "y"),
        node("Relu", &["places"], "z"),
    ];
    let constants = [("wq", floats(&[24, 16], 1)), ("wk", floats(&[24, 16], 2))];
    let mut proto = model(nodes, &[-2, 30, 24], &[-2, 30, 24], &constants);
    if let Some(graph) = &mut proto.graph {
        graph.input.push(value("places", 1, &[30, 24]));
        graph.output.push(value("z", 1, &[30, 24]));
    }
    let case = |n: usize| vec![floats(&[n, 30, 24], n as u64), floats(&[30, 24], 9)];
    check(&proto, &[("batch", 5)], &[case(1), case(4), case(5), case(3)]);
    assert!(repeats(&programs(&proto, 5)[0]));
}

/// A loop over time within each entry's sequence, where time comes second.
#[test]
fn loops_run_within_an_entry() {
    let turned = with(node("Transpose", &["x"], "steps"), [ints("perm", &[1, 0, 2])]);
    let mut cell = with(node("GRU", &["steps", "w", "r"], "all"), [int("hidden_size", 4)]);
    cell.output.push("last".to_string());
    let mut wide = node("MatMul", &["x", "square"], "wide");
    wide.name = "wide".into();
    let mut last = node("Squeeze", &["last", "zero"], "y");
    last.name = "the last".into();
    let nodes = vec![turned, cell, last, wide, node("Tanh", &["wide"], "z")];
    let constants = [
        ("w", floats(&[1, 12, 32], 1)),
        ("r", floats(&[1, 12, 4], 2)),
        ("square", floats(&[32, 32], 3)),
        ("zero", Tensor::new([1], &[0i64])),
    ];
    let mut proto = model(nodes, &[-2, 40, 32], &[-2, 4], &constants);
    if let Some(graph) = &mut proto.graph {
        graph.output.push(value("z", 1, &[-2, 40, 32]));
    }
    let cases: Vec<Vec<Tensor>> = [2, 1, 3].iter().map(|&n| vec![floats(&[n, 40, 32], n as u64)]).collect();
    check(&proto, &[("batch", 3)], &cases);
    let [all, one] = programs(&proto, 3);
    assert!(repeats(&all));
    // Each step of the loop multiplies the state.
    assert_eq!(one.macs, 40 * (12 * 32 + 12 * 4 + 32 * 32));
}

/// What reads other entries, or counts them, is a matter of the whole batch.
#[test]
fn entries_that_are_mixed_are_computed_together() {
    let mean = with(node("ReduceMean", &["a"], "y"), [ints("axes", &[0])]);
    let mut sums = node("CumSum", &["a", "zero"], "y");
    sums.name = "sums".into();
    let first = with(node("Gather", &["a", "zero"], "y"), [int("axis", 0)]);
    let mut ends: [pb::NodeProto; 5] = [
        mean,
        sums,
        first,
        node("Slice", &["a", "last", "before", "zeros", "back"], "y"),
        node("Flatten", &["a"], "y"),
    ];
    ends[4].attribute.push(int("axis", 0));
    for end in ends {
        let (reversed, op) = (end.op_type == "Slice", end.op_type.clone());
        let constants = [
            ("w", floats(&[24, 24], 1)),
            ("zero", Tensor::scalar(0i64)),
            ("zeros", Tensor::new([1], &[0i64])),
            ("last", Tensor::new([1], &[-1i64])),
            ("before", Tensor::new([1], &[i64::MIN])),
            ("back", Tensor::new([1], &[-1i64])),
        ];
        let mut proto = model(vec![node("MatMul", &["x", "w"], "a"), end], &[-2, 40, 24], &[-2], &constants);
        if let Some(output) = proto.graph.as_mut().and_then(|g| g.output.first_mut()) {
            *output = pb::ValueInfoProto { name: "y".into(), ..Default::default() };
        }
        let sizes: &[usize] = if reversed { &[2, 3] } else { &[2, 1, 3] };
        let cases: Vec<Vec<Tensor>> = sizes.iter().map(|&n| vec![floats(&[n, 40, 24], n as u64)]).collect();
        check(&proto, &[("batch", 3)], &cases);
        assert!(!repeats(&programs(&proto, 3)[0]), "{op}");
    }
}

/// Weights that serve one point of an entry are read once for the batch; so is what takes no time at all.
#[test]
fn entries_share_the_weights_of_dense_layers() {
    let nodes =
        vec![node("MatMul", &["x", "w"], "a"), node("Relu", &["a"], "b"), node("MatMul", &["b", "v"], "y")];
    let constants = [("w", floats(&[128, 256], 1)), ("v", floats(&[256, 64], 2))];
    let dense = model(nodes, &[-2, 128], &[-2, 64], &constants);
    let small = model(vec![node("Sigmoid", &["x"], "y")], &[-2, 8], &[-2, 8], &[]);
    for (proto, width) in [(dense, 128), (small, 8)] {
        let cases: Vec<Vec<Tensor>> = [1, 6].iter().map(|&n| vec![floats(&[n, width], n as u64)]).collect();
        check(&proto, &[("batch", 6)], &cases);
        assert!(!repeats(&programs(&proto, 6)[0]));
    }
}

/// Whether a program is a loop over three entries.
fn repeats_thrice(program: &Program) -> bool {
    matches!(program.steps.as_slice(), [Step::Repeat { count: 3, trip: None, .. }])
}

/// In batches of fixed size short sequences share what is read of large weights, long ones do not.
#[test]
fn entries_of_few_points_share_large_weights() {
    let weights = [("w", floats(&[96, 384], 1))];
    let target = resolve("native", "native").expect("a host");
    for (length, apart) in [(8, false), (64, true)] {
        let nodes = vec![node("MatMul", &["x", "w"], "y")];
        let proto = model(nodes, &[3, length, 96], &[3, length, 384], &weights);
        check_as(&proto, &Bindings::default(), &[vec![floats(&[3, length as usize, 96], 2)]]);
        let program = built_as(&decode(&proto), &Bindings::default(), &target).program;
        assert_eq!(repeats_thrice(&program), apart, "{length}");
    }
}

/// A batch of fixed size, in the file or by an option, is computed in the memory of a single entry as well, where its
/// entries are apart; no size is left.
#[test]
fn fixed_batches_are_computed_entry_by_entry() {
    let fixed =
        |count: usize| Bindings { dims: [("batch".to_string(), count)].into(), ..Bindings::default() };
    let mixed = |mut proto: pb::ModelProto| {
        if let Some(graph) = &mut proto.graph {
            graph.node.push(with(node("ReduceMean", &["y"], "mean"), [ints("axes", &[0])]));
            graph.output = vec![value("y", 1, &[-2, 10]), value("mean", 1, &[1, 10])];
        }
        proto
    };
    let mut stated = network();
    if let Some(graph) = &mut stated.graph {
        graph.input[0] = value("x", 1, &[3, 3, 14, 14]);
    }
    let target = resolve("native", "native").expect("a host");
    let one = built_as(&decode(&network()), &fixed(1), &target).program;
    for (proto, bindings, apart) in [
        (network(), fixed(3), true),
        (stated, Bindings::default(), true),
        (mixed(network()), fixed(3), false),
    ] {
        check_as(&proto, &bindings, &[vec![floats(&[3, 3, 14, 14], 7)]]);
        let all = built_as(&decode(&proto), &bindings, &target).program;
        assert!(repeats_thrice(&all) == apart && all.symbols.is_empty());
        assert_eq!(all.arena_bytes == one.arena_bytes, apart);
    }
}

/// Another dimension left to run time, and numbers of entries that begin above 1.
#[test]
fn entries_of_any_length() {
    let proto = {
        let nodes = vec![node("MatMul", &["x", "w"], "a"), node("Softmax", &["a"], "y")];
        model(nodes, &[-2, -1, 32], &[-2, -1, 32], &[("w", floats(&[32, 32], 1))])
    };
    let cases: Vec<Vec<Tensor>> =
        [(2, 40), (1, 7), (3, 1)].iter().map(|&(n, l)| vec![floats(&[n, l, 32], 3)]).collect();
    check(&proto, &[("batch", 3), ("length", 40)], &cases);
    let fixed = Bindings { dims: [("length".to_string(), 40)].into(), ..bounded(&[("batch", 3)]) };
    let cases: Vec<Vec<Tensor>> = [3, 1].iter().map(|&n| vec![floats(&[n, 40, 32], 3)]).collect();
    check_as(&proto, &fixed, &cases);
    let built = built(&decode(&network()), &[("batch", 7)], &resolve("aarch64", "generic").expect("known"));
    assert!(repeats(&built.program));
}
