//! Dimensions left to run time that may be 0, too: a cache that is empty at first, a sequence without steps.

use crate::sizes::{bounded, built_as, check_as, decode, floats};
use crate::support::onnx::{int, ints, model, node, text, value, with};
use lmc::base::Tensor;
use lmc::build::{Build, Silent};
use lmc::import::Bindings;
use lmc::target::resolve;
use tract_onnx::pb;

fn from_zero(bounds: &[(&str, usize)], empty: &[&str]) -> Bindings {
    Bindings { empty: empty.iter().map(|name| name.to_string()).collect(), ..bounded(bounds) }
}

/// A step of attention over what is cached, in 'batch' rows, and new rows.
fn step() -> pb::ModelProto {
    let nodes = vec![
        with(node("Concat", &["past", "x"], "present"), [int("axis", 1)]),
        with(node("Transpose", &["present"], "t"), [ints("perm", &[0, 2, 1])]),
        node("MatMul", &["x", "t"], "scores"),
        node("Softmax", &["scores"], "p"),
        node("MatMul", &["p", "present"], "a"),
        node("Shape", &["past"], "shape"),
        node("Gather", &["shape", "second"], "count"),
        with(node("Cast", &["count"], "position"), [int("to", 1)]),
        node("Add", &["a", "position"], "y"),
    ];
    let mut proto = model(nodes, &[2, -1, 8], &[2, -1, 8], &[("second", Tensor::new([1], &[1i64]))]);
    let graph = proto.graph.as_mut().expect("a graph");
    graph.input.push(value("past", 1, &[2, -2, 8]));
    graph.output.push(value("present", 1, &[2, -1, 8]));
    proto
}

#[test]
fn a_cache_that_is_empty_at_first() {
    let sizes = [(5, 7), (1, 0), (5, 0), (3, 0), (1, 7), (2, 1), (4, 3), (1, 1)];
    let cases: Vec<Vec<Tensor>> =
        sizes.iter().map(|&(new, past)| vec![floats(&[2, new, 8], 7), floats(&[2, past, 8], 5)]).collect();
    let bindings = from_zero(&[("batch", 7), ("length", 5)], &["batch"]);
    check_as(&step(), &bindings, &cases);
    let target = resolve("x86_64", "generic").expect("known");
    let symbols = built_as(&decode(&step()), &bindings, &target).program.symbols;
    let least: Vec<_> = symbols.iter().filter_map(|s| Some((s.name.as_deref()?, s.least))).collect();
    assert_eq!(least, [("batch", 0), ("length", 1)]);
}

/// Loops that do not run, sums of nothing, and a batch of nothing.
#[test]
fn nothing_is_computed_of_nothing() {
    let gru = with(
        node("GRU", &["x", "w", "r"], "all"),
        [int("hidden_size", 3), text("direction", "bidirectional")],
    );
    let mut recurrent = gru;
    recurrent.output.push("y".into());
    let constants = [("w", floats(&[2, 9, 4], 1)), ("r", floats(&[2, 9, 3], 2))];
    let proto = model(vec![recurrent], &[-1, 1, 4], &[2, 1, 3], &constants);
    let rows = |shape: fn(usize) -> Vec<usize>| -> Vec<Vec<Tensor>> {
        [6, 0, 1, 4].iter().map(|&n| vec![floats(&shape(n), 5)]).collect()
    };
    let bindings = from_zero(&[("length", 6)], &["length"]);
    check_as(&proto, &bindings, &rows(|n| vec![n, 1, 4]));

    let summed = vec![node("MatMul", &["x", "w"], "rows"), node("ReduceSum", &["rows", "first"], "y")];
    let constants = [("w", floats(&[8, 16], 1)), ("first", Tensor::new([1], &[0i64]))];
    check_as(&model(summed, &[-1, 8], &[1, 16], &constants), &bindings, &rows(|n| vec![n, 8]));

    let net = vec![node("Conv", &["x", "w"], "c"), node("Relu", &["c"], "y")];
    let proto = model(net, &[-1, 4, 6, 6], &[-1, 8, 4, 4], &[("w", floats(&[8, 4, 3, 3], 1))]);
    check_as(&proto, &bindings, &rows(|n| vec![n, 4, 6, 6]));
}

/// Where 0 is another case than any other size, that is said, and nothing is computed wrongly.
#[test]
fn a_number_that_is_another_where_nothing_is_there() {
    let nodes = vec![
        node("Shape", &["x"], "shape"),
        node("Gather", &["shape", "zero"], "length"),
        node("Max", &["length", "one"], "divisor"),
        with(node("Cast", &["divisor"], "float"), [int("to", 1)]),
        node("ReduceSum", &["x", "zero"], "sum"),
        node("Div", &["sum", "float"], "y"),
    ];
    let constants = [("zero", Tensor::new([1], &[0i64])), ("one", Tensor::new([1], &[1i64]))];
    let decoded = decode(&model(nodes, &[-1, 3], &[1, 3], &constants));
    let target = resolve("x86_64", "generic").expect("known");
    let build = |build: Build| build.build_model(&decoded, target.clone(), "m", &Silent);
    assert!(build(Build::new("m.onnx").dim_up_to("length", 6)).is_ok());
    let refused = build(Build::new("m.onnx").dim_from_zero("length", 6)).err().expect("refused").to_string();
    assert!(refused.contains("dimension 'length' cannot be 0 at run time"), "{refused}");
    assert!(refused.contains("--dim length=0"), "{refused}");
}

/// Data of no rows are taken where the options say so.
#[test]
fn shapes_of_nothing_need_an_option() {
    let decoded = decode(&step());
    let mut bindings = from_zero(&[("batch", 7), ("length", 5)], &[]);
    bindings.shapes.insert("past".into(), vec![2, 0, 8]);
    let refused = bindings.resolve(&decoded.body).expect_err("refused").to_string();
    assert!(refused.contains("--dim '0<=batch<=7'"), "{refused}");
    bindings.empty.insert("batch".into());
    assert!(bindings.resolve(&decoded.body).is_ok());
}
