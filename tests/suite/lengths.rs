//! Loops over a length known only at run time, lengths that depend on one another, and lengths for which
//! a model is not defined.

use crate::sizes::{agree, built, check, decode, floats, naive};
use crate::support::onnx::{self, int, ints, model, node, text, value, with};
use lmc::base::{Tensor, abi};
use lmc::run::executor::Executor;
use lmc::run::load::Loaded;
use lmc::target::resolve;
use tract_onnx::pb;

pub fn lengths(of: &[usize], shape: impl Fn(usize) -> Vec<usize>) -> Vec<Vec<Tensor>> {
    of.iter().map(|&n| vec![floats(&shape(n), 5)]).collect()
}

/// The loop goes forwards over turned copies, since its first step is no place known beforehand.
#[test]
fn recurrences_in_both_directions() {
    let gru =
        with(node("GRU", &["x", "w", "r"], "y"), [int("hidden_size", 3), text("direction", "bidirectional")]);
    let constants = [("w", floats(&[2, 9, 4], 1)), ("r", floats(&[2, 9, 3], 2))];
    let proto = model(vec![gru], &[-1, 1, 4], &[-1, 2, 1, 3], &constants);
    check(&proto, &[("length", 9)], &lengths(&[9, 1, 4, 8], |n| vec![n, 1, 4]));
}

pub fn body(attribute: &mut pb::NodeProto, nodes: Vec<pb::NodeProto>, io: (&[(&str, i32)], &[(&str, i32)])) {
    let list = |of: &[(&str, i32)]| -> Vec<pb::ValueInfoProto> {
        of.iter().map(|&(name, kind)| value(name, kind, if kind == 1 { &[1, 3] } else { &[] })).collect()
    };
    let graph = pb::GraphProto {
        name: "body".into(),
        node: nodes,
        input: list(io.0),
        output: list(io.1),
        ..Default::default()
    };
    attribute.attribute.push(pb::AttributeProto {
        name: "body".into(),
        g: Some(graph),
        r#type: pb::attribute_proto::AttributeType::Graph as i32,
        ..Default::default()
    });
}

/// The state and what is seen of each step; the Scan sees them backwards.
#[test]
fn loops_as_long_as_their_input() {
    let step = || vec![node("Add", &["s", "e"], "sum"), node("Tanh", &["sum"], "next")];
    let mut scan = node("Scan", &["s0", "x"], "last");
    scan.output.push("y".into());
    scan.attribute.extend([int("num_scan_inputs", 1), ints("scan_input_directions", &[1])]);
    scan.attribute.push(ints("scan_output_directions", &[1]));
    let mut nodes = step();
    nodes.push(node("Identity", &["next"], "seen"));
    body(&mut scan, nodes, (&[("s", 1), ("e", 1)], &[("next", 1), ("seen", 1)]));
    let start = [("s0", floats(&[1, 3], 4))];
    let proto = model(vec![scan], &[-1, 1, 3], &[-1, 1, 3], &start);
    check(&proto, &[("length", 7)], &lengths(&[7, 1, 4], |n| vec![n, 1, 3]));

    let mut repeated = node("Loop", &["count", "", "s0"], "last");
    repeated.output.push("y".into());
    let mut nodes = vec![node("Gather", &["x", "i"], "e")];
    nodes.extend(step());
    nodes.extend([node("Identity", &["next"], "seen"), node("Identity", &["go"], "on")]);
    let io: (&[(&str, i32)], &[(&str, i32)]) =
        (&[("i", 7), ("go", 9), ("s", 1)], &[("on", 9), ("next", 1), ("seen", 1)]);
    body(&mut repeated, nodes, io);
    let nodes = vec![node("Shape", &["x"], "shape"), node("Gather", &["shape", "first"], "count"), repeated];
    let constants = [("s0", floats(&[1, 3], 4)), ("first", Tensor::scalar(0i64))];
    let proto = model(nodes, &[-1, 1, 3], &[-1, 1, 3], &constants);
    check(&proto, &[("length", 7)], &lengths(&[7, 1, 4], |n| vec![n, 1, 3]));
}

