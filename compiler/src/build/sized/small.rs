//! The model where a size is 1, and where data decide that sizes are 0 or 1: no sample shows what is special there, since
//! 1 broadcasts and 0 leaves nothing to compute.

use super::{AT_BOUNDS, SMALLEST, Sizer, Sizes, over};
use crate::build::Silent;
use crate::error::Result;
use crate::graph::{Graph, SAMPLE_OF_NONE, SAMPLE_OF_ONE};
use crate::sizes::Single;
use std::collections::HashSet;
use std::sync::Arc;

impl Sizer<'_> {
    /// Types the model for these sizes. Conditions that say something else at the bounds are left open.
    pub(super) fn look_at_small(&mut self, bounds: &Sizes) -> Result<()> {
        let Ok((at_bounds, _)) = self.typed(bounds, AT_BOUNDS, &Silent) else { return Ok(()) };
        self.given.lengths = Arc::new(at_bounds.numbers.iter().cloned().collect());
        self.type_small(bounds)?;
        let names: HashSet<String> = at_bounds.decided.iter().map(|(name, _)| name.clone()).collect();
        let said: HashSet<(String, bool)> = at_bounds.decided.into_iter().collect();
        // Within a body nothing is computed instead: then a dimension is not 1, and where data decide it is an error.
        let around: HashSet<&str> = at_bounds.values.iter().map(|v| v.name.as_str()).collect();
        let ones = self.ones.values().flatten().flat_map(|one| &one.graph.decided);
        let ones = ones.filter(|(name, _)| around.contains(name.as_str()));
        let decided = ones.chain(self.of_data.iter().flat_map(|single| &single.graph.decided));
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
        Ok(())
    }

    /// The graphs of small sizes.
    pub(super) fn small(&self) -> impl Iterator<Item = &Graph> {
        self.ones.values().flatten().chain(&self.of_data).map(|single| &single.graph)
    }
}
