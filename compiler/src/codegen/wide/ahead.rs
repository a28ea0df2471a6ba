//! What the next tiles read is asked for while these are computed.
//!
//! A product's weights lie in panels: all rows' tiles read one, then the next. Where a model's weights are more
//! than the second-level cache keeps, the first rows of each panel wait for it line by line, since what a core
//! fetches of itself ahead ends where the panel is read again from its start. So beside each vector of a panel
//! goes a prefetch of its place in the next one:
//! ```text
//! for panel { for rows { for k {              vmovups zmm0, [panel + k]
//!     load panel[P * panel + 64 * k]          prefetcht1 [panel + k + 4 * P]
//! ```
//! Words in chains ([`crate::nest`]) are read from the first panel to the last, once for some rows: what a core
//! fetches of itself ends with each page, and so a place some lines further is asked for.
//!
//! A prefetch changes nothing and never faults: behind the last panel lie the next layer's weights, or nothing.

use crate::base::Bound;
use crate::tile::{Access, Kernel, LoopVar, Stmt, Value};
use std::collections::HashMap;

/// Bytes of a parameter from which on they are taken to come from beyond the second-level cache: the others of
/// the model push them out.
const LARGE: usize = 1 << 16;
/// How often a panel is read where prefetching the next one each time costs less than it gains.
const READ: std::ops::RangeInclusive<i64> = 2..=64;

/// Bytes from a place in a table to what is asked for meanwhile: some hundred cycles of products.
const FURTHER: i64 = 2048;

/// A loop around a statement.
struct Around {
    var: LoopVar,
    step: i64,
    /// How often it runs, at most.
    trips: Option<i64>,
    /// The parameter that says where it ends.
    ends: Option<u32>,
}

/// The loads beside which another place is asked for, by their statements' addresses, and how many bytes further
/// that place is.
pub fn places(kernel: &Kernel) -> HashMap<*const Stmt, i64> {
    let mut collect = Collect { kernel, around: Vec::new(), sizes: HashMap::new(), places: HashMap::new() };
    collect.all(&kernel.body);
    collect.places
}

struct Collect<'a> {
    kernel: &'a Kernel,
    around: Vec<Around>,
    /// The parameters that numbers are read from.
    sizes: HashMap<LoopVar, u32>,
    places: HashMap<*const Stmt, i64>,
}

impl Collect<'_> {
    fn all(&mut self, body: &[Stmt]) {
        for stmt in body {
            match stmt {
                Stmt::Let(reg, value) => {
                    let lanes = usize::from(self.kernel.regs[*reg as usize].lanes);
                    if let Some(bytes) = ahead(self.kernel, value, lanes, &self.around) {
                        self.places.insert(stmt, bytes);
                    }
                }
                Stmt::For { var, lo, hi, step, body } => {
                    let end =
                        |bound: &Bound| bound.0.iter().find(|form| form.is_constant()).map(|form| form.base);
                    let trips = end(lo).zip(end(hi)).map(|(lo, hi)| (hi - lo + step - 1) / step);
                    let mut vars = hi.0.iter().flat_map(|form| &form.terms);
                    let ends = vars.find_map(|(v, _)| self.sizes.get(v).copied());
                    self.around.push(Around { var: *var, step: *step, trips, ends });
                    self.all(body);
                    self.around.pop();
                }
                Stmt::If { then, otherwise, .. } => {
                    self.all(then);
                    self.all(otherwise);
                }
                Stmt::Size { var, from, body, .. } => {
                    self.sizes.insert(*var, from.param);
                    self.all(body);
                }
                Stmt::Loop { body } => self.all(body),
                Stmt::Store { .. } | Stmt::Break { .. } | Stmt::Fail { .. } => {}
            }
        }
    }
}

/// The bytes from a vector of a panel to its place in the next one.
fn ahead(kernel: &Kernel, value: &Value, lanes: usize, around: &[Around]) -> Option<i64> {
    let (addr, bytes) = match value {
        Value::Load(addr, 1) => (addr, lanes * kernel.params[addr.param as usize].dtype.size()),
        Value::LoadWords(addr, 4) => (addr, 4 * lanes),
        _ => return None,
    };
    let param = &kernel.params[addr.param as usize];
    let size = param.dtype.size();
    let begins = |line: i64| (addr.index.base * size as i64).rem_euclid(line) < bytes as i64;
    if addr.dynamic.is_some() || param.access != Access::Read || param.elems * size < LARGE {
        return None;
    }
    let moves = |l: &Around| addr.index.coefficient(l.var) * l.step * size as i64;
    if let Some(table) = around.last().filter(|l| l.ends == Some(addr.param)) {
        let line = moves(table).min(LINE);
        return (line >= bytes as i64 && lanes > 1 && begins(line)).then_some(FURTHER);
    }
    if !begins(LINE) {
        return None;
    }
    // From the innermost loop outwards: some that walk through the panel, some that read it again, the one that
    // goes to the next.
    let mut loops = around.iter().rev().peekable();
    let mut panel = bytes as i64;
    while let Some(l) = loops.next_if(|l| moves(l) != 0) {
        panel = panel.max(moves(l) * l.trips?);
    }
    let mut again = 1;
    while let Some(l) = loops.next_if(|l| moves(l) == 0) {
        again *= l.trips?;
    }
    let next = moves(loops.next()?);
    (READ.contains(&again) && next == panel && panel > LINE).then_some(next)
}

/// Bytes of a line of the caches.
const LINE: i64 = 64;
