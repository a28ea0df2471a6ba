//! What a chain saves: the model of memory.
//!
//! What lies between two definitions is written once and read once, at the rate of the cache that it
//! fits; strips keep it in a nearer one, and take copies of the rows that are kept, calls, register tiles
//! that end with each row, and weights that are read again for each strip.

use super::chain::{Chain, Link};
use super::halves::is_half;
use super::rates::Rates;
use super::split::Cut;
use crate::base::TensorType;
use crate::definition::{Definition, Expr, Operand, ValueId};
use crate::schedule::{Prefer, Throughput, throughput};
use crate::target::Target;
use std::collections::BTreeMap;

/// Bytes that buffers are aligned to.
const LINE: usize = 64;
/// Points that a register tile loses at the end of each call.
const RAGGED: f64 = 1.5;
/// What strips may fill of the second-level cache, while whole tensors pass through half of it.
const STRIP: f64 = 0.75;
/// What must be left of the savings: the model is rough.
const SURE: f64 = 0.75;

/// The model for a target.
pub struct Costs<'a> {
    pub target: &'a Target,
    pub spend: Spend,
}

/// What strips may cost.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spend {
    /// What counts.
    pub prefer: Prefer,
    /// The share of the time by which strips for size may lose more than those for speed that may be lost, too.
    pub share: f64,
}

impl Spend {
    /// Hardly any time.
    pub fn fast() -> Spend {
        Spend { prefer: Prefer::Speed, share: 0.0 }
    }

    /// What memory is worth where bytes count.
    pub fn small() -> Spend {
        Spend { prefer: Prefer::Size, share: 1.0 }
    }
}

