//! The kernel that refuses sizes out of bounds before anything else runs.

use crate::base::{Affine, DType, abi};
use crate::tile::{Access, Addr, Bin, Cmp, Kernel, Lane, Param, RegType, Stmt, Value};

/// What a size that the caller gives must be.
pub struct Rule {
    /// Its number.
    pub symbol: usize,
    /// The smallest it may be.
    pub least: usize,
    /// The largest.
    pub most: usize,
    /// The sum of which others, how often each, and which number, it is.
    pub sum: Option<(Vec<(usize, usize)>, usize)>,
    /// It is a multiple of the first number and the second.
    pub step: (usize, usize),
}

/// Fails with `ERR_SYMBOL` unless each rule holds of `symbols`, which has `count` elements.
pub fn check(rules: &[Rule], count: usize) -> Kernel {
    let scalar = |lane| RegType { lane, lanes: 1 };
    let load = |to: u32, i: usize| {
        let addr = Addr { param: 0, index: Affine::constant(i as i64), dynamic: None };
        Stmt::Let(to, Value::Load(addr, 1))
    };
    let mut body = Vec::new();
    for rule in rules {
        body.extend([
            load(0, rule.symbol),
            Stmt::Let(1, Value::Const(rule.least as u64)),
            Stmt::Let(2, Value::Const(rule.most as u64)),
            Stmt::Let(3, Value::Cmp(Cmp::Lt, 0, 1)),
            Stmt::Let(4, Value::Cmp(Cmp::Gt, 0, 2)),
            Stmt::Let(3, Value::Bin(Bin::Or, 3, 4)),
            Stmt::Fail { cond: 3, code: abi::ERR_SYMBOL },
        ]);
        let differ = [Stmt::Let(3, Value::Cmp(Cmp::Ne, 0, 1)), Stmt::Fail { cond: 3, code: abi::ERR_SYMBOL }];
        if rule.step.0 > 1 {
            body.extend([
                Stmt::Let(1, Value::Const(rule.step.0 as u64)),
                Stmt::Let(0, Value::Bin(Bin::RemS, 0, 1)),
                Stmt::Let(1, Value::Const((rule.step.1 % rule.step.0) as u64)),
            ]);
            body.extend(differ.clone());
        }
        let Some((terms, number)) = &rule.sum else { continue };
        body.extend([load(0, rule.symbol), Stmt::Let(1, Value::Const(*number as u64))]);
        for &(term, times) in terms {
            body.push(load(2, term));
            if times > 1 {
                body.extend([
                    Stmt::Let(5, Value::Const(times as u64)),
                    Stmt::Let(2, Value::Bin(Bin::Mul, 2, 5)),
                ]);
            }
            body.push(Stmt::Let(1, Value::Bin(Bin::Add, 1, 2)));
        }
        body.extend(differ);
    }
    let symbols = Param { name: "symbols".into(), dtype: DType::I64, elems: count, access: Access::Read };
    Kernel {
        name: "check_sizes".into(),
        params: vec![symbols],
        vars: Vec::new(),
        regs: [Lane::I64, Lane::I64, Lane::I64, Lane::M64, Lane::M64, Lane::I64].map(scalar).to_vec(),
        fused: false,
        body,
    }
}
