//! Sizes that data decide on, and what operators make of them: limits, sums, constants as long.

use crate::lengths::body;
use crate::sizes::{agree, built, decode, floats};
use crate::support::onnx::{int, ints, model, node, with};
use lmc::base::Tensor;
use lmc::run::executor::Executor;
use lmc::target::resolve;
use tract_onnx::pb::NodeProto;

fn numbers(tensor: &Tensor) -> Vec<f32> {
    tensor.data.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
}

/// Nodes that take, of three rows, the five largest elements above `least`, each times the row's label, from the last
/// row to the first.
fn best_of_rows() -> Vec<NodeProto> {
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
        with(node("Concat", &names.iter().map(String::as_str).collect::<Vec<_>>(), to), [int("axis", 0)])
    };
    let doubled = node("Mul", &["all", "which"], "y");
    // Joined from the last: where a part begins is known only when all have been found.
    best.reverse();
    labels.reverse();
    nodes.extend([joined(&best, "all"), joined(&labels, "which"), doubled]);
    nodes
}

/// What these nodes give.
fn best_of(x: &[f32]) -> Vec<f32> {
    let mut best = Vec::new();
    for (label, row) in x.chunks(300).enumerate().rev() {
        let mut above: Vec<f32> = row.iter().copied().filter(|&v| v > 0.5).collect();
        above.sort_by(|a, b| b.total_cmp(a));
        best.extend(above.iter().take(5).map(|v| v * (label + 1) as f32));
    }
    best
}

/// Of each row the elements above a threshold, of these the best 5 at most, in order, and as many labels: the
/// ends of detectors.
#[test]
fn the_best_of_what_is_found_in_each_row() {
    let nodes = best_of_rows();
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
            let want = best_of(&x);
            let got = executor.run(&[Tensor::new([3, 300], &x)]).expect("results");
            agree(&got, &[Tensor::new([want.len()], &want)], &format!("seed {seed}"));
        }
    }
}

/// What the model gives natively and on aarch64: these rows, or an error where there are none.
pub fn gives(nodes: Vec<NodeProto>, shape: [usize; 2], constants: &[(&str, Tensor)], cases: &[Case]) {
    let found = decode(&model(nodes, &shape.map(|d| d as i64), &[-1, -1], constants));
    for (arch, cpu) in [("native", "native"), ("aarch64", "generic")] {
        let target = resolve(arch, cpu).expect("known");
        let built = built(&found, &[], &target);
        let mut executor =
            Executor::new(&built.program, &built.object.bytes, &target, None).expect("it runs");
        for (x, want) in cases {
            let what = format!("{arch}, {x:?}");
            let got = executor.run(&[Tensor::new(shape, x)]);
            match want {
                None => assert!(got.is_err(), "{what}"),
                Some((shape, values)) => agree(
                    &got.unwrap_or_else(|e| panic!("{what}: {e}")),
                    &[Tensor::new(*shape, values)],
                    &what,
                ),
            }
        }
    }
}

/// Elements, and the shape and elements of what comes of them.
pub type Case = (Vec<f32>, Option<([usize; 2], Vec<f32>)>);

pub fn list(values: &[i64]) -> Tensor {
    Tensor::new([values.len()], values)
}

/// The first row of the input as integers, `head`.
fn head() -> Vec<NodeProto> {
    let head = with(node("Cast", &["first"], "head"), [int("to", 7)]);
    vec![node("Gather", &["x", "zero"], "first"), head]
}

/// `x[:, s:e:2] + x[:, s:e:2][::-1]` where the first row says s and e.
#[test]
fn a_slice_is_as_long_as_data_say() {
    let mut nodes = head();
    nodes.extend([
        node("Slice", &["head", "0", "1"], "start"),
        node("Slice", &["head", "1", "2"], "end"),
        node("Slice", &["x", "start", "end", "1", "2"], "part"),
        node("Neg", &["x"], "negative"),
        node("Slice", &["negative", "start", "end", "1", "2"], "other"),
        node("Slice", &["other", "last", "least", "0", "last"], "turned"),
        node("Add", &["part", "turned"], "y"),
    ]);
    let constants = [
        ("zero", Tensor::scalar(0i64)),
        ("0", list(&[0])),
        ("1", list(&[1])),
        ("2", list(&[2])),
        ("last", list(&[-1])),
        ("least", list(&[i64::MIN])),
    ];
    let case = |start: i64, end: i64, places: &[usize]| -> Case {
        let mut x = numbers(&floats(&[3, 7], 5));
        (x[0], x[1]) = (start as f32, end as f32);
        let row = |r: usize| places.iter().map(move |&p| (r, p));
        let sum = |(r, p): (usize, usize)| x[r * 7 + p] - x[(2 - r) * 7 + p];
        let want = (0..3).flat_map(row).map(sum).collect();
        (x.clone(), Some(([3, places.len()], want)))
    };
    let cases = [
        case(0, 7, &[0, 2, 4, 6]),
        case(1, 6, &[1, 3, 5]),
        case(-3, 100, &[4, 6]),
        case(-100, -2, &[0, 2, 4]),
        case(5, 2, &[]),
    ];
    gives(nodes, [3, 7], &constants, &cases);
}

