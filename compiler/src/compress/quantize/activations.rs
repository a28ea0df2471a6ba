//! Activations that are computed by tables: what they read is quantized, too.
//!
//! Before: a product's result goes through SiLU in floats and is then quantized. After: it is quantized
//! before as well, so that a byte determines a byte, and the compiler makes 256 bytes of the function.
//! That takes a function of one value that is costly in floats; Relu and Clip are the range itself.

use super::facts::{CARRIERS, COSTLY, Facts, Origins, is_unary};
use std::collections::{BTreeSet, HashMap};

/// So many other element-wise operators take as long as one of those (HardSwish in parts).
const MANY: usize = 4;

/// What the search reads.
pub(super) struct Search<'a> {
    /// The graph.
    pub facts: &'a Facts<'a>,
    /// Where values come from.
    pub origins: &'a Origins,
    /// By value, the nodes that read it.
    pub readers: &'a HashMap<String, Vec<usize>>,
    /// Nodes that are products.
    pub products: &'a BTreeSet<usize>,
    /// Nodes that are left alone.
    pub float: &'a BTreeSet<usize>,
}

impl Search<'_> {
    /// Values that activations read which end in quantized values, `wanted`, alone.
    pub(super) fn inputs(&self, wanted: &BTreeSet<String>) -> Vec<String> {
        let (nodes, mut found) = (&self.facts.onnx.nodes, Vec::new());
        for (i, node) in nodes.iter().enumerate() {
            let joins = CARRIERS.contains(&node.op()) && self.facts.data(node).len() > 1;
            let start = node.output();
            if self.float.contains(&i)
                || wanted.contains(start)
                || !(self.products.contains(&i) || joins && self.origins.of(start) == start)
            {
                continue;
            }
            let from = self.after_channels(start);
            let region = self.region(from, wanted);
            if !wanted.contains(from) && region.is_some_and(|r| self.is_costly(&r)) {
                found.push(from.to_string());
            }
        }
        found
    }

    /// The value after additions and products of constants that differ by channel, which no table holds.
    fn after_channels<'v>(&'v self, start: &'v str) -> &'v str {
        let mut value = start;
        while let Some([reader]) = self.readers.get(value).map(Vec::as_slice) {
            let Some(node) = self.facts.onnx.nodes.get(*reader) else { break };
            let channels = node.inputs.iter().any(|n| self.facts.constant_elements(n) > 1);
            if !channels || !is_unary(node.op()) || node.op() == "PRelu" {
                break;
            }
            value = node.output();
        }
        value
    }

    /// The element-wise nodes from a value on to quantized ones, if nothing else reads any of it.
    fn region(&self, from: &str, wanted: &BTreeSet<String>) -> Option<BTreeSet<usize>> {
        let (nodes, mut region) = (&self.facts.onnx.nodes, BTreeSet::new());
        let (mut inside, mut open) = (BTreeSet::from([from]), vec![from]);
        while let Some(value) = open.pop() {
            for &reader in self.readers.get(value)? {
                let node = nodes.get(reader)?;
                let channels = node.inputs.iter().any(|n| self.facts.constant_elements(n) > 1);
                if !is_unary(node.op()) || channels || self.float.contains(&reader) {
                    return None;
                }
                region.insert(reader);
                if !wanted.contains(node.output()) && inside.insert(node.output()) {
                    open.push(node.output());
                }
            }
        }
        let closed = |&i: &usize| self.facts.data(&nodes[i]).iter().all(|d| inside.contains(d));
        region.iter().all(closed).then_some(region)
    }

    fn is_costly(&self, region: &BTreeSet<usize>) -> bool {
        let nodes = &self.facts.onnx.nodes;
        region.len() >= MANY || region.iter().any(|&i| COSTLY.contains(&nodes[i].op()))
    }
}
