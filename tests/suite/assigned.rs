//! Loops that fill a row per iteration as frameworks without scalars write it: places that are computed by floats and
//! bounded by a length, single elements whose rank depends on the way, values that the first iteration makes. And parts
//! of a tensor that are set, at places which are constants.

use crate::lengths::{body, lengths};
use crate::sizes::{agree, built, check, decode, floats, naive};
use crate::support::onnx::{int, ints, model, node, with};
use lmc::base::{DType, Tensor, TensorType};
use lmc::run::executor::Executor;
use lmc::target::resolve;
use tract_onnx::pb;

const ROWS: usize = 6;

fn cast(from: &str, to: &str, dtype: i64) -> pb::NodeProto {
    with(node("Cast", &[from], to), [int("to", dtype)])
}

/// `from = [n]`, `to = min([length of rows], [int(float(n) + 1)])`, and the numbers between them.
fn places() -> Vec<pb::NodeProto> {
    vec![
        cast("n", "float_n", 1),
        node("Add", &["float_n", "float_one"], "float_next"),
        cast("float_next", "next_n", 7),
        node("Reshape", &["n", "list"], "from"),
        node("Reshape", &["next_n", "list"], "next_list"),
        node("Shape", &["rows"], "shape"),
        node("Gather", &["shape", "first"], "length"),
        node("Min", &["length", "next_list"], "to"),
        node("Slice", &["rows", "from", "to", "first"], "taken"),
        node("Squeeze", &["from"], "start"),
        node("Squeeze", &["to"], "limit"),
        node("Range", &["start", "limit", "step"], "between"),
        node("Reshape", &["between", "column"], "places"),
    ]
}

/// `on = unfinished and n + 1 < 6`, the first by an If whose branches give `bool[1]` and `bool[]`, the whole cast to an
/// integer and back.
fn condition() -> Vec<pb::NodeProto> {
    let mut decides = node("If", &["open"], "unfinished");
    for (name, inner) in [
        ("then_branch", node("Identity", &["open"], "so")),
        ("else_branch", node("Reshape", &["never", "list"], "ended")),
    ] {
        let output = inner.output[0].clone();
        body(&mut decides, vec![inner], (&[], &[(&output, 9)]));
        decides.attribute.last_mut().expect("a branch").name = name.into();
    }
    vec![
        decides,
        node("Less", &["next_n", "most"], "below"),
        node("And", &["unfinished", "below"], "both"),
        cast("both", "number", 7),
        node("Add", &["number", "nothing"], "same"),
        cast("same", "on", 9),
    ]
}

/// `while on: s = s part; rows[n] = s; n += 1`: the rows and the last of them, added.
fn filling() -> pb::ModelProto {
    let mut repeated = node("Loop", &["endless", "", "zero", "truth", "x", "zeros", "undefined"], "last_n");
    repeated.output.extend(["last_on", "last_s", "filled", "last"].map(String::from));
    let largest = with(node("ReduceMax", &["size"], "largest"), [int("keepdims", 0)]);
    let mut nodes = vec![node("Mul", &["s", "part"], "next")];
    nodes.extend(places());
    nodes.extend([
        node("Add", &["next", "taken"], "row"),
        node("ScatterND", &["rows", "places", "row"], "next_rows"),
        node("Abs", &["next"], "size"),
        largest,
        node("Greater", &["largest", "least"], "open"),
    ]);
    nodes.extend(condition());
    let io: (&[(&str, i32)], &[(&str, i32)]) = (
        &[("i", 7), ("go", 9), ("n", 7), ("was", 9), ("s", 1), ("rows", 1), ("seen", 1)],
        &[("on", 9), ("next_n", 7), ("on", 9), ("next", 1), ("next_rows", 1), ("row", 1)],
    );
    body(&mut repeated, nodes, io);
    let nodes = vec![repeated, node("Add", &["filled", "last"], "y")];
    let list = |values: &[i64]| Tensor::new([values.len()], values);
    let truth = |value: u8| Tensor { ty: TensorType::new(DType::Bool, []), data: [value].into() };
    let constants = [
        ("endless", Tensor::scalar(i64::MAX)),
        ("zero", Tensor::scalar(0i64)),
        ("step", Tensor::scalar(1i64)),
        ("most", Tensor::scalar(ROWS as i64)),
        ("nothing", list(&[0])),
        ("first", list(&[0])),
        ("list", list(&[1])),
        ("column", list(&[-1, 1])),
        ("float_one", Tensor::scalar(1f32)),
        ("part", Tensor::scalar(0.7f32)),
        ("least", Tensor::scalar(0.1f32)),
        ("zeros", Tensor::new([ROWS, 3], &[0f32; ROWS * 3])),
        ("undefined", Tensor::scalar(0f32)),
        ("truth", truth(1)),
        ("never", truth(0)),
    ];
    model(nodes, &[1, 3], &[ROWS as i64, 3], &constants)
}

