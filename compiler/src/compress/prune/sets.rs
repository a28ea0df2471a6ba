//! Channels that must be kept or removed together, and how they lie along an axis of a value.

use std::collections::BTreeMap;

/// Values whose channels stay, and why.
pub type Pinned = BTreeMap<String, String>;

/// Number of a set of channels.
pub type SetId = usize;

/// A run of a value's axis: the channels of a set, in order, each of `inner` neighbours.
#[derive(Clone, Debug, PartialEq)]
pub struct Segment {
    /// The set.
    pub set: SetId,
    /// Neighbours per channel: more than one after a Flatten.
    pub inner: usize,
}

/// How channels lie along one axis of a value.
#[derive(Clone, Debug, PartialEq)]
pub struct Layout {
    /// The axis.
    pub axis: usize,
    /// What lies along it.
    pub segments: Vec<Segment>,
}

/// A set, by itself.
#[derive(Clone, Debug)]
struct Set {
    channels: usize,
    /// The set it was joined with.
    parent: SetId,
    /// Why its channels must stay.
    frozen: Option<String>,
    /// Weight of each channel.
    scores: Vec<f64>,
}

/// A set whose channels stay or go in blocks of neighbours (attention heads), and the set of the blocks.
struct Blocks {
    blocks: SetId,
    of: SetId,
    size: usize,
}

/// All sets.
#[derive(Default)]
pub struct Sets {
    sets: Vec<Set>,
    blocks: Vec<Blocks>,
}

impl Sets {
    /// A set of its own, with the weights of its channels.
    pub fn add(&mut self, scores: Vec<f64>) -> SetId {
        let id = self.sets.len();
        self.sets.push(Set { channels: scores.len(), parent: id, frozen: None, scores });
        id
    }

    /// The set that stands for all it was joined with.
    pub fn root(&self, mut id: SetId) -> SetId {
        while self.sets[id].parent != id {
            id = self.sets[id].parent;
        }
        id
    }

    /// Channels of a set.
    pub fn channels(&self, id: SetId) -> usize {
        self.sets[id].channels
    }

    /// Forbids to remove channels.
    pub fn freeze(&mut self, id: SetId, why: &str) {
        let root = self.root(id);
        self.sets[root].frozen.get_or_insert_with(|| why.to_string());
    }

    /// Forbids to remove channels of a value.
    pub fn freeze_all(&mut self, layout: &Layout, why: &str) {
        layout.segments.iter().for_each(|s| self.freeze(s.set, why));
    }

    /// Makes two sets keep the same channels; whether they have as many.
    pub fn join(&mut self, a: SetId, b: SetId) -> bool {
        let (a, b) = (self.root(a), self.root(b));
        if self.sets[a].channels != self.sets[b].channels {
            return false;
        }
        if a != b {
            let other = std::mem::take(&mut self.sets[b].scores);
            self.sets[a].scores.iter_mut().zip(other).for_each(|(s, o)| *s += o);
            if let Some(why) = self.sets[b].frozen.take() {
                self.freeze(a, &why);
            }
            self.sets[b].parent = a;
        }
        true
    }

    /// Joins what lies along the axes of two values; freezes both where they do not fit.
    pub fn join_all(&mut self, a: &Layout, b: &Layout, why: &str) {
        let fits = a.segments.len() == b.segments.len()
            && a.segments
                .iter()
                .zip(&b.segments)
                .all(|(x, y)| x.inner == y.inner && self.channels(x.set) == self.channels(y.set));
        if fits {
            a.segments.iter().zip(&b.segments).for_each(|(x, y)| {
                self.join(x.set, y.set);
            });
        } else {
            self.freeze_all(a, why);
            self.freeze_all(b, why);
        }
    }

    /// The set of the blocks of so many neighbours that a set consists of.
    pub fn divide(&mut self, of: SetId, size: usize) -> SetId {
        let blocks = self.add(vec![0.0; self.channels(of) / size.max(1)]);
        self.blocks.push(Blocks { blocks, of, size });
        blocks
    }

    /// The set that consists of blocks of so many neighbours.
    pub fn whole(&self, blocks: SetId, size: usize) -> Option<SetId> {
        self.blocks.iter().find(|b| b.blocks == blocks && b.size == size).map(|b| b.of)
    }

    /// Brings what is known of blocks and of their channels together; called once all sets are known.
    pub fn settle(&mut self) {
        let links: Vec<[usize; 3]> = self.blocks.iter().map(|b| [b.blocks, b.of, b.size]).collect();
        for (i, &[blocks, of, size]) in links.iter().enumerate() {
            let others = links[..i].iter().filter(|other| self.root(other[1]) == self.root(of));
            for [other, _, other_size] in others.copied().collect::<Vec<_>>() {
                if other_size != size {
                    self.freeze(of, "it is divided into blocks of several sizes");
                }
                self.join(blocks, other);
            }
        }
        // Reasons spread over sets that blocks connect, at most through all of them.
        for _ in 0..links.len() {
            for &[blocks, of, _] in &links {
                for (from, to) in [(blocks, of), (of, blocks)] {
                    if let Some(why) = self.frozen(from).map(str::to_string) {
                        self.freeze(to, &why);
                    }
                }
            }
        }
        for &[blocks, of, size] in &links {
            let sums = |sets: &Self| -> Vec<f64> {
                sets.sets[sets.root(of)].scores.chunks(size.max(1)).map(|c| c.iter().sum()).collect()
            };
            let (sums, root) = (sums(self), self.root(blocks));
            self.sets[root].scores.iter_mut().zip(sums).for_each(|(score, sum)| *score += sum);
        }
    }