#[test]
fn running_sums_and_the_best_of_any_length() {
    let back = with(node("CumSum", &["x", "axis"], "y"), [int("reverse", 1)]);
    let axis = [("axis", Tensor::scalar(1i64))];
    check(
        &model(vec![back], &[1, -1], &[1, -1], &axis),
        &[("length", 12)],
        &lengths(&[12, 1, 5], |n| vec![1, n]),
    );

    // As many as there are, but at most seven.
    let mut column = node("Slice", &["shape", "one", "two"], "there");
    column.name = "the column".into();
    let joined = with(node("Concat", &["there", "seven"], "both"), [int("axis", 0)]);
    let fewest = with(node("ReduceMin", &["both"], "count"), [ints("axes", &[0])]);
    let mut best = node("TopK", &["x", "count"], "y");
    best.output.push("places".into());
    let nodes = vec![node("Shape", &["x"], "shape"), column, joined, fewest, best];
    let list = |v: i64| Tensor::new([1], &[v]);
    let constants = [("one", list(1)), ("two", list(2)), ("seven", list(7))];
    let proto = model(nodes, &[1, -1], &[1, -1], &constants);
    check(&proto, &[("length", 12)], &lengths(&[12, 7, 3, 8, 1], |n| vec![1, n]));
}

/// The best two along a dimension between others: of two there are no more to look at.
#[test]
fn the_best_along_a_dimension_between_others() {
    let mut best = with(node("TopK", &["x", "two"], "best"), [int("axis", 1)]);
    best.output.push("places".into());
    let places = with(node("Cast", &["places"], "where"), [int("to", 1)]);
    let nodes = vec![best, places, node("Add", &["best", "where"], "y")];
    let cases: Vec<Vec<Tensor>> =
        [(3, 9), (2, 2), (3, 5), (1, 3)].iter().map(|&(b, n)| vec![floats(&[b, n, 4], 5)]).collect();
    let proto = model(nodes, &[-2, -1, 4], &[-2, 2, 4], &[("two", Tensor::new([1], &[2i64]))]);
    check(&proto, &[("batch", 3), ("length", 9)], &cases);
}

/// Names a dimension of an input.
pub fn name_dim(value: &mut pb::ValueInfoProto, axis: usize, name: &str) {
    let kind = value.r#type.as_mut().and_then(|t| t.value.as_mut());
    if let Some(pb::type_proto::Value::TensorType(tensor)) = kind
        && let Some(dim) = tensor.shape.as_mut().and_then(|s| s.dim.get_mut(axis))
    {
        dim.value = Some(pb::tensor_shape_proto::dimension::Value::DimParam(name.into()));
    }
}

/// A mask over what was there before and one more: its length is named as a sum.
#[test]
fn a_length_that_is_the_sum_of_another_and_one() {
    let joined = with(node("Concat", &["x", "more"], "all"), [int("axis", 1)]);
    let nodes = vec![joined, node("Add", &["all", "mask"], "y")];
    let mut proto = model(nodes, &[1, -1], &[1, -1], &[("more", floats(&[1, 1], 3))]);
    let mut mask = value("mask", 1, &[1, -1]);
    name_dim(&mut mask, 1, "length + 1");
    proto.graph.as_mut().expect("a graph").input.push(mask);
    let cases: Vec<Vec<Tensor>> =
        [6, 1, 4].iter().map(|&n| vec![floats(&[1, n], 1), floats(&[1, n + 1], 2)]).collect();
    check(&proto, &[("length", 6)], &cases);

    let target = resolve("native", "generic").expect("a host");
    let built = built(&decode(&proto), &[("length", 6)], &target);
    let loaded = Loaded::load(&built.object.bytes, "m").expect("it loads");
    let inputs = [vec![0u8; 6 * 4], vec![0u8; 7 * 4]];
    let inputs: Vec<&[u8]> = inputs.iter().map(Vec::as_slice).collect();
    let status = |sizes: &mut [i64]| loaded.run(&inputs, sizes, &mut Vec::new()).expect("it runs");
    assert_eq!(status(&mut [3, 4]), abi::OK);
    assert_eq!(status(&mut [3, 3]), abi::ERR_SYMBOL);
    assert_eq!(status(&mut [6, 8]), abi::ERR_SYMBOL);
}

