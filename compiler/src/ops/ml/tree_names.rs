//! Attributes of tree ensembles: lists of numbers, and nodes by the names that other lists call them.

use crate::error::{Error, Result};
use crate::graph::Attr;
use crate::ops::Ctx;
use crate::ops::emit::numbers;
use std::collections::HashMap;

/// Numbers of an attribute that may be floats or, as `NAME_as_tensor`, a tensor.
pub fn floats(ctx: &Ctx, name: &str) -> Result<Vec<f64>> {
    for key in [name.to_string(), format!("{name}_as_tensor")] {
        match ctx.attrs().0.get(&key) {
            Some(Attr::Floats(v)) if !v.is_empty() => return Ok(v.iter().map(|&x| f64::from(x)).collect()),
            Some(Attr::Tensor(t)) => return numbers(t),
            _ => {}
        }
    }
    Ok(Vec::new())
}

/// Integers of an attribute; none where it is missing.
pub fn ints<'a>(ctx: &Ctx<'a>, name: &str) -> Result<&'a [i64]> {
    Ok(ctx.attrs().get_ints(name)?.unwrap_or(&[]))
}

/// An error of the model: what is wrong with its trees.
pub fn bad(what: &str) -> Error {
    Error::model(format!("the trees are not valid: {what}"))
}

/// The number of a feature.
pub fn feature(number: i64) -> Result<u32> {
    u32::try_from(number).map_err(|_| bad("a feature is negative"))
}

/// Where the nodes are that are named by a tree and a number in it. Mostly these stand in order, without gaps.
pub(super) struct Places<'a> {
    pub(super) ids: &'a [i64],
    /// Positions, sorted by tree and number.
    pub(super) order: Vec<u32>,
    /// Each tree's part of these.
    pub(super) parts: HashMap<i64, (usize, usize)>,
}

impl<'a> Places<'a> {
    pub(super) fn new(trees: &'a [i64], ids: &'a [i64]) -> Result<Self> {
        let key = |&i: &u32| (trees[i as usize], ids[i as usize]);
        let mut order: Vec<u32> = (0..trees.len() as u32).collect();
        if !order.is_sorted_by_key(key) {
            order.sort_by_key(key);
        }
        if order.windows(2).any(|w| key(&w[0]) == key(&w[1])) {
            return Err(bad("two nodes of a tree have one number"));
        }
        let mut parts: HashMap<i64, (usize, usize)> = HashMap::new();
        let mut begin = 0;
        for part in order.chunk_by(|a, b| key(a).0 == key(b).0) {
            parts.insert(key(&part[0]).0, (begin, begin + part.len()));
            begin += part.len();
        }
        Ok(Places { ids, order, parts })
    }

    /// The position of a node.
    pub(super) fn find(&self, tree: i64, id: i64) -> Option<usize> {
        let &(begin, end) = self.parts.get(&tree)?;
        let part = &self.order[begin..end];
        let of = |i: &u32| self.ids[*i as usize];
        let guess = id.checked_sub(of(part.first()?)).and_then(|i| usize::try_from(i).ok());
        let guess = guess.and_then(|i| part.get(i)).filter(|i| of(i) == id);
        let found = guess.or_else(|| part.binary_search_by_key(&id, of).ok().map(|i| &part[i]));
        found.map(|&i| i as usize)
    }
}

/// The numbers of nodes by their names in attributes.
pub struct Numbers<'a> {
    pub(super) places: Places<'a>,
    /// By position.
    pub(super) numbers: Vec<u32>,
    pub(super) inner: u32,
}

impl Numbers<'_> {
    pub(super) fn of(&self, tree: i64, id: i64) -> Option<u32> {
        self.places.find(tree, id).map(|i| self.numbers[i])
    }

    /// Which leaf.
    pub fn leaf(&self, tree: i64, id: i64) -> Option<usize> {
        Some(self.of(tree, id)?.checked_sub(self.inner)? as usize)
    }
}
