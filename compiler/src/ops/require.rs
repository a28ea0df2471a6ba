//! A condition that must hold at run time: where only one branch of an If fits the model's shapes,
//! taking the other one is an error, as it is in any runtime.

use super::emit::{Emit, require};
use super::routine::Code;
use super::{Ctx, Operator};
use crate::base::{Affine, DType, TensorType, abi};
use crate::definition::Lowering;
use crate::error::Result;
use crate::tile::{Access, Cmp};

/// The rows. `Require(condition, x)` gives `x`; attribute `value` is what the condition must be.
pub const ROWS: &[Operator] = &[Operator::internal("Require", infer, lower)];

fn infer(ctx: &Ctx) -> Result<Vec<TensorType>> {
    let condition = ctx.ty(0)?;
    let fits = condition.dtype == DType::Bool && condition.elems() == 1;
    require(fits, || format!("the condition is {condition}, not one boolean"))?;
    Ok(vec![ctx.ty(1)?.clone()])
}

fn lower(ctx: &Ctx, low: &mut Lowering) -> Result<()> {
    let wanted = ctx.attrs().flag("value", true)?;
    let mut emit = Emit::new(ctx, low);
    let (condition, x, out) = (emit.input(0)?, emit.input(1)?, emit.result()?);
    let mut code = Code::new(&ctx.node.name);
    let from = code.param("condition", &condition, Access::Read);
    let (x, y) = (code.param("x", &x, Access::Read), code.param("y", &out, Access::Write));
    let found = code.load(from, Affine::constant(0));
    let zero = code.number(code.lane(from), 0.0);
    let broken = code.cmp(if wanted { Cmp::Eq } else { Cmp::Ne }, found, zero);
    code.fail_if(broken, abi::ERR_VALUE);
    code.copy(ctx, 1, [x, y])?;
    code.finish(emit.low);
    Ok(())
}
