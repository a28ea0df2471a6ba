//! The kernel that refuses sizes out of bounds before anything else runs.

use crate::base::{Affine, DType, abi};
use crate::tile::{Access, Addr, Bin, Cmp, Kernel, Lane, Param, RegType, Stmt, Value};

/// Fails with `ERR_SYMBOL` unless `symbols[i]` lies in `1..=max` for each `(i, max)`; the array has
/// `count` elements.
pub fn check(bounds: &[(usize, usize)], count: usize) -> Kernel {
    let scalar = |lane| RegType { lane, lanes: 1 };
    let mut body = Vec::new();
    for &(i, max) in bounds {
        let addr = Addr { param: 0, index: Affine::constant(i as i64), dynamic: None };
        body.extend([
            Stmt::Let(0, Value::Load(addr, 1)),
            Stmt::Let(1, Value::Const(1)),
            Stmt::Let(2, Value::Const(max as u64)),
            Stmt::Let(3, Value::Cmp(Cmp::Lt, 0, 1)),
            Stmt::Let(4, Value::Cmp(Cmp::Gt, 0, 2)),
            Stmt::Let(3, Value::Bin(Bin::Or, 3, 4)),
            Stmt::Fail { cond: 3, code: abi::ERR_SYMBOL },
        ]);
    }
    let symbols = Param { name: "symbols".into(), dtype: DType::I64, elems: count, access: Access::Read };
    Kernel {
        name: "check_sizes".into(),
        params: vec![symbols],
        vars: Vec::new(),
        regs: [Lane::I64, Lane::I64, Lane::I64, Lane::M64, Lane::M64].map(scalar).to_vec(),
        fused: false,
        body,
    }
}
