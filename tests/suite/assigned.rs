//! Loops that fill a row per iteration as frameworks without scalars write it: places that are computed by floats and
//! bounded by a length, single elements whose rank depends on the way, values that the first iteration makes.

use crate::lengths::body;
use crate::sizes::{agree, built, decode, naive};
use crate::support::onnx::{int, model, node, with};
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
