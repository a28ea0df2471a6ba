//! The geometry of convolutions and pools: kernel, strides, dilations and padding in each
//! spatial dimension, and the output's extents that follow.

use crate::base::Affine;
use crate::definition::DefBuilder;
use crate::error::{Error, Result};
use crate::ops::Ctx;
use crate::ops::emit::require;

/// One window sliding over one spatial dimension.
#[derive(Clone, Debug, PartialEq)]
pub struct Slide {
    /// Extent of the input.
    pub input: usize,
    /// Number of points of the window.
    pub kernel: usize,
    /// Input steps between two outputs.
    pub stride: usize,
    /// Input steps between two points of the window.
    pub dilation: usize,
    /// Padding before the first element.
    pub before: usize,
    /// Padding after the last element.
    pub after: usize,
    /// The most padding before and after that there is for any extent of the input.
    pub most: (usize, usize),
    /// Elements of the input before the first window.
    pub skipped: usize,
    /// Extent of the output.
    pub output: usize,
}

impl Slide {
    /// Input index of window point `k` at output `o`.
    pub fn index(&self, o: &Affine, k: &Affine) -> Affine {
        o.scaled(self.stride as i64).plus_scaled(k, self.dilation as i64).offset(self.first())
    }

    /// The input index of the first window's first point.
    fn first(&self) -> i64 {
        self.skipped as i64 - self.before as i64
    }

    /// Extent of the window in input steps.
    pub fn reach(&self) -> usize {
        self.dilation * (self.kernel - 1) + 1
    }

    /// How many points of the window at output `o` lie in `from..to` of the input.
    pub fn count(&self, o: usize, from: i64, to: i64) -> usize {
        let first = (o * self.stride) as i64 + self.first();
        (0..self.kernel).filter(|&k| (from..to).contains(&(first + (k * self.dilation) as i64))).count()
    }
}

/// Positive integers of an attribute, one per spatial dimension; `default` where it is absent.
pub fn positive(ctx: &Ctx, name: &str, dims: usize, default: usize) -> Result<Vec<usize>> {
    let Some(values) = ctx.attrs().get_ints(name)? else { return Ok(vec![default; dims]) };
    require(values.len() == dims, || {
        format!("attribute {name} has {} numbers for {dims} spatial dimensions", values.len())
    })?;
    values
        .iter()
        .map(|&v| usize::try_from(v).ok().filter(|&v| v > 0 && v < 1 << 31))
        .collect::<Option<_>>()
        .ok_or_else(|| Error::model(format!("attribute {name} must hold positive numbers")))
}

/// The padding attributes: `(before, after)` of each spatial dimension.
pub fn explicit_pads(ctx: &Ctx, dims: usize) -> Result<Vec<(usize, usize)>> {
    let Some(pads) = ctx.attrs().get_ints("pads")? else { return Ok(vec![(0, 0); dims]) };
    require(pads.len() == 2 * dims, || {
        format!("attribute pads has {} numbers for {dims} spatial dimensions", pads.len())
    })?;
    let pads: Option<Vec<usize>> =
        pads.iter().map(|&p| usize::try_from(p).ok().filter(|&p| p < 1 << 31)).collect();
    let pads = pads.ok_or_else(|| Error::model("attribute pads must not be negative"))?;
    Ok((0..dims).map(|i| (pads[i], pads[i + dims])).collect())
}

/// The windows of a node over the spatial extents `input`; `ceil` rounds output extents up.
pub fn windows(ctx: &Ctx, input: &[usize], kernel: &[usize], ceil: bool) -> Result<Vec<Slide>> {
    let dims = input.len();
    require(kernel.len() == dims && kernel.iter().all(|&k| k > 0), || {
        format!("a kernel of {kernel:?} does not fit an input of {dims} spatial dimensions")
    })?;
    let strides = positive(ctx, "strides", dims, 1)?;
    let dilations = positive(ctx, "dilations", dims, 1)?;
    let auto = ctx.attrs().str("auto_pad", "NOTSET")?;
    let pads = if auto == "NOTSET" { explicit_pads(ctx, dims)? } else { vec![(0, 0); dims] };
    (0..dims)
        .map(|i| {
            let slide = Slide {
                input: input[i],
                kernel: kernel[i],
                stride: strides[i],
                dilation: dilations[i],
                before: pads[i].0,
                after: pads[i].1,
                most: pads[i],
                skipped: 0,
                output: 0,
            };
            placed(slide, auto, ceil)
        })
        .collect()
}

fn placed(mut s: Slide, auto: &str, ceil: bool) -> Result<Slide> {
    match auto {
        "NOTSET" | "" | "VALID" => {}
        "SAME_UPPER" | "SAME_LOWER" => {
            s.output = s.input.div_ceil(s.stride);
            let total = ((s.output.max(1) - 1) * s.stride + s.reach()).saturating_sub(s.input);
            let shared = |total: usize| match auto {
                "SAME_UPPER" => (total / 2, total - total / 2),
                _ => (total - total / 2, total / 2),
            };
            ((s.before, s.after), s.most) = (shared(total), shared(s.reach() - 1));
            return Ok(s);
        }
        other => return Err(Error::model(format!("auto_pad '{other}' is not known"))),
    }
    let padded = s.input + s.before + s.after;
    let room = padded.checked_sub(s.reach()).ok_or_else(|| {
        Error::model(format!("a window of {} does not fit a padded extent of {padded}", s.reach()))
    })?;
    s.output = room / s.stride + 1;
    if ceil && room % s.stride != 0 && s.output * s.stride < s.input + s.before {
        s.output += 1;
    }
    Ok(s)
}

/// Adds the window's reduction axes, and gives the index of the input in each spatial dimension;
/// the outputs are axes `first..`.
pub fn window_index(b: &mut DefBuilder, first: usize, slides: &[Slide]) -> (Vec<Affine>, Vec<Affine>) {
    let points: Vec<Affine> =
        slides.iter().enumerate().map(|(i, s)| b.reduce(&format!("k{i}"), s.kernel)).collect();
    let index = slides.iter().enumerate().map(|(i, s)| s.index(&b.var(first + i), &points[i])).collect();
    (index, points)
}