#[test]
fn a_loop_fills_a_row_per_iteration() {
    let decoded = decode(&filling());
    // Two iterations by the data; the counter's six.
    for (first, steps) in [(0.17f32, 2), (1e3, ROWS)] {
        let x = Tensor::new([1, 3], &[first, 0.0, -first / 2.0]);
        let mut rows = [[0f32; 3]; ROWS];
        let mut s = [first, 0.0, -first / 2.0];
        for row in &mut rows[..steps] {
            s = s.map(|v| v * 0.7);
            *row = s;
        }
        let want: Vec<f32> = rows.iter().flat_map(|r| [r[0] + s[0], r[1] + s[1], r[2] + s[2]]).collect();
        let want = [Tensor::new([ROWS, 3], &want)];
        agree(&naive(&decoded, std::slice::from_ref(&x)), &want, "naive");
        for (arch, cpu) in [("native", "native"), ("aarch64", "generic")] {
            let target = resolve(arch, cpu).expect("known");
            let built = built(&decoded, &[], &target);
            let mut executor =
                Executor::new(&built.program, &built.object.bytes, &target, None).expect("an object");
            agree(&executor.run(std::slice::from_ref(&x)).expect("a result"), &want, arch);
        }
    }
}

/// `y = x`, then `y[...] = values` at the places of a box, of whatever size.
fn assigned(shape: &[i64], box_of: &[[i64; 2]], grid: &[i64]) -> pb::ModelProto {
    let mut places = vec![Vec::new()];
    for &[start, count] in box_of {
        let along =
            |p: &Vec<i64>| (0..count).map(|i| [p.clone(), vec![start + i]].concat()).collect::<Vec<_>>();
        places = places.iter().flat_map(along).collect();
    }
    let rest = &shape[box_of.len()..];
    let dims = |more: &[i64]| grid.iter().chain(more).map(|&n| n as usize).collect::<Vec<_>>();
    let values = floats(&dims(rest), 7);
    let constants =
        [("places", Tensor::new(dims(&[box_of.len() as i64]), &places.concat())), ("values", values)];
    let nodes = vec![
        node("Neg", &["x"], "copy"),
        node("ScatterND", &["copy", "places", "values"], "set"),
        node("Abs", &["set"], "y"),
    ];
    model(nodes, shape, shape, &constants)
}

/// What exporters write for assignments to parts: first, last and middle ones, in one dimension and in two.
#[test]
fn parts_are_assigned() {
    let cases: [(&[i64], &[[i64; 2]], &[i64]); 6] = [
        (&[2, 3, 4], &[[0, 2], [0, 3], [3, 1]], &[2, 3]),
        (&[2, 3, 4], &[[0, 2], [1, 2], [-3, 2]], &[2, 2, 2]),
        (&[2, 3, 4], &[[1, 1], [0, 2]], &[1, 2]),
        (&[5, 2], &[[1, 3]], &[3]),
        (&[2, 3], &[[0, 2], [0, 3]], &[2, 3]),
        (&[4], &[[2, 1]], &[]),
    ];
    for (shape, box_of, grid) in cases {
        let x = floats(&shape.iter().map(|&n| n as usize).collect::<Vec<_>>(), 3);
        check(&assigned(shape, box_of, grid), &[], &[vec![x]]);
    }
    // No box: an axis twice, and one in the other order.
    let mut other = assigned(&[3, 3], &[[0, 3], [0, 3]], &[3, 3]);
    let turned: Vec<i64> = (0..9).flat_map(|i| [i % 3, i / 3]).collect();
    let graph = other.graph.as_mut().expect("a graph");
    let places = graph.initializer.iter_mut().find(|i| i.name == "places").expect("places");
    *places = lmc::import::to_tensor_proto("places", &Tensor::new([3, 3, 2], &turned));
    check(&other, &[], &[vec![floats(&[3, 3], 3)]]);
}