/// A window that is larger than the smallest sizes: those are refused at run time.
#[test]
fn a_model_that_is_not_defined_for_small_sizes() {
    let conv = with(node("Conv", &["x", "w"], "y"), [ints("strides", &[2])]);
    let proto = model(vec![conv], &[1, 3, -1], &[1, 4, -1], &[("w", floats(&[4, 3, 7], 3))]);
    check(&proto, &[("length", 40)], &lengths(&[40, 7, 8, 23], |n| vec![1, 3, n]));
    let target = resolve("native", "generic").expect("a host");
    let built = built(&decode(&proto), &[("length", 40)], &target);
    assert!(built.notes.iter().any(|n| n.contains("'length' must be 7 at least")), "{:?}", built.notes);
    let loaded = Loaded::load(&built.object.bytes, "m").expect("it loads");
    let input = vec![0u8; 3 * 40 * 4];
    let status = |n: i64| {
        let mut symbols = vec![n; built.program.symbols.len()];
        loaded.run(&[&input], &mut symbols, &mut Vec::new()).expect("it runs")
    };
    assert_eq!((status(7), status(6)), (abi::OK, abi::ERR_SYMBOL));
}

/// A size that is halved and doubled again must be even: the step between sizes is found, with the rest that the
/// bound has; others are refused at run time.
#[test]
fn a_model_that_is_defined_at_steps() {
    let pool =
        with(node("MaxPool", &["x"], "half"), [ints("kernel_shape", &[2, 2]), ints("strides", &[2, 2])]);
    let up = with(node("ConvTranspose", &["half", "w"], "back"), [ints("strides", &[2, 2])]);
    let nodes = vec![pool, up, node("Add", &["x", "back"], "y")];
    let weights = floats(&[3, 3, 2, 2], 3);
    let mut proto = model(nodes, &[1, 3, -1, -1], &[1, 3, -1, -1], &[("w", weights)]);
    let input = proto.graph.as_mut().expect("a graph").input.first_mut().expect("an input");
    for (axis, name) in [(2, "height"), (3, "width")] {
        name_dim(input, axis, name);
    }
    let cases = [[12, 16], [2, 2], [6, 4], [12, 2]].map(|[h, w]| vec![floats(&[1, 3, h, w], 1)]);
    let bounds = [("height", 12), ("width", 16)];
    check(&proto, &bounds, &cases);
    let target = resolve("native", "generic").expect("a host");
    let built = built(&decode(&proto), &bounds, &target);
    for name in ["height", "width"] {
        let note = format!("dimension '{name}' is taken in steps of 2");
        assert!(built.notes.iter().any(|n| n.contains(&note)), "{:?}", built.notes);
    }
    let loaded = Loaded::load(&built.object.bytes, "m").expect("it loads");
    let input = vec![0u8; 3 * 12 * 16 * 4];
    let status = |h: i64, w: i64| loaded.run(&[&input], &mut [h, w], &mut Vec::new()).expect("it runs");
    assert_eq!((status(6, 8), status(6, 7), status(5, 8)), (abi::OK, abi::ERR_SYMBOL, abi::ERR_SYMBOL));
}

/// What is halved three times may end at a single point.
#[test]
fn a_model_that_halves_to_one() {
    let pool = |from: &str, to: &str| {
        with(node("MaxPool", &[from], to), [ints("kernel_shape", &[2, 2]), ints("strides", &[2, 2])])
    };
    let up = |from: &str, to: &str| with(node("Resize", &[from, "", "twice"], to), [text("mode", "nearest")]);
    let nodes = vec![
        pool("x", "a"),
        pool("a", "b"),
        pool("b", "c"),
        up("c", "d"),
        node("Add", &["d", "b"], "e"),
        up("e", "f"),
        node("Add", &["f", "a"], "g"),
        up("g", "h"),
        node("Add", &["h", "x"], "y"),
    ];
    let twice = Tensor::new([4], &[1f32, 1.0, 2.0, 2.0]);
    let mut proto = model(nodes, &[1, 3, -1, -1], &[1, 3, -1, -1], &[("twice", twice)]);
    let input = proto.graph.as_mut().expect("a graph").input.first_mut().expect("an input");
    for (axis, name) in [(2, "height"), (3, "width")] {
        name_dim(input, axis, name);
    }
    let cases = [[40, 64], [8, 8], [8, 24], [32, 8], [16, 40]].map(|[h, w]| vec![floats(&[1, 3, h, w], 1)]);
    check(&proto, &[("height", 40), ("width", 64)], &cases);
}