impl Costs<'_> {
    /// Cycles that strips save; negative where they cost.
    pub fn saved(&self, cut: &Cut) -> f64 {
        let pieces = cut.pieces() as f64;
        // What lies between the definitions of a piece may be near where that of the chain is not.
        let whole = self.passed(cut.whole()) - pieces * self.passed(&cut.chain);
        SURE * whole + pieces * self.of_strips(&cut.chain, &cut.rates)
    }

    /// Cycles that it takes to write what lies between the definitions of a chain, and to read it again.
    fn passed(&self, chain: &Chain) -> f64 {
        let between = chain.links.iter().take(chain.links.len() - 1);
        let bytes = between.map(|link| link.def.output.ty.bytes() as f64);
        bytes.map(|all| 2.0 * all / self.rate(all, 0.5)).sum()
    }

    /// Cycles that strips of a chain save.
    fn of_strips(&self, chain: &Chain, rates: &Rates) -> f64 {
        let last = chain.links.len() - 1;
        let strips = (rates.end - rates.first) as f64;
        let bytes = |ty: &TensorType| ty.bytes() as f64;
        let window = self.windows(chain, rates) as f64;
        let (mut kept, mut calls) = (0.0, 0.0);
        for (link, rows) in chain.links.iter().zip(&rates.rows).take(last) {
            let row = window_bytes(&link.def.output.ty) as f64 / link.def.output.ty.shape[link.dim] as f64;
            kept += row * rows.kept() as f64;
            calls += strips * f64::from(u8::from(rows.kept() > 0));
        }
        let (mut still, mut moving, mut ragged, mut twice) = (0.0, 0.0, 0.0, 0.0);
        for (link, rows) in chain.links.iter().zip(&rates.rows) {
            calls += strips * (rows.rate / rows.unit) as f64;
            ragged += self.cycles(&link.def) * RAGGED / (rows.unit * link.pixels) as f64;
            twice += self.cycles(&link.def) * rates.again as f64 / link.rows() as f64;
            let moves = |o: usize| link.reads.iter().find(|r| r.operand == o);
            for (o, operand) in link.def.operands.iter().enumerate() {
                match moves(o) {
                    None if found(&link.def, o) => {
                        moving += bytes(&operand.ty) * rows.rate as f64 / link.rows() as f64;
                    }
                    None => still += bytes(&operand.ty),
                    Some(read) if read.from.is_none() => {
                        let share = (read.step * rows.rate) as f64 / link.room(read) as f64;
                        moving += bytes(&operand.ty) * share.min(1.0);
                    }
                    Some(_) => {}
                }
            }
        }
        let output = &chain.links[last];
        moving += bytes(&output.def.output.ty) * rates.rows[last].rate as f64 / output.rows() as f64;
        let near = self.rate(window + moving + still, STRIP);
        let between = 2.0 * (whole_bytes(chain) + strips * kept) / near;
        let again = (strips - 1.0) * still / near.max(self.rate(still, STRIP));
        let words = chain.links.iter().any(|l| Self::multiplies_bytes(&l.def));
        let (call, of_words) = throughput(self.target).calls;
        let call = if words { of_words } else { call };
        // What lies beyond the caches with strips as well costs what it costs without.
        let sure = if near > throughput(self.target).far { SURE } else { 1.0 };
        sure * self.passed(chain) - between - again - calls * call - ragged - twice
    }

    /// Whether strips take no more memory than the definitions one after the other. `dying`: what no
    /// later stage wants.
    pub fn shrinks(&self, cut: &Cut, dying: &dyn Fn(ValueId) -> bool) -> bool {
        let chain = cut.whole();
        let last = chain.links.len() - 1;
        let mut until: BTreeMap<ValueId, (usize, usize)> = BTreeMap::new();
        for (i, link) in chain.links.iter().enumerate() {
            for operand in link.def.operands.iter().filter(|o| dying(o.value)) {
                until.insert(operand.value, (i, operand.ty.bytes()));
            }
        }
        let made = |v: &ValueId| chain.links.iter().any(|l| l.def.output.value == *v);
        let before: usize = until.iter().filter(|(v, _)| !made(v)).map(|(_, u)| u.1).sum();
        let output = chain.links[last].def.output.ty.bytes();
        let mut most = 0;
        for (i, link) in chain.links.iter().enumerate() {
            let bytes = link.def.output.ty.bytes();
            let there = |v: &ValueId| !made(v) || chain.links[..i].iter().any(|l| l.def.output.value == *v);
            let live = until.iter().filter(|(v, u)| u.0 >= i && there(v)).map(|(_, u)| u.1).sum::<usize>();
            let over = until.iter().any(|(_, u)| *u == (i, bytes)) && link.def.fold.is_none();
            most = most.max(live + if over { 0 } else { bytes });
        }
        before + output + self.windows(&cut.chain, &cut.rates) <= most
    }

    /// Bytes of the windows that are there at once, at most.
    pub fn windows(&self, chain: &Chain, rates: &Rates) -> usize {
        let last = chain.links.len() - 1;
        let bytes = |i: usize| {
            let ty = &chain.links[i].def.output.ty;
            let rows = rates.rows[i].window() as usize;
            (window_bytes(ty) / ty.shape[chain.links[i].dim] * rows).next_multiple_of(LINE)
        };
        let until: Vec<usize> =
            (0..last).map(|i| chain.readers(i).map(|(reader, _)| reader).max().unwrap_or(i)).collect();
        let there = |i: usize, at: usize| rates.rows[i].persists() || i <= at && at <= until[i];
        // What is computed point by point is written over what it reads.
        let over = |i: usize, at: usize| {
            let own = &rates.rows[at];
            let plain = at < last && chain.links[at].def.fold.is_none() && own.unit == own.rate;
            plain
                && until[i] == at
                && bytes(i) == bytes(at)
                && ![i, at].iter().any(|&l| rates.rows[l].persists())
        };
        let live = |at: usize| {
            let own = (0..last).find(|&i| over(i, at)).map_or(0, bytes);
            (0..last).filter(|&i| there(i, at)).map(bytes).sum::<usize>() - own
        };
        (0..=last).map(live).max().unwrap_or(0)
    }

    /// Bytes of the copies of rows that a definition reads over an edge of what lies outside of the chain.
    pub fn edges(&self, chain: &Chain) -> usize {
        let copied = |link: &Link| {
            let reads = link.reads.iter().filter(|r| r.from.is_none() && r.fill.is_some());
            let bytes = reads.map(|r| {
                let ty = &link.def.operands[r.operand].ty;
                let rows = (r.high - r.low + 1 + r.more) as usize;
                (ty.bytes() / ty.shape[r.dim] * rows).next_multiple_of(LINE)
            });
            bytes.sum()
        };
        chain.links.iter().map(copied).max().unwrap_or(0)
    }

    /// Cycles of a definition: of its arithmetic.
    pub fn cycles(&self, def: &Definition) -> f64 {
        let Throughput { multiplies, bytes, .. } = throughput(self.target);
        def.volume() as f64 / if Self::multiplies_bytes(def) { bytes } else { multiplies }
    }

    /// Whether a definition adds products of bytes.
    pub fn multiplies_bytes(def: &Definition) -> bool {
        let byte = |o: &Operand| o.ty.dtype.size() == 1;
        def.fold.is_some() && def.operands.iter().filter(|o| byte(o)).count() >= 2
    }

    /// Bytes per cycle of what is used over and over, where so much of the second-level cache is there for
    /// it.
    fn rate(&self, bytes: f64, share: f64) -> f64 {
        let Throughput { near, far, .. } = throughput(self.target);
        match bytes {
            b if b <= self.target.l1 as f64 / 2.0 => 2.0 * near,
            b if b <= self.target.l2 as f64 * share => near,
            _ => far,
        }
    }
}

/// Bytes of a tensor as it is kept in windows: half floats as `f32`.
fn window_bytes(ty: &TensorType) -> usize {
    if is_half(ty) { ty.elems() * size_of::<f32>() } else { ty.bytes() }
}

/// Whether the rows of an operand are looked up, so that each strip reads some of them: those between which it is
/// interpolated.
fn found(def: &Definition, operand: usize) -> bool {
    let mut loads = def.exprs.iter().filter_map(|expr| match expr {
        Expr::Load { operand: o, index, .. } if *o as usize == operand => Some(index),
        _ => None,
    });
    loads.all(|index| index.iter().any(|i| i.affine().is_none()))
}

/// Bytes of all that lies between the definitions.
fn whole_bytes(chain: &Chain) -> f64 {
    let last = chain.links.len() - 1;
    chain.links[..last].iter().map(|l| l.def.output.ty.bytes() as f64).sum()
}
