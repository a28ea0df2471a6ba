//! What a softmax divides each row by is multiplied by sums over the row, not by each of its elements.
//!
//! Before: `p[m, k] = e[m, k] * s[m]` and `y[m, n] = sum(k) p[m, k] * v[k, n]`, as attention has it, where `e` is an
//! exponential of nothing positive and `s` the reciprocal of its sum. After:
//! `y[m, n] = s[m] * sum(k) e[m, k] * v[k, n]`: a pass over the largest tensor of a long sequence less. Golden:
//! `tests/golden/group/attention.txt`.

use super::element;
use super::hoist::hoisted;
use super::rewrite::{replace_loads, store_axes};
use crate::definition::{Definition, Expr, ExprId, Stage, ValueId};
use crate::scalar::{Fold, Op};

/// Moves shares behind sums, in loops as well.
pub(super) fn hoist_shares(stages: &mut Vec<Stage>, outputs: &[ValueId]) {
    for stage in stages.iter_mut() {
        if let Stage::Repeat(repeat) = stage {
            let wanted = repeat.exit();
            hoist_shares(&mut repeat.body, &wanted);
        }
    }
    let mut at = 0;
    while at < stages.len() {
        match without(stages, at, outputs) {
            Some(readers) => {
                readers.into_iter().for_each(|(i, def)| stages[i] = Stage::Define(def));
                stages.remove(at);
            }
            None => at += 1,
        }
    }
}

/// The readers of a softmax's last stage as they are without it; `None` where that is something else or has to be there.
fn without(stages: &[Stage], at: usize, outputs: &[ValueId]) -> Option<Vec<(usize, Definition)>> {
    let Stage::Define(scaled) = &stages[at] else { return None };
    let share = shares(stages, scaled)?;
    let value = scaled.output.value;
    if outputs.contains(&value) || writer(stages, value).is_none() {
        return None;
    }
    let mut readers = Vec::new();
    for (i, stage) in stages.iter().enumerate().filter(|(_, s)| s.reads().contains(&value)) {
        let Stage::Define(reader) = stage else { return None };
        let is_share = |def: &Definition, e: ExprId| loaded(def, e) == Some(share);
        readers.push((i, hoisted(&inlined(reader, scaled)?, &|def, _, (_, scale)| is_share(def, scale))?));
    }
    (!readers.is_empty()).then_some(readers)
}

/// The shares by which a definition multiplies the exponentials that they are of.
fn shares(stages: &[Stage], scaled: &Definition) -> Option<ValueId> {
    let [a, b] = operands(scaled, scaled.finish, Op::Mul).filter(|_| scaled.fold.is_none())?;
    let [a, b] = [loaded(scaled, a)?, loaded(scaled, b)?];
    let of = |share: ValueId, exponential: ValueId| {
        let (share, exponential) = (writer(stages, share)?, writer(stages, exponential)?);
        let fold = share.fold.as_ref().filter(|f| f.op == Fold::Sum)?;
        let [one, sum] = operands(share, share.finish, Op::Div)?;
        let Expr::Op(Op::Exp, args) = &exponential.exprs[exponential.finish as usize] else { return None };
        let [_, most] = operands(exponential, args[0], Op::Sub)?;
        let largest = writer(stages, loaded(exponential, most)?)?.fold.as_ref()?;
        let reciprocal = matches!(&share.exprs[one as usize], Expr::Const(c) if c.to_f64() == 1.0)
            && share.exprs[sum as usize] == Expr::Acc;
        let own = loaded(share, fold.body) == Some(exponential.output.value);
        (reciprocal && own && largest.op == Fold::Max).then_some(share.output.value)
    };
    of(a, b).or_else(|| of(b, a))
}

/// The only definition that writes a value.
fn writer(stages: &[Stage], value: ValueId) -> Option<&Definition> {
    let mut writers = stages.iter().filter(|stage| match stage {
        Stage::Define(def) => def.output.value == value,
        other => other.writes().contains(&value),
    });
    match (writers.next()?, writers.next()) {
        (Stage::Define(def), None) => Some(def),
        _ => None,
    }
}

/// The two operands of an operation.
fn operands(def: &Definition, e: ExprId, op: Op) -> Option<[ExprId; 2]> {
    match &def.exprs[e as usize] {
        Expr::Op(o, args) if *o == op => args[..].try_into().ok(),
        _ => None,
    }
}

/// The value that an expression is an element of, inside of it.
fn loaded(def: &Definition, e: ExprId) -> Option<ValueId> {
    match &def.exprs[e as usize] {
        Expr::Load { operand, fill: None, .. } => Some(def.operands[*operand as usize].value),
        _ => None,
    }
}

/// The reader with an element-wise definition computed at each of its loads.
fn inlined(reader: &Definition, scaled: &Definition) -> Option<Definition> {
    let axes = store_axes(scaled)?;
    let mut possible = true;
    let inlined = replace_loads(reader, &mut |b, operand, index, fill| {
        if reader.operands[operand as usize].value != scaled.output.value {
            return None;
        }
        let element = if fill.is_none() { element::at(b, scaled, &axes, index, None) } else { None };
        possible &= element.is_some();
        element
    })?;
    possible.then_some(inlined)
}