/// Where the maxima of windows lie in the whole input, whose outer sizes are free.
#[test]
fn positions_of_maxima_in_an_input_of_any_size() {
    let mut pool = node("MaxPool", &["x"], "largest");
    pool.output.push("at".into());
    pool.attribute.extend([ints("kernel_shape", &[2, 2]), ints("strides", &[2, 2])]);
    let cast = with(node("Cast", &["at"], "y"), [int("to", 1)]);
    let proto = model(vec![pool, cast], &[-2, 3, -1, 6], &[-2, 3, -1, 3], &[]);
    let cases = [[2, 8], [1, 4], [2, 3]].map(|[b, h]| vec![floats(&[b, 3, h, 6], 1)]);
    check(&proto, &[("batch", 2), ("length", 8)], &cases);
}

/// An If that adds 10 where what counts the elements of `of` is more than a limit, else 20.
fn more_than(of: &str, limit: i64, first: Vec<pb::NodeProto>) -> pb::ModelProto {
    let branch = |name: &str, number: &str, y: &str| {
        let output = vec![value(y, 1, &[-1])];
        let nodes = vec![node("Add", &["x", number], y)];
        let graph = pb::GraphProto { name: name.into(), node: nodes, output, ..Default::default() };
        onnx::body(name, graph)
    };
    let choice = with(
        node("If", &["more"], "y"),
        [branch("then_branch", "ten", "a"), branch("else_branch", "twenty", "b")],
    );
    let nodes = [node("Size", &[of], "count"), node("Greater", &["count", "limit"], "more"), choice];
    let nodes = first.into_iter().chain(nodes).collect();
    let constants =
        [("limit", Tensor::scalar(limit)), ("ten", Tensor::scalar(10f32)), ("twenty", Tensor::scalar(20f32))];
    model(nodes, &[-1], &[-1], &constants)
}

/// In an If in a Scan: whether there are several steps, computed in the body, and the sum of positions divided by the
/// length, which are computed outside.
#[test]
fn what_depends_on_lengths_is_computed_within_bodies() {
    let branch = |name: &str, nodes: Vec<pb::NodeProto>, y: &str| {
        let output = vec![value(y, 1, &[1, 3])];
        onnx::body(name, pb::GraphProto { name: name.into(), node: nodes, output, ..Default::default() })
    };
    let several = vec![
        with(node("ReduceSum", &["positions"], "sum"), [int("keepdims", 0)]),
        node("Mul", &["e", "sum"], "far"),
        node("Add", &["far", "s"], "several"),
    ];
    let one = vec![node("Sub", &["e", "s"], "one")];
    let inner = vec![
        node("Shape", &["x"], "shape"),
        node("Slice", &["shape", "0", "1"], "length"),
        node("Greater", &["length", "1"], "many"),
        with(
            node("If", &["many"], "next"),
            [branch("then_branch", several, "several"), branch("else_branch", one, "one")],
        ),
        node("Identity", &["next"], "seen"),
    ];
    let mut scan = with(node("Scan", &["s0", "x"], "last"), [int("num_scan_inputs", 1)]);
    scan.output.push("y".into());
    body(&mut scan, inner, (&[("s", 1), ("e", 1)], &[("next", 1), ("seen", 1)]));
    let nodes = vec![
        node("Shape", &["x"], "sizes"),
        node("Gather", &["sizes", "first"], "n"),
        node("Range", &["first", "n", "step"], "list"),
        with(node("Cast", &["list"], "from"), [int("to", 1)]),
        with(node("Cast", &["n"], "of"), [int("to", 1)]),
        node("Div", &["from", "of"], "positions"),
        scan,
    ];
    let constants = [
        ("first", Tensor::scalar(0i64)),
        ("step", Tensor::scalar(1i64)),
        ("0", Tensor::new([1], &[0i64])),
        ("1", Tensor::new([1], &[1i64])),
        ("s0", floats(&[1, 3], 4)),
    ];
    let proto = model(nodes, &[-1, 1, 3], &[-1, 1, 3], &constants);
    check(&proto, &[("length", 7)], &lengths(&[7, 1, 4, 2], |n| vec![n, 1, 3]));
}

