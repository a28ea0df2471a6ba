//! Half floats that are only moved stay as they are in memory: no register widens what another store narrows.

use crate::base::DType;
use crate::tile::{Kernel, Lane, Stmt, Value, assignments, visit};

/// The kernel with registers of 16 bits for the small floats that it loads to store them; `None` where it has none.
pub fn moves(kernel: &Kernel) -> Option<Kernel> {
    let dtype = |param: u32| kernel.params[param as usize].dtype;
    let half = |dtype: DType| matches!(dtype, DType::F16 | DType::BF16);
    let all = assignments(kernel);
    let loaded = |values: &Vec<&Value>| match values[..] {
        [Value::Load(addr, _)] => Some(dtype(addr.param)).filter(|&dtype| half(dtype)),
        _ => None,
    };
    let mut moved: Vec<Option<DType>> = all.iter().map(loaded).collect();
    moved.iter_mut().zip(&kernel.regs).filter(|(_, ty)| ty.lane != Lane::F32).for_each(|(m, _)| *m = None);
    if moved.iter().all(Option::is_none) {
        return None;
    }
    visit::each_let(&kernel.body, &mut |_, value| {
        visit::read(value, &mut |reg| moved[reg as usize] = None);
    });
    visit::any(&kernel.body, &mut |stmt| {
        if let Stmt::Store { addr, src, .. } = stmt {
            let known = &mut moved[*src as usize];
            *known = known.filter(|&from| from == dtype(addr.param));
        }
        false
    });
    let mut kernel = kernel.clone();
    for (ty, _) in kernel.regs.iter_mut().zip(&moved).filter(|(_, moved)| moved.is_some()) {
        ty.lane = Lane::F16;
    }
    moved.iter().any(Option::is_some).then_some(kernel)
}
