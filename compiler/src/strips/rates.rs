//! When each row of a chain is computed.
//!
//! In strip `t` a definition makes rows `rate * t + lead .. rate * (t + 1) + lead` of those that exist.
//! Its readers look back to row `rate * t + back`; rows from there on are kept, in a window that moves on
//! by `rate` rows with each strip. Nothing is computed twice, but where rows depend on nothing else: there the last
//! strip is as long as the others and begins among the rows of the one before, so that all call the same kernels.

use super::chain::Chain;
use crate::base::gcd;
use crate::scalar::Scalar;

/// The rows of one definition.
#[derive(Clone, Debug)]
pub struct Rows {
    /// Rows per strip.
    pub rate: i64,
    /// Rows made ahead.
    pub lead: i64,
    /// The oldest row that is read, as `lead` counts.
    pub back: i64,
    /// Rows that one call of its kernel computes.
    pub unit: i64,
    /// What the window holds outside of the tensor, where readers look there.
    pub fill: Option<Scalar>,
    /// Rows behind the last that words reach into.
    pub more: i64,
}

impl Rows {
    /// Rows kept from strip to strip.
    pub fn kept(&self) -> i64 {
        self.lead - self.back
    }

    /// Rows of the window.
    pub fn window(&self) -> i64 {
        self.rate + self.kept() + self.more
    }

    /// Whether the window outlives a strip.
    pub fn persists(&self) -> bool {
        self.kept() > 0 || self.fill.is_some()
    }
}

/// The rows of all definitions of a chain, and the strips.
#[derive(Clone, Debug)]
pub struct Rates {
    pub rows: Vec<Rows>,
    /// The first strip, and one past the last.
    pub first: i64,
    pub end: i64,
    /// Rows that the last strip computes again.
    pub again: i64,
    /// Strips in which every definition makes all its rows and reads no edge, one past the last of them.
    pub steady: (i64, i64),
}

/// Points beside the vector axis that fill a register tile several times.
const PIXELS: i64 = 48;
/// Strips at the borders that are worth steps of their own.
const BORDERS: i64 = 6;

impl Rates {
    /// The rates where a strip has `rows` rows of the last definition.
    pub fn of(chain: &Chain, rows: i64) -> Option<Rates> {
        let last = chain.links.len() - 1;
        let by_rows = chain.by_rows();
        let mut list: Vec<Option<Rows>> = vec![None; chain.links.len()];
        for i in (0..chain.links.len()).rev() {
            let more = chain.readers(i).map(|(_, r)| r.more).max().unwrap_or(0);
            let mut own = Rows { rate: rows, lead: 0, back: 0, unit: 1, fill: chain.fill(i).ok()?, more };
            if i != last {
                let mut known: Option<(i64, i64, i64)> = None;
                for (reader, read) in chain.readers(i) {
                    let r = list[reader].as_ref()?;
                    let (lead, back) =
                        (read.step * (r.lead - 1) + read.high + 1, read.step * r.lead + read.low);
                    let (rate, most, least) = known.unwrap_or((read.step * r.rate, lead, back));
                    if rate != read.step * r.rate {
                        return None;
                    }
                    known = Some((rate, most.max(lead), least.min(back)));
                }
                let (rate, lead, back) = known?;
                (own.rate, own.lead, own.back) = (rate, lead.max(back), back);
            }
            own.unit = unit(chain, i, own.rate, own.lead, by_rows);
            own.lead = (own.lead + own.unit - 1).div_euclid(own.unit) * own.unit;
            list[i] = Some(own);
        }
        let list: Vec<Rows> = list.into_iter().collect::<Option<_>>()?;
        let ahead = |r: &Rows| (r.lead + r.rate - 1).div_euclid(r.rate).max(0);
        let first = -list.iter().map(ahead).max()?;
        let total = chain.links[last].rows();
        let end = (total + rows - 1) / rows;
        let again = if by_rows { end * rows - total } else { 0 };
        let mut rates = Rates { rows: list, first, end, again, steady: (0, 0) };
        let steady = |t: &i64| (0..chain.links.len()).all(|i| rates.is_steady(chain, i, *t));
        let begin = (first..end).find(steady)?;
        let after = (begin..end).find(|t| !steady(t)).unwrap_or(end);
        rates.steady = (begin, after);
        let borders = begin - first + end - after;
        (after - begin >= 2 && borders <= BORDERS).then_some(rates)
    }

    /// The rows that a definition makes in a strip, of those that exist.
    pub fn made(&self, chain: &Chain, link: usize, strip: i64) -> (i64, i64) {
        let r = &self.rows[link];
        let at = |t: i64| (r.rate * t + r.lead).clamp(0, chain.links[link].rows());
        (at(strip) - self.back(strip), at(strip + 1))
    }

    /// The first row of a definition's window in a strip.
    pub fn begin(&self, link: usize, strip: i64) -> i64 {
        self.rows[link].rate * strip + self.rows[link].back - self.back(strip)
    }

    /// Rows by which a strip begins before the end of the one before.
    fn back(&self, strip: i64) -> i64 {
        if strip + 1 == self.end { self.again } else { 0 }
    }

    fn is_steady(&self, chain: &Chain, link: usize, strip: i64) -> bool {
        let (from, to) = self.made(chain, link, strip);
        let inside = chain.links[link].inside();
        self.back(strip) == 0 && to - from == self.rows[link].rate && from >= inside.0 && to <= inside.1
    }
}

/// Rows per call of a kernel, the same in all strips, so that there is one kernel and one order of
/// weights: enough for its register tiles, and more where that makes no more rows ahead than few do.
fn unit(chain: &Chain, link: usize, rate: i64, lead: i64, by_rows: bool) -> i64 {
    let link = &chain.links[link];
    let common = if by_rows { rate } else { gcd(rate, link.rows()) };
    if link.inside() != (0, link.rows()) {
        return 1;
    }
    let mut divisors = (1..=common).filter(|u| common % u == 0);
    let few = divisors.clone().find(|u| u * link.pixels >= PIXELS).unwrap_or(common);
    let ahead = |u: i64| (lead + u - 1).div_euclid(u) * u;
    divisors.rfind(|&u| u >= few && ahead(u) <= ahead(few)).unwrap_or(few)
}