/// The best k of each row with their places, where the corner says k; more than there are is an error.
#[test]
fn the_best_of_as_many_as_data_say() {
    let mut nodes = head();
    nodes.extend([
        node("Slice", &["head", "0", "1"], "k"),
        node("TopK", &["x", "k"], "best"),
        node("Cast", &["places"], "where"),
        node("Add", &["best", "where"], "y"),
    ]);
    nodes[3].output.push("places".into());
    nodes[4].attribute.push(int("to", 1));
    let constants = [("zero", Tensor::scalar(0i64)), ("0", list(&[0])), ("1", list(&[1]))];
    let case = |k: i64, fits: bool| -> Case {
        let mut x = numbers(&floats(&[4, 9], 3));
        x[0] = k as f32;
        let best = |row: &[f32]| -> Vec<f32> {
            let mut order: Vec<usize> = (0..9).collect();
            order.sort_by(|&a, &b| row[b].total_cmp(&row[a]));
            order.iter().take(k.max(0) as usize).map(|&i| row[i] + i as f32).collect()
        };
        let want = x.chunks(9).flat_map(best).collect();
        (x.clone(), fits.then_some(([4, k.max(0) as usize], want)))
    };
    gives(
        nodes,
        [4, 9],
        &constants,
        &[case(1, true), case(9, true), case(4, true), case(10, false), case(-1, false)],
    );
}

/// The places of what is positive in each of many rows, one behind the other: as many sizes as there are rows.
#[test]
fn a_size_for_each_of_many_rows() {
    const ROWS: usize = 150;
    let name = |what: &str, row: usize| format!("{what}{row}");
    let all = |what: &str| -> Vec<String> { (0..ROWS).map(|row| name(what, row)).collect() };
    let mut split = node("Split", &["x"], "");
    split.output = all("row");
    let mut nodes = vec![split];
    for row in 0..ROWS {
        nodes.push(node("Greater", &[&name("row", row), "zero"], &name("above", row)));
        nodes.push(node("NonZero", &[&name("above", row)], &name("places", row)));
    }
    let joined = all("places");
    let join = with(
        node("Concat", &joined.iter().map(String::as_str).collect::<Vec<_>>(), "places"),
        [int("axis", 1)],
    );
    let cast = with(node("Cast", &["places"], "y"), [int("to", 1)]);
    nodes.extend([join, cast]);
    let x = numbers(&floats(&[ROWS, 6], 9));
    let place = |row: &[f32]| (0..6).filter(|&i| row[i] > 0.0).map(|i| i as f32).collect::<Vec<f32>>();
    let places: Vec<f32> = x.chunks(6).flat_map(place).collect();
    let want = [vec![0.0; places.len()], places.clone()].concat();
    let case = (x, Some(([2, places.len()], want)));
    gives(nodes, [ROWS, 6], &[("zero", Tensor::scalar(0f32))], &[case]);
}

/// A loop that adds what `inner` makes of x, five numbers, and of its counter, until the sum is 10 or more.
fn adds_until_ten(inner: Vec<NodeProto>, cases: &[([f32; 5], f32)]) {
    let mut repeated = node("Loop", &["most", "", "nothing"], "y");
    let ends = vec![
        node("Add", &["s", "part"], "next"),
        node("Reshape", &["next", "scalar"], "size"),
        node("Less", &["size", "limit"], "on"),
    ];
    let inner = [inner, ends].concat();
    body(&mut repeated, inner, (&[("i", 7), ("go", 9), ("s", 1)], &[("on", 9), ("next", 1)]));
    let constants = [
        ("0", list(&[0])),
        ("1", list(&[1])),
        ("scalar", list(&[])),
        ("most", Tensor::scalar(5i64)),
        ("nothing", Tensor::new([1, 1], &[0f32])),
        ("limit", Tensor::scalar(10f32)),
    ];
    let cases: Vec<_> = cases.iter().map(|&(x, y)| (x.to_vec(), Some(([1, 1], vec![y])))).collect();
    gives(vec![repeated], [1, 5], &constants, &cases);
}