/// The last column of any number of rows in the middle: the places are constants for each length.
#[test]
fn a_column_of_any_length_is_assigned() {
    let nodes = vec![
        node("Shape", &["x"], "shape"),
        node("Gather", &["shape", "one"], "n"),
        node("Range", &["zero", "n", "one"], "rows"),
        node("Unsqueeze", &["rows", "last"], "wide"),
        node("Pad", &["wide", "pads", "two"], "places"),
        node("Gather", &["x", "zero"], "entry"),
        with(node("ReduceSum", &["entry", "last"], "sums"), [int("keepdims", 0)]),
        node("Squeeze", &["x", "first"], "flat"),
        node("ScatterND", &["flat", "places", "sums"], "set"),
        node("Mul", &["set", "set"], "y"),
    ];
    let number = |n: i64| Tensor::new([1], &[n]);
    let constants = [
        ("zero", Tensor::scalar(0i64)),
        ("one", Tensor::scalar(1i64)),
        ("two", Tensor::scalar(2i64)),
        ("last", number(-1)),
        ("first", number(0)),
        ("pads", Tensor::new([4], &[0i64, 0, 0, 1])),
    ];
    let proto = model(nodes, &[1, -1, 3], &[-1, 3], &constants);
    check(&proto, &[("length", 9)], &lengths(&[9, 4, 1, 2], |n| vec![1, n, 3]));
}

/// Rows at places that data say, and elements along the middle dimension, in a tensor whose outer dimensions are of any
/// size: neighbours lie as far apart as at the bounds.
#[test]
fn places_that_data_say_between_dimensions_of_any_size() {
    let axis = |mut node: pb::NodeProto, axis: i64| {
        node.attribute.push(int("axis", axis));
        node
    };
    let kept = |mut node: pb::NodeProto, axis: i64| {
        node.attribute.extend([int("axis", axis), int("keepdims", 1)]);
        node
    };
    let nodes = vec![
        kept(node("ArgMax", &["x"], "best"), 1),
        axis(node("Gather", &["best", "[0]"], "column"), 2),
        node("Squeeze", &["column", "[2]"], "row"),
        node("Shape", &["x"], "shape"),
        node("Gather", &["shape", "0"], "batch"),
        node("Range", &["0", "batch", "1"], "entries"),
        node("Unsqueeze", &["entries", "[1]"], "entry"),
        axis(node("Concat", &["entry", "row"], "index"), 1),
        node("ReduceSum", &["x", "[1]"], "sums"),
        node("Squeeze", &["sums", "[1]"], "updates"),
        node("ScatterND", &["x", "index", "updates"], "rows"),
        axis(node("ScatterElements", &["rows", "best", "sums"], "set"), 1),
        node("Add", &["set", "x"], "y"),
    ];
    let list = |n: i64| Tensor::new([1], &[n]);
    let number = Tensor::scalar::<i64>;
    let constants =
        [("[0]", list(0)), ("[1]", list(1)), ("[2]", list(2)), ("0", number(0)), ("1", number(1))];
    let cases: Vec<Vec<Tensor>> = [(3, 9), (1, 4), (2, 7), (3, 1), (2, 9)]
        .iter()
        .map(|&(batch, length)| vec![floats(&[batch, length, 6], 5)])
        .collect();
    let proto = model(nodes, &[-2, -1, 6], &[-2, -1, 6], &constants);
    check(&proto, &[("batch", 3), ("length", 9)], &cases);
}

/// `x.masked_scatter(max(x, -1) > 0, list)`: rows where a flag is set.
fn masked_scatter(list: &[f32]) -> pb::ModelProto {
    let kept = [int("keepdims", 1), ints("axes", &[-1])];
    let nodes = vec![
        with(node("ReduceMax", &["x"], "most"), kept),
        node("Greater", &["most", "0"], "flags"),
        node("Shape", &["x"], "shape"),
        node("Expand", &["flags", "shape"], "mask"),
        node("NonZero", &["mask"], "columns"),
        with(node("Transpose", &["columns"], "places"), [ints("perm", &[1, 0])]),
        node("Shape", &["places"], "sizes"),
        node("Gather", &["sizes", "first"], "count"),
        node("Slice", &["list", "first", "count", "first"], "front"),
        node("ScatterND", &["x", "places", "front"], "y"),
    ];
    let constants = [
        ("0", Tensor::scalar(0f32)),
        ("first", Tensor::new([1], &[0i64])),
        ("list", Tensor::new([list.len()], list)),
    ];
    model(nodes, &[-2, -1, 3], &[-2, -1, 3], &constants)
}

