//! GridSample and AffineGrid.

use super::sample::{Taps, cubic_taps, linear_taps, reflected, weighted};
use crate::base::{Affine, DType, TensorType};
use crate::definition::{DefBuilder, ExprId, Index, Lowering};
use crate::error::{Error, Result};
use crate::ops::emit::{Arith, Emit, Val, compute_type, require};
use crate::ops::{Ctx, Lower, Operator};
use crate::scalar::Op;

/// The rows.
pub const ROWS: &[Operator] = &[
    Operator {
        domain: "",
        name: "GridSample",
        versions: &[16, 20, 22],
        infer: infer_sample,
        lower: Lower::Define(sample),
        note: "",
    },
    Operator {
        domain: "com.microsoft",
        name: "GridSample",
        versions: &[1],
        infer: infer_sample,
        lower: Lower::Define(sample),
        note: "",
    },
    Operator {
        domain: "",
        name: "AffineGrid",
        versions: &[20],
        infer: infer_grid,
        lower: Lower::Define(grid),
        note: "the size must be constant",
    },
];

fn infer_sample(ctx: &Ctx) -> Result<Vec<TensorType>> {
    let (x, grid) = (ctx.ty(0)?, ctx.ty(1)?);
    let rank = x.rank();
    let fits =
        rank >= 3 && grid.rank() == rank && grid.shape[0] == x.shape[0] && grid.shape[rank - 1] == rank - 2;
    require(fits && grid.dtype.is_float(), || format!("{x} cannot be sampled at {grid}"))?;
    Settings::read(ctx)?;
    let mut shape = x.shape[..2].to_vec();
    shape.extend(&grid.shape[1..rank - 1]);
    Ok(vec![TensorType::new(x.dtype, shape)])
}

#[derive(Clone, Copy, PartialEq)]
enum Mode {
    Nearest,
    Linear,
    Cubic,
}

#[derive(Clone, Copy, PartialEq)]
enum Padding {
    Zeros,
    Border,
    Reflection,
}

/// Further outside than this, all neighbours of a point lie outside.
const REACH: f64 = 3.0;

#[derive(Clone, Copy)]
struct Settings {
    mode: Mode,
    padding: Padding,
    aligned: bool,
}

impl Settings {
    fn read(ctx: &Ctx) -> Result<Settings> {
        let mode = match ctx.attrs().str("mode", "linear")? {
            "nearest" => Mode::Nearest,
            "linear" | "bilinear" => Mode::Linear,
            "cubic" | "bicubic" => Mode::Cubic,
            other => return Err(Error::model(format!("mode '{other}' is not known"))),
        };
        let padding = match ctx.attrs().str("padding_mode", "zeros")? {
            "zeros" => Padding::Zeros,
            "border" => Padding::Border,
            "reflection" => Padding::Reflection,
            other => return Err(Error::model(format!("padding_mode '{other}' is not known"))),
        };
        Ok(Settings { mode, padding, aligned: ctx.attrs().flag("align_corners", false)? })
    }

    /// The border that coordinates are mirrored at.
    fn border(&self, size: usize) -> (f64, f64) {
        let last = size as f64 - 1.0;
        if self.aligned { (0.0, last) } else { (-0.5, last + 0.5) }
    }

    /// A coordinate of the grid, in elements, moved inside as the padding says.
    fn coordinate(&self, b: &mut DefBuilder, g: ExprId, size: usize) -> ExprId {
        let last = size as f64 - 1.0;
        let shifted = b.plus_number(g, 1.0);
        let x = if self.aligned {
            b.times_number(shifted, last / 2.0)
        } else {
            let scaled = b.times_number(shifted, size as f64 / 2.0);
            b.plus_number(scaled, -0.5)
        };
        let x = if self.mode == Mode::Nearest { b.op(Op::Round, &[x]) } else { x };
        match self.padding {
            Padding::Zeros => x,
            // Each neighbour is moved to the border by itself: where all are outside, nothing changes.
            Padding::Border => b.clamp(x, -REACH, last + REACH),
            Padding::Reflection => {
                let (lo, hi) = self.border(size);
                reflected(b, x, lo, hi)
            }
        }
    }

    /// A position moved inside as the padding says.
    fn position(&self, b: &mut DefBuilder, i: ExprId, size: usize, float: DType) -> ExprId {
        let i = match self.padding {
            Padding::Zeros => return i,
            Padding::Border => i,
            Padding::Reflection => {
                let (lo, hi) = self.border(size);
                let x = b.cast(float, i);
                let x = reflected(b, x, lo, hi);
                b.cast(DType::I64, x)
            }
        };
        b.clamp(i, 0.0, size as f64 - 1.0)
    }
}

