//! What the next tiles read is asked for while these are computed.
//!
//! A product's weights lie in panels: all rows' tiles read one, then the next. Where a model's weights are more
//! than the second-level cache keeps, the first rows of each panel wait for it line by line, since what a core
//! fetches of itself ahead ends where the panel is read again from its start. So each time a panel of P bytes is
//! read, a part of the next one is asked for: of R tiles of rows each takes an R-th.
//! ```text
//! for panel { for row in 0..R { for k {       vmovups zmm0, [panel + k]
//!     load panel[P * panel + 64 * k]          prefetcht1 [panel + P + row * P/R + k/R]
//! ```
//! Asked for by the first rows alone, it would come no sooner than these can wait for it. Words in chains
//! ([`crate::nest`]) are read from the first panel to the last, once for some rows: what a core
//! fetches of itself ends with each page, and so a place some lines further is asked for.
//!
//! The same is done where one row reads narrow weights from the first to the last, as decoders of language models do:
//! each takes an extension and a conversion (of couples of bytes, a product and an addition), so that what a core sees of
//! the instructions ahead is less than a page.
//!
//! A prefetch changes nothing and never faults: behind the last panel lie the next layer's weights, or nothing.

use crate::base::{Affine, Bound};
use crate::codegen::pointer::Asked;
use crate::schedule::asked;
use crate::tile::{Access, Addr, Kernel, LoopVar, Stmt, Value};
use std::collections::HashMap;

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

/// The places that are asked for beside loads, by the loads' statements.
pub fn places(kernel: &Kernel) -> Asked {
    let mut collect = Collect { kernel, around: Vec::new(), sizes: HashMap::new(), places: HashMap::new() };
    collect.all(&kernel.body);
    collect.places
}

struct Collect<'a> {
    kernel: &'a Kernel,
    around: Vec<Around>,
    /// The parameters that numbers are read from.
    sizes: HashMap<LoopVar, u32>,
    places: Asked,
}

