//! Small definitions against values written by hand.

use super::{Env, interpret};
use crate::base::{Affine, DType, Tensor, TensorType};
use crate::definition::{DefBuilder, Index, LoweredValue, Lowering};
use crate::scalar::{Fold, Op, Scalar};

fn value(name: &str, ty: &TensorType, constant: Option<Tensor>) -> LoweredValue {
    LoweredValue { name: name.into(), ty: ty.clone(), constant }
}

/// A lowering of an input and an output under one definition.
fn unary(
    x: &Tensor,
    out: &TensorType,
    build: impl FnOnce(DefBuilder) -> crate::definition::Definition,
) -> Lowering {
    let values = vec![value("x", &x.ty, Some(x.clone())), value("y", out, None)];
    let mut low = Lowering { values, ..Lowering::default() };
    low.define(build(DefBuilder::new(&out.shape)));
    low
}

fn run(low: &Lowering) -> crate::error::Result<Tensor> {
    let mut env = Env::new(low);
    interpret(low, &mut env)?;
    Ok(env.get(1, &low.values[1].ty).expect("written"))
}

#[test]
fn a_padded_sum_over_a_window() {
    let x = Tensor::new([4], &[1f32, 2.0, 3.0, 4.0]);
    let out = TensorType::new(DType::F32, [4]);
    let low = unary(&x, &out, |mut b| {
        let k = b.reduce("k", 3);
        let at = b.var(0).plus(&k).offset(-1);
        let v = b.load_padded(0, &x.ty, vec![at], Scalar::from_f64(DType::F32, 0.0));
        let sum = b.fold(Fold::Sum, v);
        let e = b.op(Op::Neg, &[sum]);
        b.finish("window", 1, &out, e)
    });
    assert_eq!(run(&low).unwrap().to_vec::<f32>().unwrap(), [-3.0, -6.0, -9.0, -7.0]);
}

#[test]
fn a_transpose_of_more_points_than_a_block() {
    let elems: Vec<i32> = (0..600).collect();
    let x = Tensor::new([20, 30], &elems);
    let out = TensorType::new(DType::I32, [30, 20]);
    let low = unary(&x, &out, |mut b| {
        let index = vec![b.var(1), b.var(0)];
        let v = b.load(0, &x.ty, index);
        b.finish("transpose", 1, &out, v)
    });
    let got = run(&low).unwrap().to_vec::<i32>().unwrap();
    assert!((0..600).all(|i| got[i] == ((i % 20) * 30 + i / 20) as i32));
}

#[test]
fn a_computed_index_outside_is_an_error_but_with_a_fill() {
    let x = Tensor::new([3], &[2i64, 0, 5]);
    let out = TensorType::new(DType::I64, [3]);
    let gather = |fill: Option<Scalar>| {
        unary(&x, &out, |mut b| {
            let i = b.load(0, &x.ty, vec![Affine::var(0)]);
            let v = b.load_at(0, &x.ty, vec![Index::Dynamic(i)], fill);
            b.finish("gather", 1, &out, v)
        })
    };
    assert!(run(&gather(None)).is_err());
    let filled = run(&gather(Some(Scalar::from_i64(DType::I64, -1)))).unwrap();
    assert_eq!(filled.to_i64s().unwrap(), [5, 2, -1]);
}

#[test]
fn half_types_round_after_each_operation() {
    let x = Tensor::from_bytes(TensorType::new(DType::F16, [1]), [0x00u8, 0x68]).unwrap();
    let out = x.ty.clone();
    let low = unary(&x, &out, |mut b| {
        let v = b.load(0, &x.ty, vec![Affine::var(0)]);
        let one = b.number(DType::F16, 1.0);
        let e = b.op(Op::Add, &[v, one]);
        b.finish("add", 1, &out, e)
    });
    assert_eq!(run(&low).unwrap().data[..], [0x00, 0x68], "2048 + 1 rounds to 2048");
}

#[test]
fn compound_operations_are_those_of_scalar_evaluation() {
    let points: Vec<f32> = (0..500).map(|i| (i as f32 - 250.0) * 0.04).collect();
    let x = Tensor::new([500], &points);
    for op in [Op::Exp, Op::Tanh, Op::Erf, Op::Sin, Op::Log, Op::Sign, Op::IsNan] {
        let dtype = if op == Op::IsNan { DType::Bool } else { DType::F32 };
        let out = TensorType::new(dtype, [500]);
        let low = unary(&x, &out, |mut b| {
            let v = b.load(0, &x.ty, vec![Affine::var(0)]);
            let e = b.op(op, &[v]);
            b.finish("f", 1, &out, e)
        });
        let got = run(&low).unwrap();
        for (i, &p) in points.iter().enumerate() {
            let want = crate::scalar::eval(op, &[Scalar::from_f64(DType::F32, p.into())]);
            let size = dtype.size();
            assert_eq!(got.data[i * size..][..size], want.bits.to_le_bytes()[..size], "{} of {p}", op.name());
        }
    }
}