fn sample(ctx: &Ctx, low: &mut Lowering) -> Result<()> {
    let settings = Settings::read(ctx)?;
    let mut e = Emit::new(ctx, low);
    let (x, grid, out) = (e.input(0)?, e.input(1)?, e.result()?);
    require(x.ty.elems() > 0 || out.ty.elems() == 0, || "an empty tensor cannot be sampled".into())?;
    let float = compute_type(if x.dtype().is_float() { grid.dtype() } else { DType::F32 });
    let dims = x.rank() - 2;
    let places = grid.shape()[..grid.rank() - 1].to_vec();
    // Start and fraction of each dimension are shared by all channels.
    let mut parts: Vec<(Val, Option<Val>)> = Vec::new();
    for d in 0..dims {
        let size = x.shape()[2 + d];
        let coordinate = |b: &mut DefBuilder| {
            let mut index = b.axes();
            index.push(Affine::constant((dims - 1 - d) as i64));
            let g = b.elem(&grid, &index, float);
            settings.coordinate(b, g, size)
        };
        let start = e.map("start", DType::I64, places.clone(), |b| {
            let x = coordinate(b);
            b.op(Op::Floor, &[x])
        });
        let fraction = (settings.mode != Mode::Nearest).then(|| {
            e.map("fraction", float, places.clone(), |b| {
                let x = coordinate(b);
                let floor = b.op(Op::Floor, &[x]);
                b.minus(x, floor)
            })
        });
        parts.push((start, fraction));
    }
    e.define("", &out, |b| {
        let mut place = vec![b.var(0)];
        place.extend((2..x.rank()).map(|d| b.var(d)).collect::<Vec<_>>());
        let mut taps: Vec<Taps> = Vec::new();
        for (d, (start, fraction)) in parts.iter().enumerate() {
            let start = b.elem(start, &place, DType::I64);
            let fraction = fraction.as_ref().map(|f| b.elem(f, &place, float));
            let found = match (settings.mode, fraction) {
                (Mode::Linear, Some(f)) => linear_taps(b, start, f),
                (Mode::Cubic, Some(f)) => cubic_taps(b, start, f, -0.75),
                _ => vec![(start, None)],
            };
            let size = x.shape()[2 + d];
            taps.push(found.into_iter().map(|(i, w)| (settings.position(b, i, size, float), w)).collect());
        }
        let prefix = [Index::Affine(b.var(0)), Index::Affine(b.var(1))];
        let to = if settings.mode == Mode::Nearest { x.dtype() } else { float };
        let value = weighted(b, &x, &prefix, &taps, settings.padding == Padding::Zeros, to);
        super::sample::rounded(b, value, out.dtype())
    });
    Ok(())
}

/// The spatial extents of an AffineGrid.
fn grid_size(ctx: &Ctx) -> Result<Vec<usize>> {
    let theta = ctx.ty(0)?;
    let size = ctx.constant_ints(1)?.unwrap_or_default();
    let dims = size.len().saturating_sub(2);
    let fits = (2..=3).contains(&dims)
        && theta.shape == [size[0].max(0) as usize, dims, dims + 1]
        && size.iter().all(|s| (0..1 << 31).contains(s));
    require(fits, || format!("a grid of size {size:?} by {theta} is not defined"))?;
    Ok(size[2..].iter().map(|&s| s as usize).collect())
}

fn infer_grid(ctx: &Ctx) -> Result<Vec<TensorType>> {
    let size = grid_size(ctx)?;
    let mut shape = vec![ctx.shape(0)?[0]];
    shape.extend(&size);
    shape.push(size.len());
    Ok(vec![TensorType::new(ctx.dtype(0)?, shape)])
}

/// The transformed centres (or corners) of the cells of `[-1, 1]`; the last dimension of space
/// is the first coordinate.
fn grid(ctx: &Ctx, low: &mut Lowering) -> Result<()> {
    let size = grid_size(ctx)?;
    let aligned = ctx.attrs().flag("align_corners", false)?;
    let mut e = Emit::new(ctx, low);
    let (theta, out) = (e.input(0)?, e.result()?);
    let float = compute_type(theta.dtype());
    let places: Vec<Val> = size
        .iter()
        .map(|&n| {
            let at = |i: usize| match (aligned, n) {
                (true, 1) => -1.0,
                (true, _) => 2.0 * i as f64 / (n as f64 - 1.0) - 1.0,
                (false, _) => (2.0 * i as f64 + 1.0) / n as f64 - 1.0,
            };
            match ctx.graph.sample {
                0 => e.table("places", float, &[n], &(0..n).map(at).collect::<Vec<_>>()),
                _ => e.map("places", float, [n], |b| centre(b, n, aligned)),
            }
        })
        .collect();
    let dims = size.len();
    e.define("", &out, |b| {
        let (n, k) = (b.var(0), b.var(dims + 1));
        let mut sum = b.elem(&theta, &[n.clone(), k.clone(), Affine::constant(dims as i64)], float);
        for j in 0..dims {
            let d = dims - 1 - j;
            let place = b.elem(&places[d], &[b.var(1 + d)], float);
            let factor = b.elem(&theta, &[n.clone(), k.clone(), Affine::constant(j as i64)], float);
            let term = b.times(factor, place);
            sum = b.plus(sum, term);
        }
        sum
    });
    Ok(())
}

/// The centre (or corner) of a cell of a length known only at run time, computed there.
fn centre(b: &mut DefBuilder, length: usize, aligned: bool) -> ExprId {
    let [cell, length] = [b.var(0), Affine::constant(length as i64)].map(|form| {
        let index = b.index(form);
        b.cast(DType::F64, index)
    });
    let twice = b.times_number(cell, 2.0);
    let part = if aligned {
        let (last, one) = (b.plus_number(length, -1.0), b.number(DType::F64, 1.0));
        let last = b.op(Op::Max, &[last, one]);
        b.over(twice, last)
    } else {
        let middle = b.plus_number(twice, 1.0);
        b.over(middle, length)
    };
    b.plus_number(part, -1.0)
}
