//! How windows move over data: along which axis, how far from one output to the next, and what of it is padding.

use super::linear::{Guard, Linear};
use crate::base::Affine;

/// One of the axes along which a window moves.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Slide {
    /// The axis of the output.
    pub axis: u32,
    /// The window's reduction axis.
    pub window: u32,
    /// Elements between neighbours in the data.
    pub step: i64,
    /// Neighbours from the window of an output to that of the next one.
    pub stride: i64,
    /// Padding before the data.
    pub before: i64,
    /// Extent of the data.
    pub extent: usize,
}

impl Slide {
    /// How the window along a reduction axis moves over data at such places, read where the guards hold, along an axis
    /// other than `outer`; `None` where its neighbours are not those of the data.
    pub fn of(linear: &Linear, addr: &Affine, guards: &[Guard], outer: u32, window: u32) -> Option<Slide> {
        let step = addr.coefficient(window);
        let along = |&v: &u32| {
            let by = addr.coefficient(v);
            v != outer && step > 0 && by > 0 && by % step == 0
        };
        let mut guard = guards.iter().filter(|g| g.form.coefficient(window) != 0);
        let own = guard.next();
        let axis = match own {
            Some(g) => g.form.terms.iter().map(|t| t.0).find(|&v| v != window)?,
            None => linear.axes().filter(along).min_by_key(|&v| addr.coefficient(v))?,
        };
        if !along(&axis) || linear.vars[axis as usize].reduce {
            return None;
        }
        let stride = addr.coefficient(axis) / step;
        let form = Affine::var(axis).scaled(stride).plus(&Affine::var(window));
        let exact = own.is_none_or(|g| g.size.is_none() && g.form.offset(-g.form.base) == form);
        let span = linear.extent(axis).saturating_sub(1) * stride as usize + linear.extent(window);
        (exact && guard.next().is_none()).then(|| Slide {
            axis,
            window,
            step,
            stride,
            before: own.map_or(0, |g| -g.form.base),
            extent: own.map_or(span, |g| g.extent),
        })
    }

    /// The same of a window whose points lie some outputs apart: how many, and how it moves over every so many-th output,
    /// which are as many from each of the first ones on.
    pub fn apart(
        linear: &Linear,
        addr: &Affine,
        guards: &[Guard],
        outer: u32,
        window: u32,
    ) -> Option<(usize, Slide)> {
        let step = addr.coefficient(window);
        let along = |&v: &u32| v != outer && addr.coefficient(v) > 0 && step % addr.coefficient(v) == 0;
        let mut guard = guards.iter().filter(|g| g.form.coefficient(window) != 0);
        let own = guard.next();
        let axis = match own {
            Some(g) => g.form.terms.iter().map(|t| t.0).find(|&v| v != window)?,
            None => linear.axes().filter(along).max_by_key(|&v| addr.coefficient(v))?,
        };
        if !along(&axis) || linear.vars[axis as usize].reduce {
            return None;
        }
        let apart = step / addr.coefficient(axis);
        let form = Affine::var(axis).plus(&Affine::var(window).scaled(apart));
        let exact = own.is_none_or(|g| g.size.is_none() && g.form.offset(-g.form.base) == form);
        let count = linear.extent(axis) / apart as usize;
        let span = (count + linear.extent(window)).saturating_sub(1) * apart as usize;
        let (before, extent) = own.map_or((0, span), |g| (-g.form.base, g.extent));
        let whole =
            before % apart == 0 && [extent, linear.extent(axis)].iter().all(|e| e % apart as usize == 0);
        (exact && whole && guard.next().is_none()).then(|| {
            let (before, extent) = (before / apart, extent / apart as usize);
            (apart as usize, Slide { axis, window, step, stride: 1, before, extent })
        })
    }

    /// Whether a window reaches outside of the data.
    pub fn is_padded(&self, linear: &Linear) -> bool {
        let span = (linear.extent(self.axis) as i64 - 1) * self.stride + linear.extent(self.window) as i64;
        self.before != 0 || span > self.extent as i64
    }

    /// The remainders of the places in a window, by the stride.
    pub fn remainders(&self, linear: &Linear) -> usize {
        (self.stride as usize).min(linear.extent(self.window))
    }

    /// The places of the window with the first remainder.
    pub fn wholes(&self, linear: &Linear) -> usize {
        linear.extent(self.window).div_ceil(self.stride as usize)
    }
}
