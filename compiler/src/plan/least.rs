//! A lower bound of the arena: the least memory that a few of its buffers need, found by branch and bound.
//!
//! The largest sum live at one step does not know that a buffer has one place for all of its steps: where it lies
//! above what it follows, the next one may have nothing left to follow.

/// A buffer that is live together with another one, which begins at least so many bytes `before` it, or so many
/// `after` its beginning.
pub struct Neighbour {
    pub other: usize,
    pub before: usize,
    pub after: usize,
}

/// Buffers that are looked at together.
const FEW: usize = 20;
/// Buffers of a smaller part of the arena are left out.
const PARTS: usize = 32;
/// Decisions between above and below, for one set of buffers; a set that needs more bounds nothing.
const DECISIONS: usize = 1000;

/// The most bytes that some buffers of similar lifetime need at least, at most `known`, which suffice for all.
/// `firsts` are the steps at which buffers begin to be live.
pub fn least(sizes: &[usize], firsts: &[usize], neighbours: &[Vec<Neighbour>], known: usize) -> usize {
    let mut large: Vec<usize> = (0..sizes.len()).filter(|&i| sizes[i] * PARTS >= known).collect();
    large.sort_by_key(|&i| firsts[i]);
    let sets = large.windows(FEW.min(large.len()).max(1));
    sets.filter_map(|few| Few::new(sizes, neighbours, few, known).least()).max().unwrap_or(0)
}

/// Some buffers, and the best of their placements.
struct Few {
    sizes: Vec<usize>,
    /// `gaps[i][j]`: the bytes from the beginning of `i` to that of `j`, at least, where `j` lies above.
    gaps: Vec<Vec<Option<usize>>>,
    best: usize,
    decisions: usize,
}

impl Few {
    fn new(sizes: &[usize], neighbours: &[Vec<Neighbour>], few: &[usize], known: usize) -> Few {
        let mut gaps = vec![vec![None; few.len()]; few.len()];
        for (i, &buffer) in few.iter().enumerate() {
            for neighbour in &neighbours[buffer] {
                if let Some(j) = few.iter().position(|&f| f == neighbour.other) {
                    (gaps[i][j], gaps[j][i]) = (Some(neighbour.before), Some(neighbour.after));
                }
            }
        }
        Few { sizes: few.iter().map(|&i| sizes[i]).collect(), gaps, best: known, decisions: DECISIONS }
    }

    /// The bytes of the best placement; `None` where it takes too long to find.
    fn least(mut self) -> Option<usize> {
        let low = vec![0; self.sizes.len()];
        self.decide(&low, &mut Vec::new()).then_some(self.best)
    }

    /// Places the buffers in all ways in which the second of each `above` lies above the first, and that may be better
    /// than the best; `low` are the lowest such offsets. Whether that was few enough.
    fn decide(&mut self, low: &[usize], above: &mut Vec<(usize, usize)>) -> bool {
        let Some((one, other)) = self.largest_overlap(low) else {
            self.best = self.height(low);
            return true;
        };
        if self.decisions == 0 {
            return false;
        }
        self.decisions -= 1;
        [(one, other), (other, one)].into_iter().all(|pair| {
            above.push(pair);
            let lifted = self.lifted(low, above);
            let few = lifted.is_none_or(|low| self.decide(&low, above));
            above.pop();
            few
        })
    }

    /// The lowest offsets, from lower ones; `None` where they are not better than the best placement.
    fn lifted(&self, low: &[usize], above: &[(usize, usize)]) -> Option<Vec<usize>> {
        let (mut offsets, mut changed) = (low.to_vec(), true);
        while changed && self.height(&offsets) < self.best {
            changed = false;
            for &(i, j) in above {
                let least = offsets[i] + self.gaps[i][j].unwrap_or(0);
                if offsets[j] < least {
                    (offsets[j], changed) = (least, true);
                }
            }
        }
        (!changed).then_some(offsets)
    }

    fn height(&self, offsets: &[usize]) -> usize {
        offsets.iter().zip(&self.sizes).map(|(offset, size)| offset + size).max().unwrap_or(0)
    }

    /// Of those that overlap the pair whose smaller one is the largest.
    fn largest_overlap(&self, offsets: &[usize]) -> Option<(usize, usize)> {
        let clear = |i: usize, j: usize| self.gaps[i][j].is_none_or(|gap| offsets[i] + gap <= offsets[j]);
        let pairs = (0..offsets.len()).flat_map(|j| (0..j).map(move |i| (i, j)));
        pairs
            .filter(|&(i, j)| !clear(i, j) && !clear(j, i))
            .max_by_key(|&(i, j)| self.sizes[i].min(self.sizes[j]))
    }
}
