//! Windows whose points lie apart along two axes, as as many windows whose points are neighbours.
//!
//! A convolution with dilation `d` computes each `d`-th output of a row from each `d`-th element: of rows and columns
//! that are multiples of `d`, each of the `d x d` first outputs begins a convolution of its own, of `1 / d` of the rows
//! and columns and without dilation, which minimal filtering can do.
//! ```text
//! y[i, j] = sum(k, l) x[i + 2 k - 2, j + 2 l - 2] w[k, l]
//! y[2 i + a, 2 j + b] = sum(k, l) x[2 (i + k - 1) + a, 2 (j + l - 1) + b] w[k, l]      a < 2, b < 2
//! ```

use super::factors::factors;
use super::linear::{Guard, Linear, LinearVar, Node};
use super::slides::Slide;
use crate::base::Affine;

/// How a window moves along one axis, of which each so many-th output is computed alike.
struct Phases {
    apart: usize,
    slide: Slide,
}

/// The same definition with axes for the phases of a window that moves along two axes; `None` where its points are
/// neighbours, or rows and columns no multiples.
pub fn in_phases(linear: &Linear) -> Option<Linear> {
    let (a, b) = factors(linear)?;
    let computed =
        |n: &&Node| matches!(n, Node::Load { operand, .. } if !linear.buffers[*operand as usize].constant);
    let Node::Load { addr, dynamic, guards, .. } = [a, b].into_iter().find(computed)? else { return None };
    let inner = linear.reductions().find(|&v| addr.coefficient(v) == 1);
    let outer = linear.axes().find(|&v| addr.coefficient(v) == 0)?;
    let windows: Vec<u32> = linear.reductions().filter(|&v| Some(v) != inner).collect();
    let plain = dynamic.is_empty() && windows.len() == 2;
    if !plain || linear.vars.iter().any(|v| v.size.is_some()) {
        return None;
    }
    let phases = |window: &u32| {
        let (apart, slide) = Slide::apart(linear, addr, guards, outer, *window)?;
        linear.extent(slide.axis).is_multiple_of(apart).then_some(Phases { apart, slide })
    };
    let phases: Vec<Phases> = windows.iter().map(phases).collect::<Option<_>>()?;
    let distinct = phases[0].slide.axis != phases[1].slide.axis;
    let any = phases.iter().any(|p| p.apart > 1);
    (distinct && any).then(|| split(linear, &phases))
}

fn split(linear: &Linear, phases: &[Phases]) -> Linear {
    let mut out = linear.clone();
    out.vars.clear();
    let mut forms = Vec::new();
    for (v, var) in linear.vars.iter().enumerate() {
        let here = out.vars.len() as u32;
        match phases.iter().find(|p| p.apart > 1 && p.slide.axis == v as u32) {
            Some(p) => {
                out.vars.push(LinearVar { extent: var.extent / p.apart, ..var.clone() });
                out.vars.push(LinearVar {
                    name: format!("{}_phase", var.name),
                    extent: p.apart,
                    ..var.clone()
                });
                forms.push(Affine::var(here).scaled(p.apart as i64).plus(&Affine::var(here + 1)));
            }
            None => {
                out.vars.push(var.clone());
                forms.push(Affine::var(here));
            }
        }
    }
    out.renumber(&|v| forms[v as usize].clone());
    let place = |v: u32| forms[v as usize].terms[0].0;
    for (node, before) in out.nodes.iter_mut().zip(&linear.nodes) {
        let (Node::Load { guards, .. }, Node::Load { guards: of, .. }) = (node, before) else { continue };
        for (guard, of) in guards.iter_mut().zip(of) {
            if let Some(p) = phases.iter().find(|p| of.form.coefficient(p.slide.window) != 0) {
                let at = Affine::var(place(p.slide.axis)).plus(&Affine::var(place(p.slide.window)));
                *guard = Guard { form: at.offset(-p.slide.before), extent: p.slide.extent, ..guard.clone() };
            }
        }
    }
    out
}
