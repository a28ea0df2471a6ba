//! Runs a loop: slices of values in and out, and what is carried from one iteration to the next.

use super::{Env, Slot, run};
use crate::definition::{Lowering, Repeat, Slice};
use crate::error::Result;
use std::sync::Arc;

/// Runs a loop as [`Repeat`] says.
pub fn repeat(lowering: &Lowering, repeat: &Repeat, env: &mut Env) -> Result<()> {
    let elements = |env: &Env, value: u32| -> Result<Arc<[u8]>> {
        Ok(env.bytes(value, &lowering.values[value as usize].ty)?.into())
    };
    let mut states = Vec::with_capacity(repeat.carries.len());
    for carry in &repeat.carries {
        states.push(elements(env, carry.initial)?);
    }
    let sizes = super::sizes(lowering, env)?;
    let count = match &repeat.size {
        Some(size) => size.with_sizes(|n| sizes[n]).base.clamp(0, repeat.count as i64) as usize,
        None => repeat.count,
    };
    for i in 0..count {
        for (carry, state) in repeat.carries.iter().zip(&states) {
            env.slots[carry.state as usize] = Slot::Shared(state.clone());
        }
        if let Some(condition) = repeat.condition
            && elements(env, condition)?.iter().all(|&b| b == 0)
        {
            break;
        }
        for slice in repeat.slices.iter().filter(|s| !s.written) {
            let whole = env.bytes(slice.whole, &lowering.values[slice.whole as usize].ty)?;
            let part = whole[range(lowering, slice, i, count)].into();
            env.slots[slice.part as usize] = Slot::Shared(part);
        }
        run(lowering, &repeat.body, env)?;
        for slice in repeat.slices.iter().filter(|s| s.written) {
            let part = elements(env, slice.part)?;
            let mut whole = env.take(slice.whole, &lowering.values[slice.whole as usize].ty);
            whole[range(lowering, slice, i, count)].copy_from_slice(&part);
            env.put(slice.whole, whole);
        }
        for (carry, state) in repeat.carries.iter().zip(&mut states) {
            *state = elements(env, carry.next)?;
        }
    }
    for (carry, state) in repeat.carries.iter().zip(states) {
        env.slots[carry.last as usize] = Slot::Shared(state);
    }
    Ok(())
}

/// The bytes of the whole that are the part in iteration `i`.
fn range(lowering: &Lowering, slice: &Slice, i: usize, count: usize) -> std::ops::Range<usize> {
    let bytes = lowering.values[slice.part as usize].ty.bytes();
    let position = if slice.reversed { count - 1 - i } else { i };
    position * bytes..(position + 1) * bytes
}
