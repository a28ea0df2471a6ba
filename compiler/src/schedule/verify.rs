//! Proves that a schedule is one of its linear definition, before a loop nest is built from it.
//!
//! 1. Every axis is once in `order`, every reduction axis once in `reduce`, nothing else is.
//! 2. `tile` names axes, each once, with 1 point or more, and no more than the axis has (vectors that
//!    hold it, for the vector axis), and no axis that must end exactly at a size known at run time; a step of a reduction is at least 1 and at most the extent.
//! 3. The vector variable is of its kind; lanes are a power of two from 2 to 64; every value is held
//!    in 32-bit lanes, every load can run along the variable. Over a reduction nothing is padded, and
//!    the variable is the innermost.
//! 4. Packed operands exist, are constant, and are named once.
//! 5. Elements are broadcast 1 or 4 at a time, or 8 half floats; several along an axis in lanes only.
//! 6. `dot` needs an `i32` sum of products of two bytes along the vector axis. The innermost reduction
//!    axis is contiguous in the broadcast factor and not padded; the other factor is packed and follows
//!    both. A factor that is not broadcast is contiguous along the vector axis and not padded at all. For
//!    two products at a time a factor is broadcast, not padded at all, and the axes that it follows are
//!    outside of the others; as for chains, which need constants that are known to form them, a vector of them in
//!    a tile. For eight the other one is packed, channels are in pairs, and signed rows are
//!    multiplied by signed channels.
//! 7. `half sums` needs a sum of products of two half floats, plain loads, in the lanes of an axis. What lies
//!    outside of a padded tensor is zero, and decided by the schedule. `half finish` needs operations on half
//!    floats, of a short sum where there is one.
//! 8. `begun` needs a sum of f32, not over lanes, that is used once, in a sum with a plain load. `tested`
//!    needs a padded load whose window the schedule can decide. `apart` needs a fold of 32 bits,
//!    which is finished in the lanes of an axis.
//! 9. `restored` needs a sum of products of f32 of which one factor follows the vector axis and is made of
//!    narrower constants, and the other one is the same in all lanes.
//! 10. `winograd` needs a convolution that it can do; the rows of a block divide those of tiles; the
//!     schedule of the products is one.
//! 11. `sparse` needs a product whose weights are known to be zero mostly.
//! 12. `blocked` needs a product of bytes by weights of four bits in blocks, whose columns fill the lanes; a tile has
//!     columns and rows only, and what follows columns is packed.
//!
//! Goldens: `tests/golden/schedule`, those named `bad_*` must fail.

use super::blocked;
use super::bytes::Bytes;
use super::chained::Words;
use super::chains::Chains;
use super::factors::{added_first, factors, walks};
use super::guards::decidable_guards;
use super::halves::{half_factors, half_finish};
use super::linear::{Linear, Node};
use super::loads::{follows, lanes_possible, loads};
use super::over_lanes::{finish_along, lie_along};
use super::restored::Restored;
use super::sparse::{Along, Product};
use super::text::{Subject, fault, lines};
use super::winograd::{Conv, HALVES, product};
use super::{Schedule, Vector};
use crate::base::DType;
use crate::error::Result;

type Check = std::result::Result<(), String>;

/// An internal error where a schedule breaks one of the invariants.
pub fn verify(schedule: &Schedule, linear: &Linear) -> Result<()> {
    match check(schedule, linear).first() {
        None => Ok(()),
        Some((_, reason)) => Err(fault(schedule, linear, reason)),
    }
}

/// The text of a schedule with every violation under its line.
pub fn explain(schedule: &Schedule, linear: &Linear) -> String {
    let faults = check(schedule, linear);
    let missing = |subject: Subject| !lines(schedule, linear).iter().any(|l| l.1 == Some(subject));
    let mut text = String::new();
    for (line, subject) in lines(schedule, linear) {
        text += &format!("{line}\n");
        // What has no line of its own is said under the first.
        let about = faults.iter().filter(|f| Some(f.0) == subject || (subject.is_none() && missing(f.0)));
        if line != "}" {
            about.for_each(|f| text += &format!("  ^ {}\n", f.1));
        }
    }
    text
}

fn require(holds: bool, reason: impl FnOnce() -> String) -> Check {
    if holds { Ok(()) } else { Err(reason()) }
}

