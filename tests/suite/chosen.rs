//! An If whose condition is an input of the model and whose branches give unlike shapes, as merged decoders have them:
//! the branch that the options choose is compiled; `run` returns an error where the input says the other.

use crate::lengths::body;
use crate::sizes::decode;
use crate::support::onnx::{model, node, value};
use lmc::base::{DType, Tensor, TensorType};
use lmc::build::{Build, Built, Silent};
use lmc::error::Result;
use lmc::run::executor::Executor;
use lmc::target::resolve;

/// Three rows plus one; or two of them.
fn build(arch: &str, build: Build) -> Result<Built> {
    let mut chosen = node("If", &["all"], "y");
    let branches = [
        ("then_branch", node("Add", &["x", "one"], "sum")),
        ("else_branch", node("Slice", &["x", "from", "to"], "part")),
    ];
    for (name, inner) in branches {
        let output = inner.output[0].clone();
        body(&mut chosen, vec![inner], (&[], &[(&output, 1)]));
        chosen.attribute.last_mut().expect("a branch").name = name.into();
    }
    let constants = [
        ("one", Tensor::scalar(1f32)),
        ("from", Tensor::new([1], &[1i64])),
        ("to", Tensor::new([1], &[3i64])),
    ];
    let mut proto = model(vec![chosen], &[3, 2], &[-1, 2], &constants);
    proto.graph.as_mut().expect("a graph").input.push(value("all", 9, &[1]));
    build.build_model(&decode(&proto), resolve(arch, "generic").expect("known"), "m", &Silent)
}

fn flag(value: bool) -> Tensor {
    Tensor::from_bytes(TensorType::new(DType::Bool, [1]), vec![u8::from(value)]).expect("a boolean")
}

#[test]
fn the_branch_that_is_chosen_is_compiled() {
    let x = Tensor::new([3, 2], &[1f32, 2.0, 3.0, 4.0, 5.0, 6.0]);
    let cases = [(true, vec![2f32, 3.0, 4.0, 5.0, 6.0, 7.0]), (false, vec![3f32, 4.0, 5.0, 6.0])];
    for arch in ["x86_64", "aarch64"] {
        for (taken, want) in &cases {
            let built = build(arch, Build::new("m.onnx").branch("all", *taken)).expect("a program");
            let mut run =
                Executor::new(&built.program, &built.object.bytes, &built.target, None).expect("an object");
            let y = run.run(&[x.clone(), flag(*taken)]).expect("a result");
            assert_eq!(
                (y[0].ty.shape[0], y[0].to_vec::<f32>()),
                (want.len() / 2, Some(want.clone())),
                "{arch}"
            );
            assert!(run.run(&[x.clone(), flag(!taken)]).is_err(), "{arch}: the other branch");
        }
    }
}

#[test]
fn what_cannot_be_chosen_is_an_error() {
    let error = |builder: Build| build("x86_64", builder).err().map(|e| e.to_string()).unwrap_or_default();
    let unlike = error(Build::new("m.onnx"));
    assert!(
        unlike.contains("the branches give different types") && unlike.contains("--input NAME=true"),
        "{unlike}"
    );
    let shape = error(Build::new("m.onnx").branch("x", true));
    assert!(shape.contains("'x' is not the condition of an If"), "{shape}");
}