/// No sample has a size of 1, and none has nothing where data decide: a condition that tells these from other sizes
/// is computed at run time.
#[test]
fn conditions_on_one_and_on_nothing() {
    let proto = more_than("x", 1, Vec::new());
    let cases: Vec<Vec<Tensor>> = [5, 1, 2].iter().map(|&n| vec![floats(&[n], 1)]).collect();
    check(&proto, &[("length", 5)], &cases);
    for (limit, counts) in [(0, [4usize, 0, 1, 2]), (1, [4, 1, 0, 2])] {
        let proto = more_than("found", limit, vec![node("NonZero", &["x"], "found")]);
        let cases = counts.map(|count| (0..4).map(|i| f32::from(u8::from(i < count))).collect::<Vec<f32>>());
        let model = decode(&proto);
        for (arch, cpu) in [("native", "native"), ("aarch64", "generic")] {
            let target = resolve(arch, cpu).expect("known");
            let built = built(&model, &[("length", 4)], &target);
            let mut executor =
                Executor::new(&built.program, &built.object.bytes, &target, None).expect("it runs");
            for (x, count) in cases.iter().zip(counts) {
                let added = if count as i64 > limit { 10.0 } else { 20.0 };
                let want: Vec<f32> = x.iter().map(|x| x + added).collect();
                let got = executor.run(&[Tensor::new([4], x)]).expect("a result");
                agree(&got, &[Tensor::new([4], &want)], &format!("{arch}, {count} found"));
            }
        }
    }
}

/// Numbers made of a size that are the same for all sizes but 1, or for all counts but 0 and 1, are computed too.
#[test]
fn numbers_that_differ_for_one_and_for_nothing() {
    let number = |of: &str, first: Vec<pb::NodeProto>| {
        let least = with(node("Cast", &["least"], "float"), [int("to", 1)]);
        let nodes = [
            node("Size", &[of], "count"),
            node("Min", &["count", "two"], "least"),
            least,
            node("Equal", &["count", "one"], "single"),
            node("Where", &["single", "ten", "twenty"], "chosen"),
            node("Add", &["x", "float"], "more"),
            node("Add", &["more", "chosen"], "y"),
        ];
        let constants = [
            ("one", Tensor::scalar(1i64)),
            ("two", Tensor::scalar(2i64)),
            ("ten", Tensor::scalar(10f32)),
            ("twenty", Tensor::scalar(20f32)),
        ];
        model(first.into_iter().chain(nodes).collect(), &[-1], &[-1], &constants)
    };
    let cases: Vec<Vec<Tensor>> = [5, 1, 2, 3].iter().map(|&n| vec![floats(&[n], 1)]).collect();
    check(&number("x", Vec::new()), &[("length", 5)], &cases);
    let model = decode(&number("found", vec![node("NonZero", &["x"], "found")]));
    let target = resolve("native", "native").expect("a host");
    let built = built(&model, &[("length", 4)], &target);
    let mut executor = Executor::new(&built.program, &built.object.bytes, &target, None).expect("it runs");
    for count in [4usize, 0, 1, 2] {
        let x: Vec<f32> = (0..4).map(|i| f32::from(u8::from(i < count))).collect();
        let added = count.min(2) as f32 + if count == 1 { 10.0 } else { 20.0 };
        let want: Vec<f32> = x.iter().map(|x| x + added).collect();
        let got = executor.run(&[Tensor::new([4], &x)]).expect("a result");
        agree(&got, &[Tensor::new([4], &want)], &format!("{count} found"));
    }
}