/// How many places there are is known when the model runs: of a list that is longer its front is written, one that is
/// shorter is an error.
#[test]
fn a_list_at_the_places_of_a_mask() {
    let decoded = decode(&masked_scatter(&(0..12).map(|i| 10.0 + i as f32).collect::<Vec<f32>>()));
    // A list whose length is no multiple of a row's: element by element.
    let uneven = decode(&masked_scatter(&(0..13).map(|i| 10.0 + i as f32).collect::<Vec<f32>>()));
    let case = |shape: [usize; 3], set: &[usize]| {
        let mut x: Vec<f32> = (0..shape.iter().product()).map(|i| -1.0 - i as f32).collect();
        set.iter().for_each(|row| x[row * 3 + row % 3] = 1.0);
        let mut y = x.clone();
        for (k, row) in set.iter().enumerate() {
            (0..3).for_each(|c| y[row * 3 + c] = 10.0 + (3 * k + c) as f32);
        }
        (Tensor::new(shape, &x), Tensor::new(shape, &y))
    };
    let cases = [
        case([2, 5, 3], &[0, 3, 4, 7]),
        case([1, 3, 3], &[2]),
        case([2, 1, 3], &[]),
        case([1, 1, 3], &[0]),
        case([2, 5, 3], &[1, 2]),
    ];
    for (arch, cpu) in [("x86_64", "generic"), ("native", "native"), ("aarch64", "generic")] {
        let target = resolve(arch, cpu).expect("known");
        for model in [&decoded, &uneven] {
            let built = built(model, &[("batch", 2), ("length", 5)], &target);
            let mut executor =
                Executor::new(&built.program, &built.object.bytes, &target, None).expect("an object");
            for (x, y) in &cases {
                let got = executor.run(std::slice::from_ref(x)).expect("a result");
                agree(&got, std::slice::from_ref(y), &format!("{arch}, {}", x.ty));
            }
            let (x, _) = case([2, 5, 3], &[0, 1, 2, 3, 4]);
            assert!(executor.run(&[x]).is_err(), "{arch}: the list has four rows");
        }
    }
}

/// Paddle's assignments map sequences of starts and ends, which are known element by element: here columns, each times
/// an element of a second sequence and with one tensor for all, and what has the other sign.
#[test]
fn mapped_sequences_dissolve() {
    let mut map = node("SequenceMap", &["columns", "factors", "more"], "sums");
    map.output.push("negative".into());
    let nodes = vec![
        node("Mul", &["element", "factor"], "times"),
        node("Add", &["times", "added"], "sum"),
        node("Neg", &["sum"], "less"),
    ];
    let inputs: &[(&str, i32)] = &[("element", 1), ("factor", 1), ("added", 1)];
    body(&mut map, nodes, (inputs, &[("sum", 1), ("less", 1)]));
    let split =
        |from: &str, to: &str, axis| with(node("SplitToSequence", &[from, "one"], to), [int("axis", axis)]);
    let joined = |from: &str, to: &str| with(node("ConcatFromSequence", &[from], to), [int("axis", 1)]);
    let nodes = vec![
        split("x", "columns", 1),
        split("by", "factors", 0),
        map,
        joined("sums", "a"),
        joined("negative", "b"),
        with(node("Concat", &["a", "b"], "y"), [int("axis", 0)]),
    ];
    let constants = [
        ("one", Tensor::scalar(1i64)),
        ("by", Tensor::new([3], &[2.0f32, -1.0, 0.5])),
        ("more", Tensor::new([2, 1], &[1.0f32, 10.0])),
    ];
    let decoded = decode(&model(nodes, &[2, 3], &[4, 3], &constants));
    let x = Tensor::new([2, 3], &[1.0f32, 2.0, 3.0, 4.0, 5.0, 6.0]);
    let sums = [3.0f32, -1.0, 2.5, 18.0, 5.0, 13.0];
    let want: Vec<f32> = sums.iter().copied().chain(sums.iter().map(|v| -v)).collect();
    assert_eq!(naive(&decoded, std::slice::from_ref(&x)), [Tensor::new([4, 3], &want)]);
    let target = resolve("native", "native").expect("known");
    let built = built(&decoded, &[], &target);
    let executor = Executor::new(&built.program, &built.object.bytes, &target, None);
    let got = executor.and_then(|mut e| e.run(std::slice::from_ref(&x))).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(got, [Tensor::new([4, 3], &want)]);
}
