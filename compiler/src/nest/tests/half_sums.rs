//! Half floats that are multiplied, summed and finished as such.

use super::{conv, depthwise, f32s, long_window, matmul, run};
use crate::base::{DType, TensorType};
use crate::definition::{DefBuilder, Definition, Expr, ExprId};
use crate::scalar::{Fold, Op, Scalar, cast};
use crate::schedule::choose::choose;
use crate::schedule::linear::{Layout, Linear};
use crate::schedule::{Schedule, parse, verify};
use crate::target::resolve;

/// A definition of `f32` as one of half floats: what is loaded is converted, and results of operations behind the
/// fold are rounded.
fn halved(def: &Definition) -> Definition {
    let half = |ty: &TensorType| TensorType::new(DType::F16, ty.shape.clone());
    let mut halved = Definition { exprs: Vec::new(), ..def.clone() };
    halved.operands.iter_mut().for_each(|o| o.ty = half(&o.ty));
    halved.output.ty = half(&def.output.ty);
    let mut places: Vec<ExprId> = Vec::new();
    let mut folded = def.fold.is_none();
    for expr in &def.exprs {
        let mut add = |expr: Expr| {
            halved.exprs.push(expr);
            halved.exprs.len() as ExprId - 1
        };
        let narrow = |arg| Expr::Cast { to: DType::F16, saturate: true, arg };
        let wide = |arg| Expr::Cast { to: DType::F32, saturate: true, arg };
        let place = match expr {
            Expr::Load { operand, index, fill } => {
                let fill = fill.map(|f| cast(f, DType::F16, true));
                let load = add(Expr::Load { operand: *operand, index: index.clone(), fill });
                add(wide(load))
            }
            Expr::Op(op, args) => {
                let op = add(Expr::Op(*op, args.iter().map(|&a| places[a as usize]).collect()));
                let rounded = folded.then(|| add(narrow(op)));
                rounded.map_or(op, |rounded| add(wide(rounded)))
            }
            other => {
                folded |= *other == Expr::Acc;
                add(other.clone())
            }
        };
        places.push(place);
    }
    if let Some(fold) = &mut halved.fold {
        fold.body = places[fold.body as usize];
    }
    halved.exprs.push(Expr::Cast { to: DType::F16, saturate: true, arg: places[def.finish as usize] });
    halved.finish = halved.exprs.len() as ExprId - 1;
    halved
}

/// `clip(x * y + y, -3, 9)`, of two tensors.
fn arithmetic(shape: &[usize]) -> Definition {
    let ty = f32s(shape);
    let mut b = DefBuilder::new(shape);
    let (x, y) = (b.load_broadcast(0, &ty), b.load_broadcast(1, &ty));
    let product = b.op(Op::Mul, &[x, y]);
    let sum = b.op(Op::Add, &[product, y]);
    let (low, high) = (b.number(DType::F32, -3.0), b.number(DType::F32, 9.0));
    let above = b.op(Op::Max, &[sum, low]);
    let within = b.op(Op::Min, &[above, high]);
    b.finish("arithmetic", 2, &ty, within)
}

fn linear(def: &Definition, constant: &[bool]) -> Linear {
    let layout = |ty: &TensorType| match ty.rank() {
        4 => Layout::permuted(&ty.shape, &[0, 2, 3, 1]),
        _ => Layout::dense(&ty.shape),
    };
    let layouts: Vec<Layout> = (def.operands.iter().zip(constant))
        .map(|(o, &constant)| if constant { Layout::dense(&o.ty.shape) } else { layout(&o.ty) })
        .collect();
    Linear::new(def, &layouts, constant, &layout(&def.output.ty))
}

/// One filter of so many points for each channel, along one axis with padding.
fn long_depthwise(channels: usize, size: usize, points: usize) -> Definition {
    let (x, w) = (f32s(&[1, channels, 1, size]), f32s(&[channels, points]));
    let mut b = DefBuilder::new(&x.shape);
    let k = b.reduce("k", points);
    let index = vec![b.var(0), b.var(1), b.var(2), b.var(3).plus(&k).offset(-(points as i64 / 2))];
    let data = b.load_padded(0, &x, index, Scalar::from_f64(DType::F32, 0.0));
    let weights = vec![b.var(1), k];
    let weights = b.load(1, &w, weights);
    let product = b.op(Op::Mul, &[data, weights]);
    let acc = b.fold(Fold::Sum, product);
    b.finish("depthwise", 2, &x, acc)
}

/// The processors that multiply half floats.
const TARGETS: [(&str, &str); 2] = [("aarch64", "neoverse-n1"), ("x86_64", "sapphirerapids")];

