//! The model where a size is 1, where one that may be is 0, and where data decide that sizes are 0 or 1: no sample shows
//! what is special there, since 1 broadcasts and 0 leaves nothing to compute.

use super::{AT_BOUNDS, SMALLEST, Sizer, Sizes, over};
use crate::build::Silent;
use crate::error::{Error, Result};
use crate::graph::{Graph, SAMPLE_OF_NONE, SAMPLE_OF_ONE};
use crate::sizes::Single;
use std::collections::HashSet;
use std::sync::Arc;

/// Why a dimension cannot be 0.
pub(super) fn not_empty(names: &str, reason: &str) -> Error {
    Error::model(format!("dimension '{names}' cannot be 0 at run time: {reason}")).advise(format!(
        "Leave it from 1 on, and compile what is computed without it as a model of its own, with --dim {names}=0"
    ))
}

impl Sizer<'_> {
    /// What may be 0 is a dimension that the caller gives by itself.
    fn check_empty(&self) -> Result<()> {
        let is_given = |name: &&String| self.free.contains_key(*name) && !self.hidden.contains_key(*name);
        match self.bindings.empty.iter().find(|name| !is_given(name)) {
            Some(name) => Err(not_empty(name, "it is the sum or a multiple of others, or has no bound")),
            None => Ok(()),
        }
    }

    /// Types the model for these sizes. Conditions that say something else at the bounds are left open.
    pub(super) fn look_at_small(&mut self, bounds: &Sizes) -> Result<()> {
        self.check_empty()?;
        let Ok((at_bounds, _)) = self.typed(bounds, AT_BOUNDS, &Silent) else { return Ok(()) };
        self.given.lengths = Arc::new(at_bounds.numbers.iter().cloned().collect());
        self.type_small(bounds)?;
        let names: HashSet<String> = at_bounds.decided.iter().map(|(name, _)| name.clone()).collect();
        let said: HashSet<(String, bool)> = at_bounds.decided.into_iter().collect();
        let decided = self.small().flat_map(|graph| &graph.decided);
        let open = decided.filter(|said_small| names.contains(&said_small.0) && !said.contains(*said_small));
        self.given.open = Arc::new(open.map(|(name, _)| name.clone()).collect());
        match self.given.open.is_empty() {
            true => Ok(()),
            false => self.type_small(bounds),
        }
    }

    fn type_small(&mut self, bounds: &Sizes) -> Result<()> {
        let typed = |sizes: &Sizes, number| {
            let Ok((graph, _)) = self.typed(sizes, number, &Silent) else { return Ok(None) };
            let is_apart = number != AT_BOUNDS;
            Ok(Some(Single { sizes: self.bindings.with_sums(sizes.clone())?, graph, is_apart }))
        };
        let several = self.free.iter().filter(|(_, bound)| **bound >= SMALLEST);
        let one = |(name, _): (&String, &usize)| {
            let sizes = over(bounds, [(name.clone(), 1)].into_iter().collect());
            Ok((name.clone(), typed(&sizes, AT_BOUNDS)?))
        };
        let ones = several.map(one).collect::<Result<_>>()?;
        let of_data = [SAMPLE_OF_NONE, SAMPLE_OF_ONE].map(|number| typed(bounds, number));
        let of_data = of_data.into_iter().collect::<Result<Vec<_>>>()?;
        (self.ones, self.of_data) = (ones, of_data.into_iter().flatten().collect());
        self.empty = self.where_empty(bounds)?;
        Ok(())
    }

    /// The model where dimensions that may be are 0: each of them alone, and all.
    fn where_empty(&self, bounds: &Sizes) -> Result<Vec<(String, Single)>> {
        let names: Vec<&String> = self.bindings.empty.iter().collect();
        let all = (names.len() > 1).then(|| names.clone());
        let typed = |empty: Vec<&String>| {
            let sizes = over(bounds, empty.iter().map(|name| (name.to_string(), 0)).collect());
            let names = empty.iter().map(|name| name.as_str()).collect::<Vec<_>>().join("', '");
            let typed = self.typed(&sizes, AT_BOUNDS, &Silent);
            let (graph, _) = typed.map_err(|error| not_empty(&names, &error.to_string()))?;
            Ok((names, Single { sizes: self.bindings.with_sums(sizes)?, graph, is_apart: true }))
        };
        names.iter().map(|name| vec![*name]).chain(all).map(typed).collect()
    }

    /// The model at small sizes: where dimensions are 1, where data decide, where dimensions are 0.
    pub(super) fn singles(&self) -> impl Iterator<Item = &Single> {
        self.ones.values().flatten().chain(&self.of_data).chain(self.empty.iter().map(|empty| &empty.1))
    }

    /// The graphs of small sizes.
    pub(super) fn small(&self) -> impl Iterator<Item = &Graph> {
        self.singles().map(|single| &single.graph)
    }
}
