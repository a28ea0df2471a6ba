//! Reference results where no data are given: tract runs the model on seeded inputs.

use crate::base::{DType, Tensor, TensorType};
use crate::error::{Error, Result};
use crate::scalar::Scalar;
use std::path::Path;
use tract_onnx::prelude::*;

/// Inputs that are the same on every run: floats in -1..1, integers and booleans 0 or 1 (valid as
/// indices, masks and tokens), bytes of all values.
pub fn seeded(types: &[TensorType]) -> Vec<Tensor> {
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state >> 11
    };
    let mut one = |ty: &TensorType| {
        let mut data = Vec::with_capacity(ty.bytes());
        for _ in 0..ty.elems() {
            let bits = next();
            let scalar = match ty.dtype {
                DType::U8 | DType::I8 => Scalar { dtype: ty.dtype, bits: bits & 0xff },
                d if d.is_float() => Scalar::from_f64(d, (bits % 2048) as f64 / 1024.0 - 1.0),
                d => Scalar::from_i64(d, (bits & 1) as i64),
            };
            data.extend_from_slice(&scalar.bits.to_le_bytes()[..ty.dtype.size()]);
        }
        Tensor { ty: ty.clone(), data: data.into() }
    };
    types.iter().map(&mut one).collect()
}

fn datum(dtype: DType) -> Option<DatumType> {
    Some(match dtype {
        DType::F32 => DatumType::F32,
        DType::F64 => DatumType::F64,
        DType::F16 => DatumType::F16,
        DType::I8 => DatumType::I8,
        DType::I16 => DatumType::I16,
        DType::I32 => DatumType::I32,
        DType::I64 => DatumType::I64,
        DType::U8 => DatumType::U8,
        DType::U16 => DatumType::U16,
        DType::U32 => DatumType::U32,
        DType::U64 => DatumType::U64,
        DType::Bool => DatumType::Bool,
        _ => return None,
    })
}

fn dtype(datum: DatumType) -> Option<DType> {
    DType::all().find(|&d| self::datum(d) == Some(datum.unquantized()))
}

/// Runs a model in tract, without its optimizations. tract panics on some models; that is an error
/// here like any other refusal.
pub fn tract(model: &Path, inputs: &[Tensor]) -> Result<Vec<Tensor>> {
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let result = std::panic::catch_unwind(|| run(model, inputs));
    std::panic::set_hook(hook);
    let refused = |why: String| Error::model(format!("tract cannot run the model: {why}"));
    match result {
        Ok(Ok(outputs)) => Ok(outputs),
        Ok(Err(error)) => Err(refused(error.root_cause().to_string())),
        Err(_) => Err(refused("it panics".to_string())),
    }
}

fn run(path: &Path, inputs: &[Tensor]) -> TractResult<Vec<Tensor>> {
    // What a file says of the values within is in its names of dimensions, which the inputs replace by sizes.
    let mut model = tract_onnx::onnx().with_ignore_value_info(true).model_for_path(path)?;
    let mut given = TVec::new();
    for (i, tensor) in inputs.iter().enumerate() {
        let datum = datum(tensor.ty.dtype)
            .ok_or_else(|| TractError::msg(format!("element type {}", tensor.ty.dtype)))?;
        model.set_input_fact(i, InferenceFact::dt_shape(datum, tensor.ty.shape.clone()))?;
        // SAFETY: the bytes are elements of this type in this shape; booleans are 0 or 1.
        let value =
            unsafe { tract_onnx::prelude::Tensor::from_raw_dt(datum, &tensor.ty.shape, &tensor.data)? };
        given.push(value.into_tvalue());
    }
    let outputs = model.into_typed()?.into_runnable()?.run(given)?;
    let convert = |value: &TValue| {
        let dtype =
            dtype(value.datum_type()).ok_or_else(|| TractError::msg(format!("{:?}", value.datum_type())))?;
        let ty = TensorType::new(dtype, value.shape());
        let bytes = value.as_bytes();
        crate::base::Tensor::from_bytes(ty, bytes).ok_or_else(|| TractError::msg("an output of a wrong size"))
    };
    outputs.iter().map(convert).collect()
}
