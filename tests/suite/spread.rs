//! What is as long as a number of flags: values assigned where a mask is true, as exporters of PyTorch write it;
//! constants and positions of a length that the model counts.

use crate::found::{Case, gives, list};
use crate::lengths::body;
use crate::sizes::floats;
use crate::support::onnx::{int, ints, node, with};
use lmc::base::Tensor;
use tract_onnx::pb::{AttributeProto, NodeProto, attribute_proto};

fn cast(from: &str, to: &str, dtype: i64) -> NodeProto {
    with(node("Cast", &[from], to), [int("to", dtype)])
}

fn tensor(name: &str, tensor: &Tensor) -> AttributeProto {
    let kind = attribute_proto::AttributeType::Tensor as i32;
    let t = Some(lmc::import::to_tensor_proto(name, tensor));
    AttributeProto { name: name.into(), r#type: kind, t, ..Default::default() }
}

fn constants() -> Vec<(&'static str, Tensor)> {
    vec![
        ("zero", Tensor::scalar(0f32)),
        ("two", Tensor::scalar(2f32)),
        ("0", list(&[0])),
        ("1", list(&[1])),
        ("-1", list(&[-1])),
        ("columns", list(&[5])),
        ("first", Tensor::scalar(0i64)),
        ("step", Tensor::scalar(1i64)),
    ]
}

fn elements(scale: f32, shift: f32) -> Vec<f32> {
    let tensor = floats(&[4, 5], 7);
    let number = |b: &[u8]| f32::from_le_bytes([b[0], b[1], b[2], b[3]]) * scale + shift;
    tensor.data.chunks_exact(4).map(number).collect()
}

/// Elements of which some, none and all are positive, and what a function makes of them.
fn cases(of: impl Fn(&[f32]) -> ([usize; 2], Vec<f32>)) -> Vec<Case> {
    let inputs = [elements(1.0, 0.0), elements(1.0, -5.0), elements(1.0, 5.0)];
    inputs.into_iter().map(|x| (x.clone(), Some(of(&x)))).collect()
}

/// `mask = x > 0`, its places, and what `x[mask]` becomes: `double`, as many.
fn doubled(mask: &str) -> Vec<NodeProto> {
    vec![
        node("NonZero", &[mask], "places"),
        with(node("Transpose", &["places"], "where"), [ints("perm", &[1, 0])]),
        node("GatherND", &["x", "where"], "taken"),
        node("Mul", &["taken", "two"], "double"),
    ]
}

/// How the values are spread and put: along a copy of the mask, or as many as a sum of flags says.
fn put(counted: bool, shape: &[&str]) -> Vec<NodeProto> {
    let mut nodes = vec![
        node("Shape", &["x"], "shape"),
        node("Expand", &["wide", "shape"], "all"),
        node("NonZero", &["all"], "targets"),
        with(node("Transpose", &["targets"], "indices"), [ints("perm", &[1, 0])]),
    ];
    if counted {
        nodes.extend([
            node("Reshape", &["mask", "-1"], "flags"),
            cast("flags", "numbers", 7),
            with(node("ReduceSum", &["numbers"], "count"), [int("keepdims", 1)]),
            with(node("Concat", shape, "extent"), [int("axis", 0)]),
            node("Expand", &["double", "extent"], "spread"),
            node("Reshape", &["spread", "-1"], "values"),
        ]);
    } else {
        nodes.extend([
            node("Reshape", &["double", "-1"], "row"),
            node("Shape", &["indices"], "found"),
            node("Slice", &["found", "0", "1"], "count"),
            node("Slice", &["row", "0", "count", "0"], "values"),
        ]);
    }
    nodes.push(node("ScatterND", &["x", "indices", "values"], "y"));
    nodes
}

/// `x[x > 0] = 2 * x[x > 0]`
#[test]
fn elements_are_assigned_where_a_mask_is_true() {
    for counted in [false, true] {
        let mut nodes = vec![node("Greater", &["x", "zero"], "mask"), cast("mask", "wide", 9)];
        nodes.extend(doubled("mask"));
        nodes.extend(put(counted, &["count"]));
        let cases = cases(|x| ([4, 5], x.iter().map(|&v| if v > 0.0 { 2.0 * v } else { v }).collect()));
        gives(nodes, [4, 5], &constants(), &cases);
    }
}

/// `mask = x[:, 0] > 0; x[mask] = 2 * x[mask]`
#[test]
fn rows_are_assigned_where_a_mask_is_true() {
    for counted in [false, true] {
        let mut nodes = vec![
            with(node("Gather", &["x", "first"], "column"), [int("axis", 1)]),
            node("Greater", &["column", "zero"], "mask"),
            node("Unsqueeze", &["mask", "1"], "wide"),
        ];
        nodes.extend(doubled("mask"));
        nodes.extend(put(counted, &["count", "columns"]));
        let row = |r: &[f32]| r.iter().map(|&v| if r[0] > 0.0 { 2.0 * v } else { v }).collect::<Vec<f32>>();
        gives(nodes, [4, 5], &constants(), &cases(|x| ([4, 5], x.chunks(5).flat_map(row).collect())));
    }
}

/// `lengths = (x > 0).sum(1)`, `y = arange(lengths.max()) + lengths[:, None]`: no mask has as many places.
#[test]
fn positions_up_to_the_longest_length() {
    let nodes = vec![
        node("Greater", &["x", "zero"], "mask"),
        cast("mask", "numbers", 7),
        with(node("ReduceSum", &["numbers", "1"], "lengths"), [int("keepdims", 1)]),
        with(node("ReduceMax", &["lengths"], "longest"), [int("keepdims", 0)]),
        node("Range", &["first", "longest", "step"], "positions"),
        node("Add", &["lengths", "positions"], "sum"),
        cast("sum", "y", 1),
    ];
    let of = |x: &[f32]| {
        let lengths: Vec<usize> = x.chunks(5).map(|r| r.iter().filter(|v| **v > 0.0).count()).collect();
        let longest = lengths.iter().copied().max().expect("rows");
        let rows = lengths.iter().flat_map(|&n| (0..longest).map(move |i| (n + i) as f32));
        ([4, longest], rows.collect())
    };
    gives(nodes, [4, 5], &constants(), &cases(of));
}

/// The same of a number that is added to itself again and again: each sum is looked at once.
#[test]
fn positions_up_to_a_number_that_is_doubled() {
    const TIMES: usize = 22;
    let mut nodes = vec![
        node("Greater", &["x", "zero"], "mask"),
        cast("mask", "numbers", 7),
        with(node("ReduceSum", &["numbers", "1"], "lengths"), [int("keepdims", 1)]),
        with(node("ReduceMax", &["lengths"], "doubled0"), [int("keepdims", 0)]),
    ];
    for i in 0..TIMES {
        let (from, to) = (format!("doubled{i}"), format!("doubled{}", i + 1));
        nodes.push(node("Add", &[&from, &from], &to));
    }
    nodes.extend([
        node("Min", &[&format!("doubled{TIMES}"), "limit"], "n"),
        node("Range", &["first", "n", "step"], "positions"),
        node("Add", &["lengths", "positions"], "sum"),
        cast("sum", "y", 1),
    ]);
    let of = |x: &[f32]| {
        let lengths: Vec<usize> = x.chunks(5).map(|r| r.iter().filter(|v| **v > 0.0).count()).collect();
        let n = (lengths.iter().max().expect("rows") << TIMES).min(7);
        let rows = lengths.iter().flat_map(|&length| (0..n).map(move |i| (length + i) as f32));
        ([4, n], rows.collect())
    };
    let all = [constants(), vec![("limit", Tensor::scalar(7i64))]].concat();
    gives(nodes, [4, 5], &all, &cases(of));
}

/// `n = (x > 0).sum()`, `y = x[x > 0][None] * ones(n) + arange(n) - full([1, n], 2)`: each is as long as what the
/// mask takes.
#[test]
fn constants_as_long_as_a_count() {
    let two = Tensor::new([1], &[2f32]);
    let nodes = vec![
        node("Greater", &["x", "zero"], "mask"),
        node("Reshape", &["mask", "-1"], "flags"),
        cast("mask", "numbers", 7),
        with(node("ReduceSum", &["numbers"], "n"), [int("keepdims", 0)]),
        node("Reshape", &["n", "1"], "count"),
        node("Expand", &["two", "count"], "twos"),
        node("Range", &["first", "n", "step"], "range"),
        cast("range", "positions", 1),
        with(node("Concat", &["1", "count"], "row"), [int("axis", 0)]),
        with(node("ConstantOfShape", &["row"], "full"), [tensor("value", &two)]),
        node("Compress", &["x", "flags"], "taken"),
        node("Mul", &["taken", "twos"], "product"),
        node("Add", &["product", "positions"], "sum"),
        node("Sub", &["sum", "full"], "y"),
    ];
    let of = |x: &[f32]| {
        let taken: Vec<f32> = x.iter().copied().filter(|v| *v > 0.0).collect();
        let at = |(i, v): (usize, &f32)| 2.0 * v + i as f32 - 2.0;
        ([1, taken.len()], taken.iter().enumerate().map(at).collect())
    };
    gives(nodes, [4, 5], &constants(), &cases(of));
}

/// The sums of `x[:2]` and `x[2:]` where the first element says the place between: two branches whose values
/// have the same names, each of another length.
#[test]
fn lengths_in_branches_of_the_same_names_are_each_their_own() {
    let mut nodes = vec![
        with(node("Gather", &["x", "first"], "corner"), [int("axis", 0)]),
        node("Slice", &["corner", "0", "1"], "between"),
        cast("between", "place", 7),
    ];
    for (part, from, to) in [("a", "0", "place"), ("b", "place", "columns")] {
        let mut sums = node("If", &[&format!("{part}empty")], part);
        let inner = vec![
            node("Slice", &["x", from, to, "1"], "slice"),
            with(node("ReduceSum", &["slice", "1"], "sum"), [int("keepdims", 1)]),
        ];
        let nothing =
            vec![node("Slice", &["x", "0", "1", "1"], "column"), node("Sub", &["column", "column"], "none")];
        for (name, inner, output) in [("then_branch", nothing, "none"), ("else_branch", inner, "sum")] {
            body(&mut sums, inner, (&[], &[(output, 1)]));
            sums.attribute.last_mut().expect("a branch").name = name.into();
        }
        nodes.extend([node("Equal", &[from, to], &format!("{part}empty")), sums]);
    }
    nodes.push(with(node("Concat", &["a", "b"], "y"), [int("axis", 1)]));
    let case = |place: usize| -> Case {
        let mut x = elements(1.0, 0.0);
        x[0] = place as f32;
        let sums = |r: &[f32]| [r[..place].iter().sum::<f32>(), r[place..].iter().sum::<f32>()];
        (x.clone(), Some(([4, 2], x.chunks(5).flat_map(sums).collect())))
    };
    gives(nodes, [4, 5], &constants(), &[case(2), case(1), case(4), case(0), case(5)]);
}

/// An If with two branches, each of which gives what its last node writes.
fn branches(cond: &str, output: &str, then: Vec<NodeProto>, otherwise: Vec<NodeProto>) -> NodeProto {
    let mut chosen = node("If", &[cond], output);
    for (name, inner) in [("then_branch", then), ("else_branch", otherwise)] {
        let last = inner.last().expect("a node").output[0].clone();
        body(&mut chosen, inner, (&[], &[(&last, 1)]));
        chosen.attribute.last_mut().expect("a branch").name = name.into();
    }
    chosen
}

/// `count`, how many elements of x are more than 2.
fn counted() -> Vec<NodeProto> {
    vec![
        node("Reshape", &["x", "-1"], "row"),
        node("Greater", &["row", "two"], "flags"),
        node("Compress", &["row", "flags"], "taken"),
        node("Size", &["taken"], "count"),
    ]
}

/// Where the sum is positive, what the nodes write; the magnitudes otherwise.
fn where_large(nodes: Vec<NodeProto>) -> Vec<NodeProto> {
    vec![
        with(node("ReduceSum", &["x"], "sum"), [int("keepdims", 0)]),
        node("Greater", &["sum", "zero"], "large"),
        branches("large", "y", nodes, vec![node("Abs", &["x"], "size")]),
    ]
}

/// Elements of which all and none are more than 2, with what a function makes of them and whether there is any, and such
/// of a negative sum.
fn within_a_branch(nodes: Vec<NodeProto>, of: fn(f32, bool) -> f32) {
    let case = |x: Vec<f32>, of: &dyn Fn(f32) -> f32| -> Case {
        let want = x.iter().map(|&v| of(v)).collect();
        (x, Some(([4, 5], want)))
    };
    let cases = [
        case(elements(1.0, 5.0), &|v| of(v, true)),
        case(elements(0.1, 1.0), &|v| of(v, false)),
        case(elements(1.0, -5.0), &f32::abs),
    ];
    gives(where_large(nodes), [4, 5], &constants(), &cases);
}

/// Within the branch of an If, an If on whether any element is large: in no sample with elements is its condition
/// false, and yet it is no constant.
#[test]
fn whether_anything_is_found_is_no_constant_within_a_branch() {
    let mut nodes = counted();
    nodes.extend([
        node("Greater", &["count", "first"], "any"),
        branches("any", "found", vec![node("Add", &["x", "two"], "more")], vec![node("Neg", &["x"], "less")]),
    ]);
    within_a_branch(nodes, |v, any| if any { v + 2.0 } else { -v });
}

/// The same as a number.
#[test]
fn a_number_that_is_special_where_nothing_is_found_is_computed_within_a_branch() {
    let mut nodes = counted();
    nodes.extend([
        node("Equal", &["count", "first"], "none"),
        cast("none", "number", 1),
        node("Add", &["x", "number"], "more"),
    ]);
    within_a_branch(nodes, |v, any| if any { v } else { v + 1.0 });
}

/// Of two lists as long as data say, the last column of each is set: what is made for that is alike where both are as long,
/// by chance.
#[test]
fn columns_of_two_lists_are_set() {
    let seven = Tensor::new([1], &[7f32]);
    let mut nodes = Vec::new();
    for row in ["0", "1"] {
        let name = |what: &str| if what.ends_with('#') { what.replace('#', row) } else { what.to_string() };
        let mut add = |op: &str, inputs: &[&str], output: &str| {
            let inputs: Vec<String> = inputs.iter().map(|i| name(i)).collect();
            nodes.push(node(op, &inputs.iter().map(String::as_str).collect::<Vec<_>>(), &name(output)));
            nodes.len() - 1
        };
        add("Gather", &["x", row], "row#");
        add("Greater", &["row#", "nothing"], "above#");
        add("NonZero", &["above#"], "places#");
        add("Squeeze", &["places#", "[0]"], "which#");
        add("Gather", &["table", "which#"], "rows#");
        add("Shape", &["rows#"], "shape#");
        add("Gather", &["shape#", "0"], "count#");
        add("Range", &["0", "count#", "1"], "list#");
        add("Unsqueeze", &["list#", "[1]"], "first#");
        add("Shape", &["first#"], "long#");
        add("Expand", &["last", "long#"], "second#");
        let joined = add("Concat", &["first#", "second#"], "index#");
        add("Gather", &["shape#", "[0]"], "as-long#");
        let filled = add("ConstantOfShape", &["as-long#"], "updates#");
        add("ScatterND", &["rows#", "index#", "updates#"], "set#");
        nodes[joined].attribute.push(int("axis", 1));
        nodes[filled].attribute.push(tensor("value", &seven));
    }
    nodes.push(with(node("Concat", &["set0", "set1"], "y"), [int("axis", 0)]));
    let table: Vec<f32> = (0..36).map(|i| i as f32).collect();
    let constants = [
        ("nothing", Tensor::scalar(0f32)),
        ("table", Tensor::new([12, 3], &table)),
        ("0", Tensor::scalar(0i64)),
        ("1", Tensor::scalar(1i64)),
        ("[0]", list(&[0])),
        ("[1]", list(&[1])),
        ("last", Tensor::new([1, 1], &[2i64])),
    ];
    let case = |above: fn(usize) -> bool| -> Case {
        let x: Vec<f32> = (0..24).map(|i| if above(i) { 1.0 } else { -1.0 }).collect();
        let rows: Vec<usize> = (0..24).filter(|&i| above(i)).map(|i| i % 12).collect();
        let want = rows.iter().flat_map(|r| [3.0 * *r as f32, 3.0 * *r as f32 + 1.0, 7.0]).collect();
        (x, Some(([rows.len(), 3], want)))
    };
    let cases = [case(|i| i % 3 == 0), case(|i| i < 14), case(|i| i == 5 || i > 20), case(|_| true)];
    gives(nodes, [2, 12], &constants, &cases);
}
