//! The meaning of lowerings: the naive loops, run on tensors.
//!
//! It folds constants (weights of millions of elements), and it is the oracle of every schedule. So
//! it is exact but not slow: a definition is first made into a list of primitive steps, which then
//! run over blocks of points, one column of numbers per step.

mod columns;
mod program;
mod repeat;
mod strips;

use super::{Definition, Lowering, Routine, Size, Stage, ValueId};
use crate::base::{Tensor, TensorType};
use crate::error::{Error, Result};
use crate::tile;
use std::borrow::Cow;
use std::sync::Arc;

/// The elements of the values of a lowering, as far as they are known.
#[derive(Debug)]
pub struct Env {
    slots: Vec<Slot>,
}

#[derive(Debug)]
enum Slot {
    Empty,
    Shared(Arc<[u8]>),
    Owned(Vec<u8>),
}

impl Env {
    /// An environment that holds the constants of a lowering.
    pub fn new(lowering: &Lowering) -> Self {
        let slot = |constant: &Option<Tensor>| match constant {
            Some(tensor) => Slot::Shared(tensor.data.clone()),
            None => Slot::Empty,
        };
        Env { slots: lowering.values.iter().map(|v| slot(&v.constant)).collect() }
    }

    /// Gives a value its elements.
    pub fn set(&mut self, value: ValueId, tensor: &Tensor) {
        self.slots[value as usize] = Slot::Shared(tensor.data.clone());
    }

    /// The elements of a value; `None` where nothing has written them.
    pub fn get(&self, value: ValueId, ty: &TensorType) -> Option<Tensor> {
        let data: Arc<[u8]> = match &self.slots[value as usize] {
            Slot::Empty if ty.bytes() == 0 => Arc::new([]),
            Slot::Empty => return None,
            Slot::Shared(data) => data.clone(),
            Slot::Owned(data) => data.as_slice().into(),
        };
        Tensor::from_bytes(ty.clone(), data)
    }

    fn bytes(&self, value: ValueId, ty: &TensorType) -> Result<&[u8]> {
        let data: &[u8] = match &self.slots[value as usize] {
            Slot::Empty if ty.bytes() == 0 => &[],
            Slot::Empty => return Err(Error::bug(format!("value {value} is read before it is written"))),
            Slot::Shared(data) => data,
            Slot::Owned(data) => data,
        };
        if data.len() != ty.bytes() {
            return Err(Error::bug(format!("value {value} has {} bytes, not those of {ty}", data.len())));
        }
        Ok(data)
    }

    /// Takes a value out to be written; what several stages write in part begins as zeros.
    fn take(&mut self, value: ValueId, ty: &TensorType) -> Vec<u8> {
        match std::mem::replace(&mut self.slots[value as usize], Slot::Empty) {
            Slot::Owned(data) if data.len() == ty.bytes() => data,
            Slot::Shared(data) if data.len() == ty.bytes() => data.to_vec(),
            _ => vec![0; ty.bytes()],
        }
    }

    fn put(&mut self, value: ValueId, data: Vec<u8>) {
        self.slots[value as usize] = Slot::Owned(data);
    }
}

/// Runs all stages. The environment holds the inputs before and every value written after. An error
/// where an index that is computed lies outside its tensor.
pub fn interpret(lowering: &Lowering, env: &mut Env) -> Result<()> {
    env.slots.resize_with(lowering.values.len(), || Slot::Empty);
    run(lowering, &lowering.stages, env)
}

fn run(lowering: &Lowering, stages: &[Stage], env: &mut Env) -> Result<()> {
    for stage in stages {
        match stage {
            Stage::Define(definition) => {
                let known = match definition.has_sizes() {
                    true => {
                        let sizes = sizes(lowering, env)?;
                        Cow::Owned(definition.with_sizes(|n| sizes[n]))
                    }
                    false => Cow::Borrowed(definition),
                };
                define(&known, env).map_err(|e| e.at(definition.name.clone()))?;
            }
            Stage::Routine(routine) => run_routine(routine, env)?,
            Stage::Repeat(repeat) => repeat::repeat(lowering, repeat, env)?,
            Stage::Strips(strips) => strips::strips(lowering, strips, env)?,
            Stage::Reshape { from, to } => {
                let ty = &lowering.values[*from as usize].ty;
                let data: Arc<[u8]> = env.bytes(*from, ty)?.into();
                env.slots[*to as usize] = Slot::Shared(data);
            }
        }
    }
    Ok(())
}

/// The sizes known only at run time; 0 for those not known yet.
fn sizes(lowering: &Lowering, env: &Env) -> Result<Vec<i64>> {
    let known = |size: &Size| match &env.slots[size.value as usize] {
        Slot::Empty => Ok(0),
        _ => {
            let ty = &lowering.values[size.value as usize].ty;
            let bytes = env.bytes(size.value, ty)?;
            let value = bytes.try_into().map(i64::from_le_bytes).unwrap_or(-1);
            match (0..=size.max as i64).contains(&value) {
                true => Ok(value),
                false => Err(Error::model(format!("the size {value} is not in 0..={}", size.max))),
            }
        }
    };
    lowering.sizes.iter().map(known).collect()
}

fn define(definition: &Definition, env: &mut Env) -> Result<()> {
    let program = program::compile(definition);
    let mut out = env.take(definition.output.value, &definition.output.ty);
    let operands: Result<Vec<&[u8]>> =
        definition.operands.iter().map(|o| env.bytes(o.value, &o.ty)).collect();
    columns::run(&program, &operands?, &mut out)?;
    env.put(definition.output.value, out);
    Ok(())
}

fn run_routine(routine: &Routine, env: &mut Env) -> Result<()> {
    let mut buffers = Vec::with_capacity(routine.operands.len());
    for (operand, param) in routine.operands.iter().zip(&routine.kernel.params) {
        buffers.push(match param.access {
            tile::Access::Read => env.bytes(operand.value, &operand.ty)?.to_vec(),
            _ => env.take(operand.value, &operand.ty),
        });
    }
    let code = tile::interpret(&routine.kernel, &mut buffers)?;
    if code != 0 {
        return Err(Error::model(format!("the data of this node is invalid: run-time error {code}"))
            .at(routine.kernel.name.clone()));
    }
    for ((operand, param), buffer) in routine.operands.iter().zip(&routine.kernel.params).zip(buffers) {
        if param.access != tile::Access::Read {
            env.put(operand.value, buffer);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
