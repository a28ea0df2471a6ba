//! Weights that several definitions read, each of which would pack them for tiles of its own.
//!
//! A detector's head is applied to maps of five sizes; each size would like other tiles, and so another copy of the
//! weights. The definition that has most of the work decides how they are packed, and the others follow where that
//! costs them little ([`crate::schedule::Like`]).

use crate::definition::ValueId;
use crate::schedule::Like;
use crate::schedule::linear::{Linear, Node};
use std::collections::{BTreeMap, HashMap};

/// Bytes of packed weights from which on a second copy counts.
const LARGE: usize = 1024;

/// What a definition reads of a constant: its value, where it begins, and steps with their extents.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Part {
    value: ValueId,
    base: i64,
    steps: Vec<(i64, usize)>,
}

impl Part {
    /// What a definition reads of an operand, a value from `begin` on; `None` where it reads that in two ways.
    pub(super) fn of(linear: &Linear, operand: u32, (value, begin): (ValueId, usize)) -> Option<Part> {
        let mut loads = linear.nodes.iter().filter_map(|n| match n {
            Node::Load { operand: o, addr, dynamic, .. } if *o == operand => {
                dynamic.is_empty().then_some(addr)
            }
            _ => None,
        });
        let addr = loads.next().filter(|_| loads.next().is_none())?;
        let mut steps: Vec<(i64, usize)> = addr
            .terms
            .iter()
            .map(|&(v, step)| (step, linear.vars.get(v as usize).map_or(0, |v| v.extent)))
            .collect();
        steps.sort_unstable();
        Some(Part { value, base: begin as i64 + addr.base, steps })
    }
}

/// How parts of constants are packed, with the work of the definitions that decide that.
#[derive(Default)]
pub(super) struct Leads(HashMap<Part, (Like, u64)>);

impl Leads {
    /// Whether no part has two forms.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How a definition of so much work packs a part, if another one decides that.
    pub(super) fn like(&self, part: &Part, work: u64) -> Option<Like> {
        self.0.get(part).map(|(like, leading)| like.followed(work, *leading))
    }
}

/// The packed forms of constants so far.
#[derive(Default)]
pub(super) struct Packed {
    forms: BTreeMap<Part, Vec<Form>>,
}

struct Form {
    /// Multiply-adds of the definitions that read it.
    work: u64,
    /// The buffer that it lies in.
    buffer: usize,
    like: Like,
}

impl Packed {
    /// Adds a definition of so much work that reads a part of a constant from a buffer of so many bytes.
    pub(super) fn add(
        &mut self,
        part: Option<Part>,
        work: u64,
        (buffer, bytes): (usize, usize),
        like: Option<Like>,
    ) {
        let (Some(part), Some(like), true) = (part, like, bytes >= LARGE) else { return };
        let forms = self.forms.entry(part).or_default();
        match forms.iter_mut().find(|form| form.buffer == buffer) {
            Some(form) => form.work = form.work.saturating_add(work),
            None => forms.push(Form { work, buffer, like }),
        }
    }

    /// Of constants that lie there in several forms, the one with the most work.
    pub(super) fn leads(self) -> Leads {
        let several = self.forms.into_iter().filter(|(_, forms)| forms.len() > 1);
        let most = |forms: Vec<Form>| forms.into_iter().max_by_key(|form| form.work);
        let lead = |forms| most(forms).map(|form| (form.like, form.work));
        Leads(several.filter_map(|(part, forms)| Some((part, lead(forms)?))).collect())
    }
}