    /// The elements along an axis that layout describes.
    pub fn extent(&self, segments: &[Segment]) -> usize {
        segments.iter().map(|s| self.channels(s.set) * s.inner).sum()
    }

    /// Why a set keeps all its channels, if it does.
    pub fn frozen(&self, id: SetId) -> Option<&str> {
        self.sets[self.root(id)].frozen.as_deref()
    }

    /// Chooses the channels that stay: of each set that is not frozen, the heaviest; at least one.
    pub fn choose(&self, sparsity: f64) -> Kept {
        let heaviest = |set: &Set| -> Vec<bool> {
            if set.frozen.is_some() {
                return vec![true; set.channels];
            }
            let count =
                ((set.channels as f64 * (1.0 - sparsity)).round() as usize).clamp(1, set.channels.max(1));
            let mut order: Vec<usize> = (0..set.channels).collect();
            order.sort_by(|&a, &b| set.scores[b].total_cmp(&set.scores[a]).then(a.cmp(&b)));
            let mut kept = vec![false; set.channels];
            order.into_iter().take(count).for_each(|c| kept[c] = true);
            kept
        };
        let one = |id: SetId| -> Vec<bool> {
            let root = self.root(id);
            match self.blocks.iter().find(|b| self.root(b.of) == root) {
                None => heaviest(&self.sets[root]),
                Some(link) => {
                    let blocks = heaviest(&self.sets[self.root(link.blocks)]);
                    blocks.into_iter().flat_map(|kept| std::iter::repeat_n(kept, link.size)).collect()
                }
            }
        };
        Kept((0..self.sets.len()).map(one).collect())
    }
}

/// By set, which channels stay.
pub struct Kept(Vec<Vec<bool>>);

impl Kept {
    /// Whether all channels of some sets stay.
    pub fn is_whole(&self, segments: &[Segment]) -> bool {
        segments.iter().all(|s| self.0[s.set].iter().all(|&kept| kept))
    }

    /// The indices that stay along an axis.
    pub fn indices(&self, segments: &[Segment]) -> Vec<usize> {
        let (mut start, mut indices) = (0, Vec::new());
        for segment in segments {
            let kept = &self.0[segment.set];
            for (channel, _) in kept.iter().enumerate().filter(|(_, k)| **k) {
                let first = start + channel * segment.inner;
                indices.extend(first..first + segment.inner);
            }
            start += kept.len() * segment.inner;
        }
        indices
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn joined_sets_keep_the_same_channels() {
        let mut sets = Sets::default();
        let a = sets.add(vec![3.0, 1.0, 2.0, 0.0]);
        let b = sets.add(vec![0.0, 5.0, 0.0, 0.5]);
        let c = sets.add(vec![1.0, 2.0]);
        assert!(sets.join(a, b) && !sets.join(a, c));
        let kept = sets.choose(0.5);
        let one = |set, inner| vec![Segment { set, inner }];
        assert_eq!(kept.indices(&one(a, 1)), [0, 1]);
        assert_eq!(kept.indices(&one(b, 1)), [0, 1]);
        assert_eq!(kept.indices(&[Segment { set: c, inner: 2 }, Segment { set: a, inner: 1 }]), [2, 3, 4, 5]);
        sets.freeze(b, "an output");
        assert_eq!(sets.frozen(a), Some("an output"));
        assert_eq!(sets.choose(0.5).indices(&one(a, 1)), [0, 1, 2, 3]);
        // Blocks stay or go as a whole, the same of all sets that are joined by them.
        let (q, k) =
            (sets.add(vec![1.0, 1.0, 5.0, 0.0, 4.0, 4.0]), sets.add(vec![2.0, 2.0, 1.0, 1.0, 3.0, 3.0]));
        let (heads, others) = (sets.divide(q, 2), sets.divide(k, 2));
        assert!(sets.join(heads, others));
        sets.settle();
        let kept = sets.choose(0.4);
        assert_eq!(kept.indices(&one(heads, 1)), [1, 2]);
        assert_eq!(kept.indices(&one(q, 1)), [2, 3, 4, 5]);
        assert_eq!(kept.indices(&one(k, 1)), kept.indices(&one(heads, 2)));
        // However much is asked for, one channel stays.
        assert_eq!(sets.choose(1.0).indices(&one(c, 1)), [1]);
    }
}
