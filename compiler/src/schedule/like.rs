//! Schedules that pack weights as another one packs the same: a detector's head that is applied to maps of several
//! sizes reads one copy of them, whatever tile each map would like best.

use std::fmt;

/// How much slower all of a definition that follows may be, in percent of the work of the one that leads.
const COST: u64 = 3;
/// ... and by itself, in percent of its time: always, and at most.
const SLOWER: [u64; 2] = [125, 400];

/// How a schedule packs weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Like {
    /// How a convolution is filtered; `None`: it is not.
    pub filter: Option<Filter>,
    /// Vectors of a tile along the axis that fills lanes.
    pub vectors: usize,
    /// Neighbours whose products are summed at a time.
    pub dot: usize,
    /// Words are multiplied in chains.
    pub chains: bool,
    /// The time that it may take to follow, in percent of the time without.
    pub most: u32,
}

/// What the transformed weights of a filtered convolution depend on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Filter {
    /// Outputs of a tile along an axis, and points of a part of the window.
    pub size: (usize, usize),
    /// Products are those of columns of points.
    pub columns: bool,
}

impl Like {
    /// The same for a definition that follows, of which so much is the work in multiply-adds, and so much that of the one
    /// that leads.
    pub fn followed(self, work: u64, leading: u64) -> Like {
        let most = 100 + COST.saturating_mul(leading) / work.max(1);
        Like { most: most.clamp(SLOWER[0], SLOWER[1]) as u32, ..self }
    }

    /// How much longer it may take to follow, as a factor.
    pub(super) fn slower(self) -> f64 {
        f64::from(self.most) / 100.0
    }

    /// The same for the products of a convolution that is filtered so.
    pub(super) fn of_products(self) -> Like {
        Like { filter: None, ..self }
    }
}

impl fmt::Display for Like {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "by {} vectors", self.vectors)?;
        if self.dot > 1 {
            write!(f, ", {} at a time", self.dot)?;
        }
        if self.chains {
            f.write_str(", in chains")?;
        }
        if let Some(Filter { size: (outputs, part), columns }) = self.filter {
            write!(f, ", filtered {outputs} of {part}{}", if columns { " by columns" } else { "" })?;
        }
        write!(f, ", in {} % of the time at most", self.most)
    }
}