/// `while y < 10: y += sum(x[0, :i + 1])`: the size is another one in each iteration.
#[test]
fn a_slice_within_a_loop_is_as_long_as_its_iteration_says() {
    let inner = vec![
        node("Reshape", &["i", "1"], "number"),
        node("Add", &["number", "1"], "end"),
        node("Slice", &["x", "0", "end", "1"], "slice"),
        node("ReduceSum", &["slice"], "part"),
    ];
    let cases = [
        ([1.0, 2.0, 3.0, 4.0, 5.0], 10.0),
        ([12.0, 1.0, 1.0, 1.0, 1.0], 12.0),
        ([1.0, 0.0, 0.0, -1.0, -1.0], 2.0),
    ];
    adds_until_ten(inner, &cases);
}

/// `while y < 10: y += x[0, i:i + 1]`, sliced from the counter as it is, a number instead of a list.
#[test]
fn a_slice_within_a_loop_begins_at_its_counter() {
    let inner = vec![node("Add", &["i", "1"], "end"), node("Slice", &["x", "i", "end", "1"], "part")];
    adds_until_ten(inner, &[([1.0, 2.0, 3.0, 4.0, 5.0], 10.0), ([2.0, 0.0, -3.0, 12.0, 1.0], 11.0)]);
}

/// Rows `[n, width]` as `Unique` should give them: the distinct ones, each with its first place and how often it is
/// there; then all, each with the number of its distinct one, twice.
fn distinct_rows(x: &[f32], width: usize, sorted: bool) -> Vec<f32> {
    let rows: Vec<&[f32]> = x.chunks(width).collect();
    let mut firsts: Vec<usize> =
        (0..rows.len()).filter(|&i| !rows[..i].iter().any(|row| row == &rows[i])).collect();
    if sorted {
        firsts.sort_by(|&a, &b| rows[a].partial_cmp(rows[b]).expect("numbers"));
    }
    let mut all = Vec::new();
    for &first in &firsts {
        let count = rows.iter().filter(|row| **row == rows[first]).count();
        all.extend(rows[first].iter().copied().chain([first as f32, count as f32]));
    }
    for row in &rows {
        let place = firsts.iter().position(|&f| rows[f] == *row).expect("a first") as f32;
        all.extend(row.iter().copied().chain([place, place]));
    }
    all
}

/// Many rows, of which few or most are distinct, in numbers that are no powers of two.
#[test]
fn distinct_rows_of_many() {
    for (n, width, sorted) in [(200, 1, 1), (200, 1, 0), (61, 3, 1), (61, 3, 0), (1, 2, 1)] {
        let mut unique = with(node("Unique", &["x"], "values"), [int("axis", 0), int("sorted", sorted)]);
        unique.output.extend(["firsts", "inverse", "counts"].map(String::from));
        let column = |from: &str, to: &str| {
            let cast = with(node("Cast", &[from], &format!("{to}f")), [int("to", 1)]);
            [cast, node("Unsqueeze", &[&format!("{to}f"), "one"], to)]
        };
        let mut nodes = vec![unique, node("Gather", &["values", "inverse"], "again")];
        for (from, to) in [("firsts", "a"), ("counts", "b"), ("inverse", "c")] {
            nodes.extend(column(from, to));
        }
        nodes.push(with(node("Concat", &["values", "a", "b"], "above"), [int("axis", 1)]));
        nodes.push(with(node("Concat", &["again", "c", "c"], "below"), [int("axis", 1)]));
        nodes.push(with(node("Concat", &["above", "below"], "y"), [int("axis", 0)]));
        let cases: Vec<Case> = [2, 5, 1000]
            .map(|kinds| {
                let x: Vec<f32> =
                    (0..n * width).map(|i| ((i * i * 7919 + i * 31) % kinds) as f32 - 2.5).collect();
                let want = distinct_rows(&x, width, sorted == 1);
                (x, Some(([want.len() / (width + 2), width + 2], want)))
            })
            .to_vec();
        gives(nodes, [n, width], &[("one", list(&[1]))], &cases);
    }
}
