//! Definitions that write into the middle of a padded tensor, with the definitions of its rim.
//!
//! Windows over bytes read a rim of zero points (`crate::group`), which definitions of their own write:
//! constants, at places that the producer leaves free. Here they belong to the producer: a window of its
//! rows is filled with the constant once, and keeps a rim beside each row.

use super::chain::Part;
use crate::definition::{Stage, ValueId};
use crate::group::{frames, rim};
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
            Stage::Define(d) => frames.get(&d.output.value).map(|f| (d.output.value, f.fill)),
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