/// The schedule for a processor, which gives what the naive loops give: the numbers are small integers, whose short
/// sums are exact.
fn agrees((triple, cpu): (&str, &str), def: &Definition, constant: &[bool]) -> Schedule {
    let linear = linear(&halved(def), constant);
    let schedule = choose(&linear, &resolve(triple, cpu).expect("the target is known"));
    let text = schedule.display(&linear);
    verify(&schedule, &linear).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(parse(&text, &linear).expect("it is read back"), schedule);
    let expected = run(&linear, &Schedule::naive(&linear), &vec![false; constant.len()]);
    assert_eq!(run(&linear, &schedule, constant), expected, "{text}");
    schedule
}

/// Sums that are one short sum, several, and several with a shorter last one; edges, partial vectors.
#[test]
fn half_sums_agree_with_the_naive_loops() {
    for target in TARGETS {
        half_sums_agree(target);
    }
}

fn half_sums_agree(target: (&str, &str)) {
    let constant = [false, true, true];
    for (def, finish) in [
        (conv((16, 24), (7, 9), 1, 1, 1), true),
        (conv((64, 20), (5, 7), 1, 2, 1), true),
        (conv((96, 33), (6, 5), 1, 1, 1), false),
        (conv((150, 16), (3, 5), 1, 1, 1), false),
        (conv((3, 24), (17, 12), 3, 2, 1), true),
        (conv((6, 18), (12, 15), 3, 2, 1), true),
        (conv((40, 18), (12, 15), 3, 2, 1), false),
    ] {
        let schedule = agrees(target, &def, &constant);
        assert_eq!((schedule.half_sums, schedule.half_finish), (64, finish));
        assert_eq!(schedule.half_parts, if target.0 == "x86_64" { 16 } else { 64 });
    }
    for stride in [1, 2] {
        let schedule = agrees(target, &depthwise(35, (9, 31), stride), &constant[..2]);
        assert!(schedule.half_sums == 64 && schedule.half_finish);
        agrees(target, &depthwise(8, (5, 3), stride), &constant[..2]);
    }
    // Sums end within windows that reach outside.
    for (size, points) in [(25, 31), (100, 31), (7, 31), (64, 21), (150, 90)] {
        agrees(target, &long_depthwise(40, size, points), &constant[..2]);
        agrees(target, &long_window(size.max(points), points, 1), &constant);
    }
    for (m, n, k) in [(1, 640, 33), (50, 70, 19), (128, 48, 200), (7, 5, 3), (16, 1, 40)] {
        agrees(target, &matmul(m, n, k), &constant[..2]);
    }
}

#[test]
fn operations_on_half_floats_agree_with_the_naive_loops() {
    for target in TARGETS {
        assert!(agrees(target, &arithmetic(&[5, 37]), &[false, false]).half_finish);
    }
}

/// Targets that do not multiply half floats, sums of other types, and a finish that loses what is rounded.
#[test]
fn others_have_no_half_sums() {
    let def = conv((16, 24), (7, 9), 1, 1, 1);
    let constant = [false, true, true];
    let half = linear(&halved(&def), &constant);
    for (triple, cpu) in [("aarch64", "cortex-a72"), ("x86_64", "x86-64-v3")] {
        let schedule = choose(&half, &resolve(triple, cpu).expect("the target is known"));
        assert!(schedule.half_sums == 0 && !schedule.half_finish);
    }
    let target = resolve("aarch64", "neoverse-n1").expect("the target is known");
    let schedule = Schedule { half_sums: 64, ..choose(&linear(&def, &constant), &target) };
    assert!(verify(&schedule, &linear(&def, &constant)).is_err(), "products of f32");
    // A mean of products that add up to more than a half float holds.
    let mut b = DefBuilder::new(&[8, 16]);
    let k = b.reduce("k", 32);
    let (left, right) = (vec![b.var(0), k.clone()], vec![k, b.var(1)]);
    let (left, right) = (b.load(0, &f32s(&[8, 32]), left), b.load(1, &f32s(&[32, 16]), right));
    let product = b.op(Op::Mul, &[left, right]);
    let (sum, part) = (b.fold(Fold::Sum, product), b.number(DType::F32, 1.0 / 32.0));
    let mean = b.op(Op::Mul, &[sum, part]);
    let mean = linear(&halved(&b.finish("mean", 2, &f32s(&[8, 16]), mean)), &constant[..2]);
    assert_eq!(choose(&mean, &target).half_sums, 0);
    let long = linear(&halved(&conv((96, 24), (7, 9), 1, 1, 1)), &constant);
    let schedule = Schedule { half_finish: true, ..choose(&long, &target) };
    assert!(verify(&schedule, &long).is_err(), "sums of several short sums");
    for half_parts in [0, 65] {
        let schedule = Schedule { half_parts, ..choose(&long, &target) };
        assert!(verify(&schedule, &long).is_err(), "parts of {half_parts}");
    }
}
