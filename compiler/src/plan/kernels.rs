//! The kernels of a program: one per distinct definition, found again by what it computes.

use super::Request;
use super::draft::Draft;
use crate::base::abi;
use crate::error::{Error, Result};
use crate::nest::{Nested, nest};
use crate::schedule::{self, Like, Linear};
use crate::tile::{Kernel, backwards};
use std::collections::{HashMap, HashSet};
use std::rc::Rc;

/// The kernels so far.
pub(super) struct Kernels<'a> {
    request: &'a Request<'a>,
    /// By definition, its name left out; with how its weights are packed.
    nested: HashMap<Linear, (Rc<Nested>, Option<Like>)>,
    numbers: HashMap<Kernel, u32>,
    /// In the order of first use.
    pub list: Vec<Kernel>,
}

impl<'a> Kernels<'a> {
    pub(super) fn new(request: &'a Request<'a>) -> Self {
        Kernels { request, nested: HashMap::new(), numbers: HashMap::new(), list: Vec::new() }
    }

    /// The nest of a definition under the schedule chosen for the target.
    pub(super) fn nest(&mut self, linear: &Linear) -> Result<Rc<Nested>> {
        Ok(self.nest_packed(linear)?.0)
    }

    /// The same, with how it packs weights.
    pub(super) fn nest_packed(&mut self, linear: &Linear) -> Result<(Rc<Nested>, Option<Like>)> {
        let key = Linear { name: String::new(), ..linear.clone() };
        if let Some(known) = self.nested.get(&key) {
            return Ok(known.clone());
        }
        let schedule = (self.request.choose)(linear)?;
        (self.request.dump)("schedule", &|| Some(format!("{linear}{}", schedule.display(linear))));
        schedule::verify(&schedule, linear).map_err(|e| e.at("after schedule"))?;
        let nested = Rc::new(nest(linear, &schedule, self.request.target.fma, abi::ERR_INDEX)?);
        let nested = (nested, schedule.packs());
        self.nested.insert(key, nested.clone());
        Ok(nested)
    }

    /// The number of a kernel; equal ones, whatever their names, are kept once.
    pub(super) fn number(&mut self, kernel: &Kernel) -> u32 {
        let key = Kernel { name: String::new(), ..kernel.clone() };
        let next = self.list.len() as u32;
        let number = *self.numbers.entry(key).or_insert(next);
        if number == next {
            let name = format!("k{next}_{}", symbol(&kernel.name));
            self.list.push(Kernel { name, ..kernel.clone() });
        }
        number
    }

    /// Lets steps run backwards: of those whose direction matters, it is said which. Where all calls of a kernel may
    /// be turned, it is; otherwise there are two.
    pub(super) fn turn(&mut self, drafts: &mut [Draft], directions: &HashMap<usize, bool>) -> Result<()> {
        let mut forwards = HashSet::new();
        let mut calls = Vec::new();
        let mut step = 0;
        for draft in drafts.iter_mut() {
            let direction = directions.get(&step).copied();
            step += draft.count();
            match draft {
                Draft::Call { kernel, .. } => match direction {
                    Some(true) => calls.push(kernel),
                    Some(false) => _ = forwards.insert(*kernel),
                    None => {}
                },
                Draft::Repeat { body, .. } => called(body, &mut forwards),
            }
        }
        let mut turned: HashMap<u32, u32> = HashMap::new();
        for call in calls {
            let (number, next) = (*call, self.list.len() as u32);
            if let Some(&other) = turned.get(&number) {
                *call = other;
                continue;
            }
            let kernel = &self.list[number as usize];
            let mut other = backwards(kernel).ok_or_else(|| Error::bug("a kernel cannot run backwards"))?;
            let own = if forwards.contains(&number) { next } else { number };
            if own == next {
                other.name = format!("{}_backwards", other.name);
                self.list.push(other);
            } else {
                self.list[own as usize] = other;
            }
            turned.insert(number, own);
            *call = own;
        }
        Ok(())
    }
}

/// Adds the kernels that steps call.
fn called(drafts: &[Draft], kernels: &mut HashSet<u32>) {
    for draft in drafts {
        match draft {
            Draft::Call { kernel, .. } => _ = kernels.insert(*kernel),
            Draft::Repeat { body, .. } => called(body, kernels),
        }
    }
}

/// A kernel's name as part of a symbol.
fn symbol(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).take(40).collect()
}