impl Collect<'_> {
    fn all(&mut self, body: &[Stmt]) {
        for stmt in body {
            match stmt {
                Stmt::Let(reg, value) => {
                    let lanes = usize::from(self.kernel.regs[*reg as usize].lanes);
                    if let Some(addr) = ahead(self.kernel, value, lanes, &self.around) {
                        self.places.insert(stmt, addr);
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

/// The place that is asked for beside a vector of a panel.
fn ahead(kernel: &Kernel, value: &Value, lanes: usize, around: &[Around]) -> Option<Addr> {
    let (addr, bytes) = match value {
        Value::Load(addr, 1) => (addr, lanes * kernel.params[addr.param as usize].dtype.size()),
        Value::LoadWords(addr, 4) => (addr, 4 * lanes),
        Value::LoadCouples(addr) => (addr, 2 * lanes),
        _ => return None,
    };
    let param = &kernel.params[addr.param as usize];
    let size = param.dtype.size() as i64;
    let all = param.elems * size as usize;
    if addr.dynamic.is_some() || param.access != Access::Read || all < asked::LARGE {
        return None;
    }
    let panel = Panel { index: &addr.index, all, size, at: (addr.index.base * size, bytes as i64), around };
    let words = around.last().filter(|l| l.ends == Some(addr.param));
    let streamed = || panel.streamed().filter(|_| !matches!(value, Value::LoadWords(..)));
    let index = match words.map(|l| panel.moves(l)).or_else(streamed) {
        Some(step) => panel.further(step).filter(|_| lanes > 1),
        None => spread(&panel),
    }?;
    Some(Addr { index, ..addr.clone() })
}

/// A vector of a panel.
struct Panel<'a> {
    index: &'a Affine,
    /// Bytes of all panels.
    all: usize,
    /// Bytes of an element.
    size: i64,
    /// Its first byte, but for what loops move it, and its bytes.
    at: (i64, i64),
    around: &'a [Around],
}

impl Panel<'_> {
    /// Bytes by which an iteration of a loop moves it.
    fn moves(&self, l: &Around) -> i64 {
        self.index.coefficient(l.var) * l.step * self.size
    }

    /// Bytes of each iteration of the innermost loop, where all loops read narrow elements from the first to the last,
    /// each of them once.
    fn streamed(&self) -> Option<i64> {
        let step = self.moves(self.around.last()?);
        let mut next = step;
        let follows = |l: &Around| {
            let as_far = self.moves(l) == next;
            next *= l.trips.unwrap_or(0);
            as_far
        };
        let all = self.around.iter().rev().all(follows);
        (all && self.size <= NARROW && step >= LEAST).then_some(step)
    }

    /// The place some lines further, for the first of the vectors of each line that an iteration of so many bytes reads.
    fn further(&self, step: i64) -> Option<Affine> {
        let (line, (first, bytes)) = (step.min(LINE), self.at);
        let asks = line >= bytes && first.rem_euclid(line) < bytes;
        asks.then(|| Affine { base: self.index.base + FURTHER / self.size, ..self.index.clone() })
    }
}

/// Where in the next panel asks what reads a vector of this one, so that all who read it ask for the whole of that.
fn spread(panel: &Panel) -> Option<Affine> {
    let Panel { index, all, size, at, around } = *panel;
    let moves = |l: &&Around| index.coefficient(l.var) * l.step;
    // From the innermost loop outwards: some that walk through the panel, some that read it again, the one that
    // goes to the next.
    let walk: Vec<&Around> = around.iter().rev().take_while(|l| moves(l) != 0).collect();
    let mut outer = around.iter().rev().skip(walk.len()).peekable();
    let mut rows = Vec::new();
    while let Some(l) = outer.next_if(|l| moves(l) == 0) {
        rows.push(l);
    }
    let again = rows.iter().try_fold(1, |product, l| Some(product * l.trips?))?;
    let length = walk.iter().try_fold(at.1 / size, |length, l| Some(length.max(moves(l) * l.trips?)))?;
    let next = moves(&outer.next()?);
    if !asked::asks(all, again) || next != length || length * size <= LINE {
        return None;
    }
    let part = |elements: i64| (elements + again - 1) / again;
    let step = walk.first().map_or(length, |l| moves(l).abs());
    if at.0.rem_euclid(step * size) >= (part(step) * size).max(at.1) {
        return None;
    }
    let mut terms = index.terms.clone();
    terms.iter_mut().filter(|(var, _)| walk.iter().any(|l| l.var == *var)).for_each(|(_, c)| *c = part(*c));
    let mut covered = part(length);
    for l in rows {
        terms.push((l.var, (covered + l.step - 1) / l.step));
        covered *= l.trips?;
    }
    terms.sort_unstable();
    Some(Affine { base: index.base + next, terms })
}

/// Bytes of a line of the caches.
const LINE: i64 = 64;
/// Bytes of an element that is extended to a lane when it is read, at most.
const NARROW: i64 = 2;
/// Bytes of an iteration for which one more instruction is little.
const LEAST: i64 = 32;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tile::parse;
    use std::collections::BTreeSet;

    /// The lines of the buffer that all rows ask for while they read the first panel: the whole second one, and
    /// at most a third of it and a line of each row's part more.
    #[test]
    fn rows_ask_for_the_whole_next_panel() {
        for (rows, depth, unroll) in [(2, 64, 1), (3, 64, 1), (7, 60, 4), (16, 384, 3), (64, 64, 2)] {
            let panel: usize = 48 * depth;
            let loads = (0..3 * unroll)
                .map(|i| format!("%{i}: f32x16 = load b[{panel}*n + 48*k + {}]\n", 16 * i))
                .collect::<String>();
            let text = format!(
                "kernel panels fused {{ read b: f32[{}] write c: f32[16] vars n, m, k\nfor n in 0..8 {{\n\
                 for m in 0..{} step 8 {{\nfor k in 0..{depth} step {unroll} {{\n{loads}}}\n}}\n}}\n}}",
                8 * panel,
                8 * rows
            );
            let kernel = parse(&text).unwrap_or_else(|e| panic!("{e}"));
            let places = places(&kernel);
            let mut lines = BTreeSet::new();
            for asked in places.values() {
                for m in 0..rows {
                    for k in (0..depth).step_by(unroll) {
                        let at = |v: u32, value: usize| asked.index.coefficient(v) * value as i64;
                        lines.insert((asked.index.base + at(1, 8 * m) + at(2, k)) / 16);
                    }
                }
            }
            let (first, end) = (panel as i64 / 16, 2 * panel as i64 / 16);
            assert!((first..end).all(|line| lines.contains(&line)), "{rows} rows: {lines:?}");
            let further = lines.iter().filter(|&&line| !(first..end).contains(&line)).count();
            assert!(further <= (end - first) as usize / 3 + rows, "{rows} rows: {further} lines further");
            assert!(places.len() <= (3 * unroll).div_ceil(rows), "{rows} rows: {} places", places.len());
        }
    }
}
