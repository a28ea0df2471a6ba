//! The operators: one file each (families share one), one row each in `table.rs`.
//!
//! A row says how an operator's types are inferred and how it is lowered: to definitions (loops),
//! to simpler nodes (`Expand`), or, for control flow, by later stages. Semantics are stated
//! nowhere else: constant folding interprets the operator's own definitions.

mod activation;
mod builder;
mod cast;
mod chosen;
mod compositions;
mod control;
mod distinct;
mod elementwise;
pub(crate) mod emit;
mod frame;
mod heap;
mod ml;
mod nn;
mod movement;
mod random;
mod reduce;
mod require;
pub(crate) mod routine;
mod scan;
mod scatter;
mod sized;
mod structure;
mod suppress;
mod table;
mod top_k;

pub use builder::{Pending, is_computed};
pub use elementwise::is_elementwise;
pub use nn::flex_attention;
pub use nn::matmul::broadcast;
pub use nn::matmul_nbits::SPLIT;
pub use table::{data_decide, data_decide_sizes, decides_size, find, rows};

// The types of a row are the graph's, whose nodes point at rows.
pub use crate::graph::{Ctx, DefineFn, ExpandFn, InferFn, Lower, NodeBuilder, Operator};

#[cfg(test)]
mod older;
#[cfg(test)]
mod regressions;
/// The operator that `docs/adding-an-operator.md` adds.
#[cfg(test)]
#[path = "../../../tests/examples/row_center.rs"]
mod row_center;

#[cfg(test)]
mod tests {
    /// A name in the table twice would hide one of the rows.
    #[test]
    fn no_operator_is_listed_twice() {
        let mut names: Vec<_> = super::rows().map(|r| (r.domain, r.name)).collect();
        let all = names.len();
        names.sort();
        names.dedup();
        assert_eq!(all, names.len());
    }
}
