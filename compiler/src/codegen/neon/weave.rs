//! Words put together from bytes of several vectors.
//!
//! A kernel that multiplies bytes that lie apart shifts each to its place in a word and joins them:
//! `b0 | b1 << 8 | b2 << 16 | b3 << 24`. Here the bytes stay as they were loaded until the words are
//! needed, and two levels of `zip` then make four vectors of words from four of bytes.

use super::inst::VReg;
use super::select::{Form, Select};
use super::words;
use crate::tile::{Bin, Reg};

/// For each vector of bytes, those in the places of a word.
type Places = Vec<[Option<VReg>; 4]>;

impl Select<'_> {
    /// The form of a byte shifted to its place, or of places joined; `None` where it is neither.
    pub(super) fn weave(&self, op: Bin, a: Reg, b: Reg) -> Option<Form> {
        match op {
            Bin::Shl => {
                let by = self.constant_reg(b)?;
                let place = (by / 8) as usize;
                let Some(Form::Narrow { raw, bytes: 1, signed }) = self.form(a) else { return None };
                let fits = by % 8 == 0 && (1..4).contains(&place) && (!signed || place == 3);
                let only = |v: &VReg| {
                    let mut places = [None; 4];
                    places[place] = Some(*v);
                    places
                };
                fits.then(|| Form::Woven(raw.iter().map(only).collect()))
            }
            Bin::Or => {
                let (x, y) = (self.places(a)?, self.places(b)?);
                let join = |(x, y): (&[Option<VReg>; 4], &[Option<VReg>; 4])| {
                    let apart = x.iter().zip(y).all(|(x, y)| x.is_none() || y.is_none());
                    apart.then(|| std::array::from_fn(|i| x[i].or(y[i])))
                };
                x.iter().zip(&y).map(join).collect::<Option<Places>>().map(Form::Woven)
            }
            _ => None,
        }
    }

    fn places(&self, r: Reg) -> Option<Places> {
        match self.form(r)? {
            Form::Woven(places) => Some(places.clone()),
            Form::Narrow { raw, bytes: 1, signed: false } => {
                Some(raw.iter().map(|&v| [Some(v), None, None, None]).collect())
            }
            _ => None,
        }
    }

    /// So many vectors of words.
    pub(super) fn woven(&mut self, places: &[[Option<VReg>; 4]], count: usize) -> Vec<VReg> {
        let mut pairs = [None; 2];
        let mut words = Vec::with_capacity(count);
        for i in 0..count {
            let bytes = &places[i / 4];
            if i % 2 == 0 {
                pairs = [0, 2].map(|p| self.zipped(1, bytes[p], bytes[p + 1], i % 4 == 2));
            }
            let word = self.zipped(2, pairs[0], pairs[1], i % 2 == 1);
            words.push(word.unwrap_or_else(|| self.splat(0)));
        }
        words
    }

    /// Elements of so many bytes of two vectors in turn, of the lower or the upper half of each.
    fn zipped(&mut self, bytes: usize, a: Option<VReg>, b: Option<VReg>, upper: bool) -> Option<VReg> {
        match (a, b) {
            (None, None) => None,
            (Some(a), None) => Some(self.new1(words::widen(bytes, false, upper), a)),
            (a, Some(b)) => {
                let a = a.unwrap_or_else(|| self.splat(0));
                Some(self.new2(words::zip(bytes, upper), a, b))
            }
        }
    }
}