/// Numbers that are the length in all samples, but not where it is 1: that length is refused, not computed wrongly.
/// What is limited from above is right at each length.
#[test]
fn numbers_that_differ_at_a_length_of_one() {
    for (op, number, smallest) in [("Max", 2i64, 2), ("Min", 5, 1)] {
        let float = with(node("Cast", &["limited"], "factor"), [int("to", 1)]);
        let row = with(node("ReduceSum", &["x", "first"], "row"), [int("keepdims", 1)]);
        let limited = || {
            vec![
                node("Shape", &["x"], "shape"),
                node("Gather", &["shape", "zero"], "length"),
                node(op, &["length", "number"], "limited"),
            ]
        };
        let shown = [limited(), vec![float, node("Mul", &["x", "factor"], "y")]].concat();
        let count = node("Concat", &["limited", "one"], "counts");
        let repeated = [limited(), vec![row, count, node("Tile", &["row", "counts"], "y")]].concat();
        let constants = [
            ("zero", Tensor::new([1], &[0i64])),
            ("one", Tensor::new([1], &[1i64])),
            ("first", Tensor::new([1], &[0i64])),
            ("number", Tensor::new([1], &[number])),
        ];
        let mut repeated = repeated;
        repeated.iter_mut().filter(|n| n.op_type == "Concat").for_each(|n| n.attribute.push(int("axis", 0)));
        for nodes in [shown, repeated] {
            let proto = model(nodes, &[-1, 3], &[-1, 3], &constants);
            let model = decode(&proto);
            let target = resolve("native", "native").expect("known");
            let built = built(&model, &[("length", 6)], &target);
            let noted = built.notes.iter().any(|n| n.contains("'length' must be 2 at least"));
            assert_eq!(noted, smallest == 2, "{op}: {:?}", built.notes);
            let mut executor =
                Executor::new(&built.program, &built.object.bytes, &target, None).expect("it runs");
            for length in 1..=6 {
                let input = [floats(&[length, 3], 7)];
                match executor.run(&input) {
                    Ok(got) => agree(&got, &naive(&model, &input), &format!("{op}, length {length}")),
                    Err(e) => assert!(length < smallest, "{op}, length {length}: {e}"),
                }
            }
        }
    }
}

/// A number that leads to no result may be whatever it is at a length of one.
#[test]
fn numbers_that_nobody_reads_do_not_matter() {
    let nodes = vec![
        node("Shape", &["x"], "shape"),
        node("Gather", &["shape", "zero"], "length"),
        node("Max", &["length", "number"], "limited"),
        node("Add", &["limited", "number"], "unread"),
        node("Add", &["x", "x"], "y"),
    ];
    let constants = [("zero", Tensor::new([1], &[0i64])), ("number", Tensor::new([1], &[2i64]))];
    let proto = model(nodes, &[-1, 3], &[-1, 3], &constants);
    let target = resolve("native", "native").expect("known");
    let built = built(&decode(&proto), &[("length", 6)], &target);
    assert!(!built.notes.iter().any(|n| n.contains("at least")), "{:?}", built.notes);
    let cases: Vec<Vec<Tensor>> = (1..=6).map(|n| vec![floats(&[n, 3], 7)]).collect();
    check(&proto, &[("length", 6)], &cases);
}

/// Half floats on a processor that computes in floats of 32 bits: what lanes share is copied to these up to the size, as
/// it is where that is known. Sums of small integers are exact.
#[test]
fn products_of_half_floats_read_copies() {
    let cast = |from: &str, to: &str, dtype: i64| with(node("Cast", &[from], to), [int("to", dtype)]);
    let nodes = vec![
        node("Round", &["x"], "r"),
        cast("r", "h", 10),
        cast("w", "w16", 10),
        cast("v", "v16", 10),
        node("MatMul", &["h", "w16"], "a"),
        node("Relu", &["a"], "b"),
        node("MatMul", &["b", "v16"], "c"),
        node("Add", &["c", "h"], "d"),
        cast("d", "y", 1),
    ];
    let weights = |shape: &[usize], by: usize| {
        let values: Vec<f32> = (0..shape[0] * shape[1]).map(|i| (i * by % 11 % 3) as f32 - 1.0).collect();
        Tensor::new(shape, &values)
    };
    let constants = [("w", weights(&[64, 160], 7)), ("v", weights(&[160, 64], 5))];
    let proto = model(nodes, &[1, -1, 64], &[1, -1, 64], &constants);
    let target = resolve("x86_64", "x86-64-v3").expect("known");
    let program = built(&decode(&proto), &[("length", 40)], &target).program;
    assert!(program.kernels.iter().any(|k| k.name.contains("wide")));
    let cases: Vec<Vec<Tensor>> = [40, 1, 23, 39].iter().map(|&n| vec![floats(&[1, n, 64], 3)]).collect();
    check(&proto, &[("length", 40)], &cases);
}