fn check(schedule: &Schedule, linear: &Linear) -> Vec<(Subject, String)> {
    let checker = Checker { schedule, linear };
    let checks = [
        (Subject::Vector, checker.vector()),
        (Subject::Tile, checker.tile()),
        (Subject::Order, checker.order()),
        (Subject::Reduce, checker.reduce()),
        (Subject::Pack, checker.pack()),
        (Subject::Broadcast, checker.broadcast()),
        (Subject::Dot, checker.dot()),
        (Subject::HalfSums, checker.half_sums()),
        (Subject::HalfFinish, checker.half_finish()),
        (Subject::Begun, checker.begun()),
        (Subject::Tested, checker.tested()),
        (Subject::Restored, checker.restored()),
        (Subject::Woven, checker.woven()),
        (Subject::Apart, checker.apart()),
        (Subject::Winograd, checker.winograd()),
        (Subject::Sparse, checker.sparse()),
        (Subject::Blocked, checker.blocked()),
    ];
    checks.into_iter().filter_map(|(subject, check)| Some((subject, check.err()?))).collect()
}

struct Checker<'a> {
    schedule: &'a Schedule,
    linear: &'a Linear,
}

impl Checker<'_> {
    fn name(&self, var: u32) -> String {
        self.linear.vars.get(var as usize).map_or(format!("variable {var}"), |v| format!("'{}'", v.name))
    }

    fn is_axis(&self, var: u32) -> bool {
        self.linear.vars.get(var as usize).is_some_and(|v| !v.reduce)
    }

    /// The list holds each of the wanted variables once, and nothing else.
    fn all_once(&self, list: &[u32], wanted: &[u32], kind: &str) -> Check {
        for (i, var) in list.iter().enumerate() {
            require(wanted.contains(var), || format!("{} is no {kind}", self.name(*var)))?;
            require(!list[..i].contains(var), || format!("{} is named twice", self.name(*var)))?;
        }
        let missing = wanted.iter().find(|v| !list.contains(v));
        missing.map_or(Ok(()), |v| Err(format!("{} is missing", self.name(*v))))
    }

    fn order(&self) -> Check {
        self.all_once(&self.schedule.order, &self.linear.axes().collect::<Vec<_>>(), "axis")
    }

    fn reduce(&self) -> Check {
        let list: Vec<u32> = self.schedule.reduce.iter().map(|r| r.var).collect();
        self.all_once(&list, &self.linear.reductions().collect::<Vec<_>>(), "reduction axis")?;
        for step in &self.schedule.reduce {
            let extent = self.linear.extent(step.var);
            let most = extent.next_multiple_of(self.schedule.dot.max(1));
            require((1..=most.max(1)).contains(&step.unroll), || {
                format!("{} has {extent} points, not {}", self.name(step.var), step.unroll)
            })?;
        }
        Ok(())
    }

    fn tile(&self) -> Check {
        let tile = &self.schedule.tile;
        for (i, &(var, points)) in tile.iter().enumerate() {
            require(self.is_axis(var), || format!("{} is no axis", self.name(var)))?;
            require(tile[..i].iter().all(|t| t.0 != var), || format!("{} is named twice", self.name(var)))?;
            require(points == 1 || !self.linear.ends(var), || {
                format!("{} ends within a tile", self.name(var))
            })?;
            let most = self.linear.extent(var).div_ceil(self.schedule.axis_lanes(var).max(1)).max(1);
            require((1..=most).contains(&points), || {
                format!("{} has {most} points, not {points}", self.name(var))
            })?;
        }
        Ok(())
    }

    fn vector(&self) -> Check {
        let linear = self.linear;
        let (var, lanes) = match self.schedule.vector {
            Vector::None => return Ok(()),
            Vector::Axis { var, lanes } => {
                require(self.is_axis(var), || format!("{} is no axis", self.name(var)))?;
                require(!self.linear.ends(var), || format!("{} ends within a vector", self.name(var)))?;
                let finish = loads(linear, linear.finish);
                require(finish.into_iter().all(|l| follows(linear, l, var)), || {
                    format!("what is stored cannot be computed along {}", self.name(var))
                })?;
                (var, lanes)
            }
            Vector::Reduction { var, lanes } => {
                let innermost = self.schedule.reduce.last().is_some_and(|r| r.var == var);
                require(innermost, || format!("{} is not the innermost reduction", self.name(var)))?;
                (var, lanes)
            }
        };
        require(lanes.is_power_of_two() && (2..=64).contains(&lanes), || {
            format!("there are no {lanes} lanes")
        })?;
        let over_lanes = matches!(self.schedule.vector, Vector::Reduction { .. });
        require(lanes_possible(linear, over_lanes), || "not every value fits lanes".to_string())?;
        let body = linear.fold.map(|f| loads(linear, f.2)).unwrap_or_default();
        require(body.iter().all(|l| follows(linear, l, var)), || {
            format!("what is folded cannot be computed along {}", self.name(var))
        })
    }

    fn pack(&self) -> Check {
        let pack = &self.schedule.pack;
        for (i, &operand) in pack.iter().enumerate() {
            let buffer = self.linear.buffers.get(operand as usize);
            require(buffer.is_some_and(|b| b.constant), || format!("in{operand} is no constant"))?;
            require(!pack[..i].contains(&operand), || format!("in{operand} is named twice"))?;
        }
        Ok(())
    }

    fn half_sums(&self) -> Check {
        let possible = match self.schedule.vector {
            Vector::Axis { .. } => half_factors(self.linear),
            _ => false,
        };
        require(self.schedule.half_sums == 0 || possible && self.schedule.winograd.is_none(), || {
            "what is summed are no products of half floats along an axis".to_string()
        })?;
        let parts =
            (self.schedule.half_sums.min(1)..=self.schedule.half_sums).contains(&self.schedule.half_parts);
        require(parts, || "a part of a short sum has as many products at most".to_string())
    }

    fn half_finish(&self) -> Check {
        let products = self.linear.reductions().map(|r| self.linear.extent(r)).product::<usize>();
        let short = self.linear.fold.is_none() || products <= self.schedule.half_sums;
        let axis = matches!(self.schedule.vector, Vector::Axis { .. }) && self.schedule.apart == 0;
        require(!self.schedule.half_finish || short && axis && half_finish(self.linear), || {
            "what is stored is not computed of half floats in the lanes of an axis".to_string()
        })
    }

    fn begun(&self) -> Check {
        let lanes = !matches!(self.schedule.vector, Vector::Reduction { .. });
        let floats = self.linear.fold.is_some_and(|f| f.1 == DType::F32);
        require(!self.schedule.begun || lanes && floats && added_first(self.linear).is_some(), || {
            "accumulators begin with what is added to a sum of floats".to_string()
        })
    }

    fn tested(&self) -> Check {
        require(!self.schedule.tested || !decidable_guards(self.linear).is_empty(), || {
            "nothing is padded that could be tested".to_string()
        })
    }

    fn restored(&self) -> Check {
        let possible = match self.schedule.vector {
            Vector::Axis { var, .. } => Restored::of(self.linear, var).is_some(),
            _ => false,
        };
        require(!self.schedule.restored || possible && self.schedule.winograd.is_none(), || {
            "no factor in lanes is made of narrower constants".to_string()
        })
    }

    fn woven(&self) -> Check {
        let once = !self.schedule.woven || self.schedule.apart == 0;
        require(once, || "what is finished apart is woven there".to_string())
    }

    fn apart(&self) -> Check {
        let lanes = match self.schedule.vector {
            Vector::Axis { .. } => true,
            Vector::Reduction { .. } => finish_along(self.linear, &self.schedule.tile).is_some(),
            Vector::None => false,
        };
        let words = self.linear.fold.is_some_and(|f| matches!(f.1, DType::F32 | DType::I32));
        require(self.schedule.apart == 0 || lanes && words, || {
            "what is no fold of 32 bits, finished in the lanes of an axis, is not kept in memory".to_string()
        })
    }

    fn winograd(&self) -> Check {
        let Some(w) = &self.schedule.winograd else { return Ok(()) };
        let conv =
            Conv::of(self.linear).ok_or("no convolution whose window moves from neighbour to neighbour")?;
        let size = (w.tiles.outputs, w.tiles.part);
        require(conv.sizes(self.linear).contains(&size), || {
            format!("tiles of {} outputs, parts of {} points", size.0, size.1)
        })?;
        let along = matches!(self.schedule.vector, Vector::Axis { var, .. } if var == conv.outer);
        require(along, || format!("{} does not fill the lanes", self.name(conv.outer)))?;
        let rows = conv.tiles(self.linear, 0, w.tiles.outputs);
        require(w.tiles.rows > 0 && rows.is_multiple_of(w.tiles.rows), || {
            format!("{rows} rows of tiles are not done {} at a time", w.tiles.rows)
        })?;
        let across = conv.tiles(self.linear, 1, w.tiles.outputs);
        require((1..=across).contains(&w.tiles.across), || {
            format!("{} tiles at a time of a row of {across}", w.tiles.across)
        })?;
        let whole = |v: Vector| matches!(v, Vector::Axis { lanes, .. } if lanes.is_multiple_of(HALVES));
        require(!w.halves || conv.in_halves(self.linear) && whole(w.product.vector), || {
            "the couples of channels cannot lie in halves".to_string()
        })?;
        require(w.columns == 0 || !w.halves, || "columns of couples in halves".to_string())?;
        require(!w.each || w.columns > 0, || "vectors of channels finished by points".to_string())?;
        let products = product(&conv, self.linear, w.tiles);
        let faults = check(&w.product, &products);
        faults.into_iter().next().map_or(Ok(()), |(_, reason)| Err(format!("the products: {reason}")))
    }

    fn sparse(&self) -> Check {
        let Some(sparse) = self.schedule.sparse else { return Ok(()) };
        let product =
            Product::of(self.linear).ok_or("no product of data by constants, channels side by side")?;
        let along = matches!(self.schedule.vector, Vector::Axis { var, .. } if var == product.outer);
        require(along, || format!("{} does not fill the lanes", self.name(product.outer)))?;
        require(self.linear.facts.kept.is_some(), || "weights are not known to be zero mostly".to_string())?;
        require(self.schedule.winograd.is_none(), || "zeros of a filtered convolution".to_string())?;
        let (vectors, rows) = match &product.along {
            Along::One => (1, 1),
            Along::Points(axis) => (self.linear.extent(*axis), 1),
            Along::Windows(slides) => {
                let rows = slides.down.as_ref().map_or(1, |s| self.linear.extent(s.axis));
                (rows.saturating_mul(self.linear.extent(slides.across.axis)), rows)
            }
        };
        let possible = (1..=vectors).contains(&sparse.vectors) && (1..=rows).contains(&sparse.rows);
        require(possible, || format!("{} vectors of points, {} rows", sparse.vectors, sparse.rows))
    }

    fn blocked(&self) -> Check {
        if self.schedule.blocked.is_none() {
            return Ok(());
        }
        let product = blocked::Product::of(self.linear).ok_or("no product by blocks of four bits")?;
        let along = matches!(self.schedule.vector, Vector::Axis { var, .. } if var == product.outer);
        require(along, || format!("{} does not fill the lanes", self.name(product.outer)))?;
        let alone = |v: u32| v != product.outer && Some(v) != product.rows && self.schedule.points(v) > 1;
        let other = self.linear.axes().find(|&v| alone(v));
        require(other.is_none(), || format!("{} is no row", other.map_or(String::new(), |v| self.name(v))))?;
        let columns = [Some(&product.weights), product.zeros.as_ref(), Some(&product.scale)];
        let missing = columns.into_iter().flatten().find(|p| !self.schedule.pack.contains(&p.operand));
        require(missing.is_none(), || "what follows columns is not packed".to_string())?;
        let others = self.schedule.winograd.is_some() || self.schedule.sparse.is_some();
        require(!others && self.schedule.dot == 1, || "blocks of what is multiplied otherwise".to_string())
    }

    fn broadcast(&self) -> Check {
        let along = matches!(self.schedule.vector, Vector::Axis { .. }) && self.linear.fold.is_some();
        match self.schedule.lane_loads {
            1 => Ok(()),
            4 => require(along, || "nothing is folded in the lanes of an axis".to_string()),
            8 => require(self.schedule.half_sums > 0, || "8 elements are not half floats".to_string()),
            n => Err(format!("{n} elements are not loaded together")),
        }
    }

    fn words_over_lanes(&self, var: u32) -> Check {
        let packed = lie_along(self.linear, var)
            .ok_or_else(|| format!("the factors have no words along {}", self.name(var)))?;
        let missing = packed.iter().find(|o| !self.schedule.pack.contains(o));
        require(missing.is_none(), || format!("in{} is not packed", missing.copied().unwrap_or_default()))?;
        let Schedule { dot, wide, halves, chains, dense, .. } = *self.schedule;
        require(dot == 4 && !(wide || halves || chains || dense), || "words over lanes are plain ones".into())
    }

    /// How the words of the factors lie: those of the packed operand `v`, and what is widened ahead.
    fn arrangement(&self, bytes: &Bytes, v: u32) -> Check {
        let neighbours = self.schedule.dot;
        require(!bytes.widened(neighbours) || bytes.can_widen(self.linear), || {
            "the broadcast factor cannot be widened ahead".to_string()
        })?;
        require(!self.schedule.wide || neighbours == 2 && bytes.in_place.is_none(), || {
            format!("in{v} has no couples that can lie widened")
        })?;
        require(!bytes.nine || self.schedule.wide, || {
            format!("the numbers of 16 bits in in{v} do not lie in couples")
        })?;
        let in_halves = match bytes.sixteen {
            true => neighbours == 2,
            false => neighbours == 4 && bytes.in_halves(self.linear),
        };
        require(!self.schedule.halves || in_halves, || {
            format!("in{v} has no signed words that can lie in halves")
        })?;
        require(!self.schedule.long || self.schedule.halves && self.linear.facts.long, || {
            format!("products of two words of in{v} are not known to fit 16 bits")
        })?;
        require(!self.schedule.dense || neighbours == 4 && bytes.woven, || {
            format!("words of in{v} need the zeros behind their axis")
        })
    }

    /// Whether constants are known to form chains, of the schedule's vectors.
    fn forms_chains(&self, var: u32) -> bool {
        let lanes = |c: Chains| c.var == var && self.schedule.axis_lanes(var) == c.lanes;
        let formed = self.linear.facts.chains.is_some_and(lanes) && Words::of(self.linear, var).is_some();
        self.schedule.dot == 4 && formed
    }

    fn dot(&self) -> Check {
        let neighbours = self.schedule.dot;
        if neighbours == 1 {
            return Ok(());
        }
        require(matches!(neighbours, 2 | 4 | 8), || {
            format!("{neighbours} products are not summed at a time")
        })?;
        let sums = self.linear.fold.is_some_and(|f| f.1 == DType::I32);
        factors(self.linear).filter(|_| sums).ok_or("no i32 sum of products")?;
        let var = match self.schedule.vector {
            Vector::Axis { var, .. } => var,
            Vector::Reduction { var, .. } => return self.words_over_lanes(var),
            Vector::None => return Err("nothing fills the lanes".to_string()),
        };
        let bytes = Bytes::of(self.linear, var);
        let bytes = bytes.ok_or("the factors are no bytes in memory, one of them constant or in words")?;
        let &Node::Load { operand: v, .. } = bytes.vectors else { return Ok(()) };
        require(self.schedule.pack.contains(&v) || bytes.in_place.is_some(), || {
            format!("in{v} is not packed")
        })?;
        let along = self.schedule.reduce.last().ok_or("there is no reduction axis")?.var;
        require(bytes.lie_along(var, (along, neighbours)), || {
            format!("the factors do not lie along {}", self.name(along))
        })?;
        require(bytes.in_place.is_none_or(|k| neighbours == self.linear.extent(k) && k == along), || {
            format!("in{v} has no words along {}", self.name(along))
        })?;
        self.arrangement(&bytes, v)?;
        require(neighbours != 8 || bytes.in_squares(self.linear, var, along), || {
            "two rows are not multiplied by two channels".to_string()
        })?;
        require(!self.schedule.chains || self.forms_chains(var), || {
            format!("in{v} is not known to form chains")
        })?;
        require(!self.schedule.chains || self.schedule.points(var) == 1, || {
            "chains of several vectors in a tile".to_string()
        })?;
        let ahead = bytes.widened(neighbours) || self.schedule.chains;
        let behind = self.schedule.order.iter().skip_while(|&&v| walks(bytes.rows, v));
        let around = behind.copied().find(|&v| ahead && walks(bytes.rows, v));
        around.map_or(Ok(()), |v| Err(format!("{} is inside of where its factor is widened", self.name(v))))
    }
}
