//! Definitions that write into the middle of a padded tensor, with the definitions of its rim.
//!
//! Windows over bytes read a rim of zero points (`crate::group`), which definitions of their own write:
//! constants, at places that the producer leaves free. Here they belong to the producer: a window of its
//! rows is filled with the constant once, and keeps a rim beside each row.

use super::chain::Part;
use crate::definition::{Definition, Expr, Stage, ValueId};
use crate::scalar::Scalar;
use std::collections::HashMap;

/// A stage, and behind it those that write the rim around what it writes.
pub struct Unit {
    pub stages: Vec<Stage>,
    /// What the rim holds, if there is one.
    frame: Option<Scalar>,
}

impl Unit {
    /// The definition, with its frame.
    pub fn part(&self) -> Option<Part<'_>> {
        match self.stages.first()? {
            Stage::Define(def) => Some(Part { def, frame: self.frame }),
            _ => None,
        }
    }

    pub fn reads(&self) -> Vec<ValueId> {
        self.stages.iter().flat_map(Stage::reads).collect()
    }

    /// Each value once.
    pub fn writes(&self) -> Vec<ValueId> {
        let mut values: Vec<ValueId> = self.stages.iter().flat_map(Stage::writes).collect();
        values.sort_unstable();
        values.dedup();
        values
    }
}

/// Rims are written directly behind what they surround, in the same order otherwise.
pub fn units(stages: Vec<Stage>) -> Vec<Unit> {
    let frames = frames(&stages);
    let mut units: Vec<Unit> = Vec::new();
    let mut place: HashMap<ValueId, usize> = HashMap::new();
    let mut rims: Vec<(ValueId, Stage)> = Vec::new();
    for stage in stages {
        let framed = match &stage {
            Stage::Define(d) => frames.get(&d.output.value).map(|f| (d.output.value, *f)),
            _ => None,
        };
        match (framed, rim(&stage)) {
            (Some((value, _)), Some(_)) => rims.push((value, stage)),
            (Some((value, fill)), None) => {
                place.insert(value, units.len());
                units.push(Unit { stages: vec![stage], frame: Some(fill) });
            }
            (None, _) => units.push(Unit { stages: vec![stage], frame: None }),
        }
    }
    for (value, stage) in rims {
        if let Some(unit) = place.get(&value).and_then(|&at| units.get_mut(at)) {
            unit.stages.push(stage);
        }
    }
    units
}

/// The values that one definition writes but for a rim of one constant.
fn frames(stages: &[Stage]) -> HashMap<ValueId, Scalar> {
    let mut writers: HashMap<ValueId, Vec<&Stage>> = HashMap::new();
    for stage in stages {
        stage.writes().into_iter().for_each(|v| writers.entry(v).or_default().push(stage));
    }
    let frame = |(value, stages): (ValueId, Vec<&Stage>)| {
        let (around, within): (Vec<&Stage>, Vec<&Stage>) = stages.into_iter().partition(|s| rim(s).is_some());
        let [Stage::Define(middle)] = within.as_slice() else { return None };
        let mut rims = around.into_iter().filter_map(rim);
        let (first, fill) = rims.next()?;
        let same = std::iter::once((first, fill)).chain(rims).all(|(d, f)| f == fill && apart(middle, d));
        let own = middle.operands.iter().any(|o| o.value == value);
        (same && !own && !middle.has_sizes()).then_some((value, fill))
    };
    writers.into_iter().filter_map(frame).collect()
}

/// A definition that stores one constant.
fn rim(stage: &Stage) -> Option<(&Definition, Scalar)> {
    match stage {
        Stage::Define(d) if d.operands.is_empty() && d.fold.is_none() && !d.has_sizes() => {
            match d.exprs.get(d.finish as usize) {
                Some(Expr::Const(fill)) => Some((d, *fill)),
                _ => None,
            }
        }
        _ => None,
    }
}

/// Whether two definitions store different elements, for along some dimension they are apart.
fn apart(a: &Definition, b: &Definition) -> bool {
    let range = |d: &Definition, dim: usize| d.store[dim].range(|v| d.vars[v as usize].extent);
    (0..a.store.len()).any(|dim| {
        let ((a_low, a_high), (b_low, b_high)) = (range(a, dim), range(b, dim));
        a_high < b_low || b_high < a_low
    })
}
