//! Element-wise work done where a fold's result is still in registers: bias, activation, residual
//! addition, requantization.
//!
//! Before: `c[n,o,y,x] = sum(...)` and `r[n,o,y,x] = max(c[n,o,y,x] + b[o], 0)`. After: one
//! definition whose `finish` is `max(acc + b[o], 0)`. The same where a reshape lies between, which
//! numbers what the producer's axes do by one axis. Goldens: `tests/golden/group`.

use super::digits::digits;
use super::inline::affine_load;
use super::rewrite::{Copy, Var, keep, plain_var, same_vars, store_axes};
use crate::base::Affine;
use crate::definition::{Definition, ExprId};

/// The producer, which folds, with its only reader, which does not, in its `finish`; `None` where
/// the reader is not element-wise over the producer's output.
pub fn fuse(producer: &Definition, reader: &Definition) -> Option<Definition> {
    if producer.fold.is_none() || reader.fold.is_some() {
        return None;
    }
    let plain = store_axes(producer).is_some();
    if !plain && (producer.has_sizes() || reader.has_sizes() || digits(producer).is_none()) {
        return None;
    }
    let at = affine_load(reader, producer.output.value)?;
    // Each axis of the reader runs over a dimension of the producer's output: it is the producer's
    // axis of that dimension, or made of those that are its digits.
    let mut place: Vec<Option<Affine>> = (reader.vars.iter())
        .map(|v| (v.extent == 1 && v.size.is_none()).then(|| Affine::constant(0)))
        .collect();
    let shape = &producer.output.ty.shape;
    for ((form, at), &extent) in producer.store.iter().zip(&at).zip(shape) {
        let size = plain_var(form).and_then(|axis| producer.vars[axis as usize].size.as_ref());
        if extent == 1 && size.is_none() {
            continue;
        }
        let var = plain_var(at)? as usize;
        let reads = &reader.vars[var];
        if (reads.extent, reads.size.as_ref()) != (extent, size) || place[var].is_some() {
            return None;
        }
        place[var] = Some(form.clone());
    }
    let place: Option<Vec<Affine>> = place.into_iter().collect();
    let place = place?;
    let (mut b, same) = same_vars(producer);
    let fold = producer.fold.as_ref()?;
    let body = Copy::new(producer, &same, None).expr(&mut b, fold.body, &mut keep)?;
    let acc = b.fold(fold.op, body);
    let result: ExprId = Copy::new(producer, &same, Some(acc)).expr(&mut b, producer.finish, &mut keep)?;
    let vars: Vec<Var> = place.iter().cloned().map(Var::Affine).collect();
    let value = producer.output.value;
    let finish = Copy::new(reader, &vars, None).expr(&mut b, reader.finish, &mut |_, operand, _, _| {
        (reader.operands[operand as usize].value == value).then_some(result)
    })?;
    let store = reader.store.iter().map(|f| f.map_vars(|v| place[v as usize].clone())).collect();
    Some(b.finish_at(&producer.name, reader.output.value, &reader.output.ty, store, finish))
}
