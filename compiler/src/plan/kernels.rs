//! The kernels of a program: one per distinct definition, found again by what it computes.

use super::Request;
use crate::base::abi;
use crate::error::Result;
use crate::nest::{Nested, nest};
use crate::schedule::{self, Linear};
use crate::tile::Kernel;
use std::collections::HashMap;
use std::rc::Rc;

/// The kernels so far.
pub(super) struct Kernels<'a> {
    request: &'a Request<'a>,
    /// By definition, its name left out.
    nested: HashMap<Linear, Rc<Nested>>,
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
        let key = Linear { name: String::new(), ..linear.clone() };
        if let Some(known) = self.nested.get(&key) {
            return Ok(known.clone());
        }
        let schedule = (self.request.choose)(linear)?;
        (self.request.dump)("schedule", &|| format!("{linear}{}", schedule.display(linear)));
        schedule::verify(&schedule, linear).map_err(|e| e.at("after schedule"))?;
        let nested = Rc::new(nest(linear, &schedule, self.request.target.fma, abi::ERR_INDEX)?);
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
}

/// A kernel's name as part of a symbol.
fn symbol(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).take(40).collect()
}
